// SPDX-License-Identifier: GPL-3.0-or-later
// What a Dial is for backends, without what only backends need: no PROXY header, no health, no resumption.
#include "proxy/stores/reach.hpp"

#include <fmt/core.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "proxy/loop/loop.hpp"

namespace postern::proxy {
namespace {

constexpr uint64_t least_attempt_ms = 250;

}  // namespace

// --- names ------------------------------------------------------------------------------------------

HostLookup::HostLookup(Loop& loop, std::string host, uint64_t stale_ms, Found found)
    : loop_(loop),
      host_(std::move(host)),
      stale_ms_(stale_ms),
      found_(std::move(found)),
      timer_(
          *loop.timers, [](void* self) { static_cast<HostLookup*>(self)->ask(); }, this) {}

void HostLookup::start(uint64_t deadline_ms) {
  deadline_ = deadline_ms;
  if (const auto literal = conf::Ip::parse(host_))
    return tell(std::make_shared<const std::vector<conf::Ip>>(1, *literal), {});
  ask();
}

void HostLookup::ask() {
  const uint64_t now = loop_.now();
  if (now >= deadline_) return tell(nullptr, "the name server does not answer");
  const NameService::Reply reply = loop_.resolver->ask(host_, stale_ms_, retry_, *this);
  switch (reply.what) {
    case NameRecord::What::wait:
      return timer_.at(reply.patience ? std::min(deadline_, now + reply.patience + 1) : deadline_);
    case NameRecord::What::give_up:
      return tell(nullptr, reply.error);
    case NameRecord::What::use:
    case NameRecord::What::use_last:
      return tell(reply.addresses, {});
  }
}

void HostLookup::cancel() {
  found_ = nullptr;
  timer_.stop();
  Waiter::cancel();
}

void HostLookup::tell(Addresses addresses, const std::string& error) {
  const Found found = std::exchange(found_, nullptr);
  cancel();
  if (!found) return;
  const std::string said = error.empty() ? error : fmt::format("cannot resolve {}: {}", host_, error);
  found(std::move(addresses), said);
}

// --- connections ------------------------------------------------------------------------------------

/// One TCP connect. Lives until libuv has called back, also when the Reach is gone by then.
struct Reach::Connecting {
  uv_connect_t request{};
  uv_tcp_t* tcp = nullptr;
  Reach* reach = nullptr;

  static void discard(uv_tcp_t* tcp) {
    uv_close(reinterpret_cast<uv_handle_t*>(tcp),
             [](uv_handle_t* h) { delete reinterpret_cast<uv_tcp_t*>(h); });
  }
};

Reach::Reach(Loop& loop, Where where, Events& owner)
    : loop_(loop),
      where_(std::move(where)),
      owner_(owner),
      timer_(
          *loop.timers, [](void* self) { static_cast<Reach*>(self)->late(); }, this) {}

Reach::~Reach() { cancel(); }

void Reach::cancel() {
  over_ = true;
  timer_.stop();
  if (lookup_) lookup_->cancel();
  drop_attempt();
}

void Reach::start(uint64_t deadline_ms) {
  deadline_ = deadline_ms;
  timer_.at(deadline_);
  if (!where_.path.empty()) return connect_path();
  lookup_ = std::make_unique<HostLookup>(loop_, where_.host, where_.stale_ms,
                                         [this](Addresses addresses, const std::string& error) {
                                           if (!error.empty()) return fail(error);
                                           addresses_ = std::move(addresses);
                                           next_address();
                                         });
  lookup_->start(deadline_ms);
}

void Reach::connect_path() {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail(fmt::format("socket: {}", std::strerror(errno)));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  where_.path.copy(address.sun_path, sizeof address.sun_path - 1);
  // Done at once or not at all: such a socket knows no connection under way.
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int error = errno;
    ::close(fd);
    return fail(fmt::format("connect to the Unix socket: {}", std::strerror(error)));
  }
  StreamEvents& events = *this;
  auto stream = std::make_unique<Stream>(loop_, events);
  if (const int status = stream->open(fd); status != 0) return fail(uv_strerror(status));
  begin(std::move(stream));
}

