// SPDX-License-Identifier: GPL-3.0-or-later
// The part of a dial that comes before a connection: what the destination's name means now, and the addresses
// one after another.
#include <fmt/core.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "proxy/backend/dial.hpp"
#include "proxy/backend/own_address.hpp"
#include "proxy/base/log.hpp"
#include "proxy/loop/loop.hpp"

namespace postern::proxy {
namespace {

constexpr uint64_t least_attempt_ms = 250;

}  // namespace

uint64_t Dial::window() const { return policy_->timeout_ms; }

void Dial::round() {
  next_ = 0;
  if (!destination_->literal) return look_up();
  addresses_ = std::make_shared<const std::vector<conf::Ip>>(1, *destination_->literal);
  next_address();
}

/// Asks for the addresses, and again whenever something was learned or patience is at its end, until there
/// are some or the window is over.
void Dial::look_up() {
  const uint64_t now = loop_.now();
  looked_up_ms_ += looking_since_ ? now - looking_since_ : 0;
  looking_since_ = 0;
  const std::string& host = destination_->conf.host;
  if (now >= window_end_) return name_unanswered("no answer within backend_timeout");
  const auto stale = policy_->stale_addresses_ms;
  NameService::Reply reply = loop_.resolver->ask(host, stale, retrying_, *this);
  switch (reply.what) {
    case NameRecord::What::wait:
      looking_since_ = now;
      return timer_.at(reply.patience ? std::min(window_end_, now + reply.patience + 1) : window_end_);
    case NameRecord::What::give_up:
      if (reply.why == NameResult::silent) return name_unanswered(reply.error);
      return attempt_failed(Fault::resolve, fmt::format("cannot resolve {}: {}", host, reply.error));
    case NameRecord::What::use_last:
      if (reply.tell)
        log::warn("no answer about a name, its last good addresses are used",
                  {{"destination", destination_->conf.name},
                   {"host", host},
                   {"error", reply.error},
                   {"secs", static_cast<double>(reply.age) / 1000.0}});
      break;
    case NameRecord::What::use:
      if (reply.tell)
        log::info("a name is answered again", {{"destination", destination_->conf.name}, {"host", host}});
      break;
  }
  addresses_ = std::move(reply.addresses);
  next_address();
}

void Dial::name_unanswered(const std::string& detail) {
  Waiter::cancel();
  attempt_failed(Fault::name_server, fmt::format("cannot resolve {}: {}", destination_->conf.host, detail));
}

/// The time is over. If most of it went into waiting for the name, that says nothing about the host.
void Dial::out_of_time(const std::string& detail) {
  fail(name_was_slow() ? Fault::name_server : Fault::backend_timeout, detail);
}

/// From next_ on, until an attempt is under way or there is no address left. A loop, not a recursion: as many
/// as a name server likes may fail at once.
void Dial::next_address() {
  for (; next_ < addresses_->size(); ++next_) {
    const uint64_t now = loop_.now();
    if (now >= window_end_) return out_of_time("no connection within backend_timeout");
    target_ = {reached((*addresses_)[next_]), leg_->port};
    if (is_own(*policy_->own, target_))
      return fail(Fault::loop, fmt::format("{} is this process", target_.text()));
    // A silent address must not eat the window of those behind it.
    const uint64_t share = (window_end_ - now) / (addresses_->size() - next_);
    attempt_end_ = std::min(window_end_, now + std::max(share, least_attempt_ms));
    timer_.at(attempt_end_);
    const int fd = open_socket();
    if (fd >= 0 && connect(fd)) return;
    if (!row(last_fault_).retryable) break;
  }
  again_or_fail();
}

/// A socket of the target's family, bound to the next fitting source address if any are configured; -1: the
/// failure is noted.
int Dial::open_socket() {
  const bool v4 = target_.ip.is_v4();
  conf::SocketAddress source;
  const auto& sources = destination_->conf.source_ips;
  if (!sources.empty()) {
    std::vector<conf::Ip> fitting;
    std::ranges::copy_if(sources, std::back_inserter(fitting),
                         [&](const conf::Ip& ip) { return ip.is_v4() == v4; });
    if (fitting.empty()) {
      note_failure(Fault::source_address, fmt::format("no source address fits {}", target_.ip.text()));
      return -1;
    }
    source.ip = fitting[destination_->next_source.fetch_add(1, std::memory_order_relaxed) % fitting.size()];
  }
  const int fd = ::socket(v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    note_failure(Fault::memory, fmt::format("socket: {}", uv_strerror(-errno)));  // ours, not the backend's
    return -1;
  }
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (!sources.empty()) {
    // The port is chosen at connect, per destination, so that many sources times many backends do not run
    // out.
    ::setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    sockaddr_storage address{};
    const socklen_t size = source.to(address);
    if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), size) != 0) {
      const int error = errno;
      ::close(fd);
      note_failure(Fault::source_address, fmt::format("bind {}: {}", source.ip.text(), uv_strerror(-error)));
      return -1;
    }
  }
  return fd;
}

}  // namespace postern::proxy
