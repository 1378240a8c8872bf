// SPDX-License-Identifier: GPL-3.0-or-later
// accept4 in small batches; nothing here can spin.
#include "proxy/server/acceptor.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "proxy/session/roster.hpp"
#include "proxy/session/session.hpp"

namespace postern::proxy {
namespace {

constexpr int batch = 32;  // connections a turn, so that a storm of them does not starve the live ones
constexpr uint64_t first_pause_ms = 100;
constexpr uint64_t longest_pause_ms = 1000;

}  // namespace

Acceptor::Acceptor(Roster& roster, int fd, std::shared_ptr<Listener> listener)
    : roster_(roster),
      fd_(fd),
      listener_(std::move(listener)),
      poll_(new uv_poll_t),
      resume_(
          *roster.loop.timers, [](void* self) { static_cast<Acceptor*>(self)->watch(); }, this) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0) {
    const auto local = conf::SocketAddress::from(reinterpret_cast<const sockaddr*>(&address));
    if (!local.ip.is_any()) bound_ = local;
  }
  uv_poll_init(roster.loop.uv(), poll_, fd);
  poll_->data = this;
  watch();
}

Acceptor::~Acceptor() {
  poll_->data = nullptr;
  uv_close(reinterpret_cast<uv_handle_t*>(poll_),
           [](uv_handle_t* h) { delete reinterpret_cast<uv_poll_t*>(h); });
  ::close(fd_);
}

void Acceptor::watch() {
  uv_poll_start(poll_, UV_READABLE, [](uv_poll_t* handle, int, int) {
    if (auto* self = static_cast<Acceptor*>(handle->data)) self->ready();
  });
}

void Acceptor::ready() {
  for (int i = 0; i < batch && take_one(); ++i) {
  }
}

/// False: nothing is waiting, or accepting pauses.
bool Acceptor::take_one() {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  const int fd = ::accept4(fd_, reinterpret_cast<sockaddr*>(&address), &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) {
    switch (errno) {
      case EMFILE:
      case ENFILE:
      case ENOBUFS:
      case ENOMEM:
        pause(errno);
        return false;
      case EAGAIN:
        return false;
      default:
        return true;  // the connection died while it waited; the next may be fine
    }
  }
  pause_ms_ = 0;

  std::shared_ptr<const ListenerPolicy> policy = roster_.snapshot()->policy(*listener_);
  const auto peer = conf::SocketAddress::from(reinterpret_cast<const sockaddr*>(&address));
  std::optional<Admission> admission = policy ? admit(*policy, peer) : std::nullopt;
  if (!admission) {
    ::close(fd);
    return true;
  }
  conf::SocketAddress local;
  if (bound_) {
    local = *bound_;
  } else {
    size = sizeof address;
    if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0)
      local = conf::SocketAddress::from(reinterpret_cast<const sockaddr*>(&address));
  }
  auto session = Session::make(roster_, std::move(policy), peer, local, std::move(*admission));
  Session& started = *session;
  roster_.add(std::move(session));
  started.start(fd);
  return true;
}

/// A place on the listener, or nothing: counted, and said at most once a second.
std::optional<Admission> Acceptor::admit(const ListenerPolicy& policy, const conf::SocketAddress& peer) {
  const conf::ListenerConf& conf = policy.conf;
  Occupancy& places = *policy.listener->occupancy;
  std::optional<conf::Ip> client;
  if (!expects_header(conf, peer.ip)) client = peer.ip;
  const uint64_t now = roster_.loop.now();
  Occupancy::Answer answer =
      places.admit(client, {conf.max_connections, conf.max_connections_per_client}, now);
  const auto warn = [&](SharedThrottle& throttle, std::string_view what) {
    uint64_t suppressed = 0;
    if (throttle.allow(now, suppressed))
      log::warn(what, {{"listener", conf.name}, {"peer", peer.text()}, {"suppressed", suppressed}});
  };
  if (answer.made_room)
    warn(places.made_room, "max_connections reached; the oldest connection without a login makes room");
  if (answer.admission) return std::move(answer.admission);
  policy.listener->counters->workers[roster_.loop.index].rejected[static_cast<size_t>(answer.refused)].add();
  if (answer.refused == Rejected::client_limit)
    warn(places.client_full, "max_connections_per_client reached; dropping connection");
  else
    warn(places.full, "max_connections reached; dropping connection");
  return std::nullopt;
}

void Acceptor::pause(int error) {
  pause_ms_ = pause_ms_ == 0 ? first_pause_ms : std::min(pause_ms_ * 2, longest_pause_ms);
  uv_poll_stop(poll_);
  resume_.in(pause_ms_);
  roster_.loop.cells.accept_pauses.add();
  uint64_t suppressed = 0;
  if (starved_.allow(roster_.loop.now(), suppressed))
    log::error("accepting pauses", {{"listener", listener_->name},
                                    {"error", uv_strerror(-error)},
                                    {"pause_ms", pause_ms_},
                                    {"suppressed", suppressed}});
}

}  // namespace postern::proxy