void Reach::next_address() {
  for (; next_ < addresses_->size(); ++next_) {
    const uint64_t now = loop_.now();
    if (now >= deadline_) break;
    const conf::Ip& ip = (*addresses_)[next_];
    target_ = {ip, where_.port};
    if (where_.allowed && !where_.allowed(ip)) {
      last_ = fmt::format("sent on to {}, where credentials must not go without TLS", target_.text());
      continue;
    }
    timer_.at(std::min(deadline_,
                       now + std::max((deadline_ - now) / (addresses_->size() - next_), least_attempt_ms)));
    if (connect(target_)) return;
  }
  fail(last_.empty() ? "no connection in time" : last_);
}

/// False: it has failed already, and last_ says why.
bool Reach::connect(const conf::SocketAddress& address) {
  auto* tcp = new uv_tcp_t;
  uv_tcp_init(loop_.uv(), tcp);
  tcp->data = nullptr;
  uv_tcp_nodelay(tcp, 1);
  auto* begun = new Connecting;
  begun->tcp = tcp;
  begun->reach = this;
  begun->request.data = begun;
  sockaddr_storage to{};
  address.to(to);
  const auto done = [](uv_connect_t* request, int status) {
    const std::unique_ptr<Connecting> self(static_cast<Connecting*>(request->data));
    if (!self->reach) return;  // given up; the handle is closing
    self->reach->connecting_ = nullptr;
    if (status == 0) return self->reach->connected(self->tcp);
    Connecting::discard(self->tcp);
    self->reach->attempt_failed(
        fmt::format("connect {}: {}", self->reach->target_.text(), uv_strerror(status)));
  };
  const int status = uv_tcp_connect(&begun->request, tcp, reinterpret_cast<const sockaddr*>(&to), done);
  if (status == 0) {
    connecting_ = begun;
    return true;
  }
  delete begun;
  Connecting::discard(tcp);
  last_ = fmt::format("connect {}: {}", address.text(), uv_strerror(status));
  return false;
}

void Reach::connected(uv_tcp_t* tcp) {
  StreamEvents& events = *this;
  auto stream = std::make_unique<Stream>(loop_, events);
  stream->adopt(tcp);
  stream->probe();  // a machine that vanished is noticed while nothing is asked
  begin(std::move(stream));
}

void Reach::begin(std::unique_ptr<Stream> stream) {
  stream_ = std::move(stream);
  if (!where_.tls) {
    over_ = true;
    timer_.stop();
    return owner_.reached(std::move(stream_), target_.ip);
  }
  auto engine = tls::Engine::client(where_.tls, where_.server_name, nullptr);
  if (!engine) return fail("no memory for TLS");
  stream_->read(true);
  stream_->start_tls(std::move(engine));
}

void Reach::stream_secured(Stream&) {
  over_ = true;
  timer_.stop();
  owner_.reached(std::move(stream_), target_.ip);
}

void Reach::stream_ended(Stream& stream, StreamEnd end) {
  attempt_failed(end == StreamEnd::tls
                     ? fmt::format("TLS with {}: {}", target_.text(), stream.tls()->error())
                     : fmt::format("{} closed the connection during the TLS handshake", target_.text()));
}

void Reach::drop_attempt() {
  if (connecting_) {
    connecting_->reach = nullptr;
    Connecting::discard(connecting_->tcp);
    connecting_ = nullptr;
  }
  if (stream_) {
    stream_->close();
    loop_.bury(std::move(stream_));
  }
}

void Reach::attempt_failed(std::string why) {
  last_ = std::move(why);
  drop_attempt();
  if (!addresses_) return fail(last_);
  ++next_;
  next_address();
}

void Reach::late() {
  if (loop_.now() >= deadline_ || !addresses_)
    return fail(stream_ ? fmt::format("{} does not answer the TLS handshake", target_.text())
                        : (last_.empty() ? "no connection in time" : last_));
  attempt_failed(fmt::format("connect {}: no answer", target_.text()));
}

void Reach::fail(const std::string& why) {
  if (over_) return;
  over_ = true;
  timer_.stop();
  drop_attempt();
  owner_.not_reached(std::string(why));
}

}  // namespace postern::proxy
