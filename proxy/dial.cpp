// SPDX-License-Identifier: GPL-3.0-or-later
// The order of protocols.md 1.6. Every path ends in exactly one of succeed(), fail() and cancel().
#include "proxy/dial.hpp"

#include <fmt/core.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "protocols/proxy_header.hpp"
#include "protocols/refusal.hpp"
#include "protocols/registry.hpp"
#include "proxy/log.hpp"
#include "proxy/tls_counting.hpp"
#include "proxy/worker.hpp"

namespace postern::proxy {
namespace {

constexpr uint64_t retry_pause_ms = 200;
constexpr uint64_t least_attempt_ms = 250;
/// A backend that does not get along with resumption costs a second handshake this often, not at every login.
constexpr uint64_t resume_pause_ms = 10 * 60 * 1000;

bool is_local(const conf::Ip& ip) {
  if (ip.is_loopback() || ip.is_any()) return true;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return false;
  bool found = false;
  for (const ifaddrs* at = list; at && !found; at = at->ifa_next)
    if (at->ifa_addr && (at->ifa_addr->sa_family == AF_INET || at->ifa_addr->sa_family == AF_INET6))
      found = conf::SocketAddress::from(at->ifa_addr).ip == ip;
  ::freeifaddrs(list);
  return found;
}

}  // namespace

/// One TCP connect. Lives until libuv has called back, also when the Dial is gone by then.
struct Dial::Connecting {
  uv_connect_t request{};
  uv_tcp_t* tcp = nullptr;
  Dial* dial = nullptr;
};

Dial::Dial(Worker& worker, std::shared_ptr<const Snapshot> snapshot,
           std::shared_ptr<const Destination> destination, conf::Protocol protocol, const Caller& caller,
           DialEvents& owner)
    : worker_(worker),
      snapshot_(std::move(snapshot)),
      destination_(std::move(destination)),
      protocol_(protocol),
      caller_(caller),
      owner_(owner),
      timer_(
          *worker.timers, [](void* self) { static_cast<Dial*>(self)->tick(); }, this),
      began_(uv_hrtime()),
      window_end_(worker.now() + static_cast<uint64_t>(snapshot_->config.server.backend_timeout.count())),
      retries_left_(snapshot_->config.server.backend_connect_retries),
      trial_(std::make_unique<Trial>(worker, snapshot_, destination_, protocol, caller)) {}

void Dial::conduct(const protocols::ReplayRules& rules, const protocols::Login& login) {
  rules_ = &rules;
  login_ = &login;
}

void Dial::start() {
  const auto& leg = destination_->conf.leg(protocol_);
  if (!leg) return fail(Fault::no_leg, "destination has no leg for this protocol");
  leg_ = &*leg;
  if (leg_->forwarding == conf::Forwarding::xclient && caller_.ttl <= 1)
    return fail(Fault::loop, "forwarding TTL is used up");
  if (!trial_->admit()) return fail(Fault::breaker_open, "destination is marked down");
  round();
}

void Dial::cancel() {
  if (over_) return;
  over_ = true;
  if (trial_) trial_->abandon();
  Waiter::cancel();
  timer_.stop();
  drop_attempt();
}

// --- addresses --------------------------------------------------------------------------------------

void Dial::round() {
  next_ = 0;
  if (destination_->literal) {
    addresses_ = {*destination_->literal};
    return next_address();
  }
  timer_.at(window_end_);
  if (const char* error = worker_.resolver->resolve(destination_->conf.host, *this))
    attempt_failed(Fault::resolve, fmt::format("cannot resolve {}: {}", destination_->conf.host, error));
}

void Dial::resolved(const std::vector<conf::Ip>& addresses, const char* error) {
  addresses_ = addresses;
  if (addresses_.empty())
    return attempt_failed(Fault::resolve,
                          fmt::format("cannot resolve {}: {}", destination_->conf.host, error));
  next_address();
}

bool Dial::is_self(const conf::SocketAddress& address) const {
  return std::ranges::any_of(*snapshot_->own, [&](const conf::SocketAddress& own) {
    return own.port == address.port && (own.ip == address.ip || (own.ip.is_any() && is_local(address.ip)));
  });
}

void Dial::next_address() {
  const uint64_t now = worker_.now();
  if (now >= window_end_) return fail(Fault::backend_timeout, "no connection within backend_timeout");
  target_ = {addresses_[next_], leg_->port};
  if (is_self(target_)) return fail(Fault::loop, fmt::format("{} is this process", target_.text()));

  // A silent address must not eat the window of those behind it.
  const uint64_t share = (window_end_ - now) / (addresses_.size() - next_);
  attempt_end_ = std::min(window_end_, now + std::max(share, least_attempt_ms));
  timer_.at(attempt_end_);

  Fault fault = Fault::source_address;
  std::string detail;
  const int fd = open_socket(fault, detail);
  if (fd < 0) return attempt_failed(fault, std::move(detail));
  connect(fd);
}

/// A socket of the target's family, bound to the next fitting source address if any are configured.
int Dial::open_socket(Fault& fault, std::string& detail) {
  const bool v4 = target_.ip.is_v4();
  conf::SocketAddress source;
  const auto& sources = destination_->conf.source_ips;
  if (!sources.empty()) {
    std::vector<conf::Ip> fitting;
    std::ranges::copy_if(sources, std::back_inserter(fitting),
                         [&](const conf::Ip& ip) { return ip.is_v4() == v4; });
    if (fitting.empty()) {
      detail = fmt::format("no source address fits {}", target_.ip.text());
      return -1;
    }
    source.ip = fitting[destination_->next_source.fetch_add(1, std::memory_order_relaxed) % fitting.size()];
  }
  const int fd = ::socket(v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    fault = Fault::memory;  // ours, not the backend's
    detail = fmt::format("socket: {}", uv_strerror(-errno));
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
      detail = fmt::format("bind {}: {}", source.ip.text(), uv_strerror(-errno));
      ::close(fd);
      return -1;
    }
  }
  return fd;
}

// --- one attempt ------------------------------------------------------------------------------------

void Dial::connect(int fd) {
  auto* tcp = new uv_tcp_t;
  uv_tcp_init(worker_.loop(), tcp);
  tcp->data = nullptr;
  const auto discard = [](uv_handle_t* h) { delete reinterpret_cast<uv_tcp_t*>(h); };
  if (const int status = uv_tcp_open(tcp, fd); status != 0) {
    ::close(fd);
    uv_close(reinterpret_cast<uv_handle_t*>(tcp), discard);
    return attempt_failed(Fault::connect, uv_strerror(status));
  }
  auto* attempt = new Connecting;
  attempt->tcp = tcp;
  attempt->dial = this;
  attempt->request.data = attempt;
  sockaddr_storage address{};
  target_.to(address);
  const auto done = [](uv_connect_t* request, int status) {
    const std::unique_ptr<Connecting> self(static_cast<Connecting*>(request->data));
    if (!self->dial) return;  // given up; the handle is closing
    self->dial->connecting_ = nullptr;
    if (status == 0) return self->dial->connected(self->tcp);
    uv_close(reinterpret_cast<uv_handle_t*>(self->tcp),
             [](uv_handle_t* h) { delete reinterpret_cast<uv_tcp_t*>(h); });
    self->dial->attempt_failed(
        Fault::connect, fmt::format("connect {}: {}", self->dial->target_.text(), uv_strerror(status)));
  };
  const int status =
      uv_tcp_connect(&attempt->request, tcp, reinterpret_cast<const sockaddr*>(&address), done);
  if (status != 0) {
    delete attempt;
    uv_close(reinterpret_cast<uv_handle_t*>(tcp), discard);
    return attempt_failed(Fault::connect, fmt::format("connect {}: {}", target_.text(), uv_strerror(status)));
  }
  connecting_ = attempt;
}

/// Forgets what an attempt got to; the next begins from nothing.
void Dial::drop_attempt() {
  if (connecting_) {
    connecting_->dial = nullptr;
    uv_close(reinterpret_cast<uv_handle_t*>(connecting_->tcp),
             [](uv_handle_t* h) { delete reinterpret_cast<uv_tcp_t*>(h); });
    connecting_ = nullptr;
  }
  if (stream_) {
    stream_->close();
    spent_ = std::move(stream_);  // it may be what is calling
  }
  replay_.reset();
  input_.clear();
}

std::string Dial::proxy_header() const {
  if (leg_->forwarding != conf::Forwarding::proxy) return {};
  protocols::ProxyOut out;
  out.source = caller_.peer;
  out.destination = caller_.local;
  out.map_v4 = destination_->conf.proxy_map_v4;
  out.tlvs = destination_->conf.proxy_tlvs;
  out.alpn = caller_.alpn;
  out.authority = caller_.server_name;
  out.unique_id = caller_.session;
  out.tls = caller_.tls;
  out.tls_version = caller_.facts.version;
  out.tls_cipher = caller_.facts.suite;
  return protocols::write_proxy_header(out);
}

void Dial::connected(uv_tcp_t* tcp) {
  StreamEvents& events = *this;
  stream_ = std::make_unique<Stream>(worker_, events);
  stream_->adopt(tcp);
  const std::string header = proxy_header();
  if (leg_->tls == conf::TlsMode::implicit) return start_tls(header);
  const std::span bytes(reinterpret_cast<const uint8_t*>(header.data()), header.size());
  if (!header.empty() && !stream_->write_clear(bytes))
    return attempt_failed(Fault::proxy_write, "the PROXY header could not be sent");
  established();
}

void Dial::start_tls(std::string_view prefix) {
  auto engine = tls::Engine::client(destination_->tls, destination_->conf.tls_server_name,
                                    in_full_ ? nullptr : resume().kept.get());
  if (!engine) return attempt_failed(Fault::memory, "no memory for TLS");
  // Half the time, so that there is as much for a handshake without, should this one come to nothing.
  if (engine->offers_resumption())
    timer_.at(worker_.now() + (attempt_end_ - std::min(attempt_end_, worker_.now())) / 2);
  stream_->read(true);
  stream_->start_tls(std::move(engine), {}, prefix);
}

Resume& Dial::resume() const { return destination_->resume[worker_.index][static_cast<size_t>(protocol_)]; }

/// A handshake that would have resumed failed. What it would have resumed with may be the reason, so that is
/// forgotten, and the same address is tried once more without it. Nothing is said about the host.
bool Dial::again_in_full() {
  if (!shaking() || !stream_->tls()->offers_resumption() || worker_.now() >= window_end_) return false;
  log::debug("backend did not resume, shaking hands in full", {{"session", caller_.session},
                                                               {"destination", destination_->conf.name},
                                                               {"error", stream_->tls()->error()}});
  resume().kept.reset();
  resume().not_before = worker_.now() + resume_pause_ms;
  in_full_ = true;
  drop_attempt();
  next_address();  // the same one
  return true;
}

void Dial::stream_secured(Stream& stream) {
  timer_.at(attempt_end_);
  count_handshake(worker_.cells.backend, stream.tls()->facts());
  if (!replay_) return established();
  std::string out;
  const protocols::ReplayStep step = replay_->tls_started(out);
  converse(step, out);
}

// --- the conversation -------------------------------------------------------------------------------

/// The leg stands as the configuration wants it from the first byte on: connected, and encrypted if implicit.
void Dial::established() {
  connected_at_ = uv_hrtime();
  if (!rules_) return succeed();
  replay_ = protocols::row(protocol_).replay(*rules_, *login_);
  stream_->read(true);  // the backend speaks first
}

void Dial::stream_data(Stream&, std::span<const uint8_t> plain) {
  if (!replay_) return;
  input_.append(plain);
  std::string out;
  const protocols::ReplayStep step = replay_->advance(input_, out);
  if (!out.empty() && protocols::is_premature(protocol_, input_.view()))
    return attempt_failed(Fault::backend_protocol,
                          fmt::format("{} answers before it is asked", target_.text()));
  converse(step, out);
}

void Dial::converse(protocols::ReplayStep step, const std::string& out) {
  const std::span bytes(reinterpret_cast<const uint8_t*>(out.data()), out.size());
  if (!out.empty() && !stream_->write(bytes))
    return attempt_failed(Fault::backend_closed, fmt::format("{} does not listen", target_.text()));
  switch (step.want) {
    case protocols::ReplayWant::input:
      return;
    case protocols::ReplayWant::start_tls:
      return start_tls({});
    case protocols::ReplayWant::ready:
      return succeed();
    default:
      return attempt_failed(fault_of(step.fault),
                            fmt::format("{}: {}", target_.text(), reason_of(step.fault)));
  }
}

void Dial::stream_ended(Stream& stream, StreamEnd end) {
  if (end != StreamEnd::tls) {
    if (again_in_full()) return;
    return shaking()
               ? attempt_failed(
                     Fault::backend_handshake,
                     fmt::format("{} closed the connection during the TLS handshake", target_.text()))
               : attempt_failed(Fault::backend_closed,
                                fmt::format("{} closed the connection before the login", target_.text()));
  }
  const tls::Failure failure = stream.tls()->failure();
  count_failure(worker_.cells.backend, failure);
  const bool refused = failure == tls::Failure::certificate;
  if (!refused && again_in_full()) return;
  const Fault fault = refused            ? Fault::backend_certificate
                      : stream.flooded() ? Fault::backend_key_updates
                                         : Fault::backend_handshake;
  attempt_failed(fault, fmt::format("TLS with {}: {}", target_.text(), stream.tls()->error()));
}

void Dial::tick() {
  if (pausing_) {
    pausing_ = false;
    return round();
  }
  Waiter::cancel();
  if (again_in_full()) return;
  if (worker_.now() >= window_end_) {
    drop_attempt();
    return fail(Fault::backend_timeout, last_detail_.empty()
                                            ? std::string("not ready within backend_timeout")
                                            : "backend_timeout; before that " + last_detail_);
  }
  const bool open = stream_ && stream_->is_open();
  const char* missing = shaking() ? "complete TLS" : open ? "get to the login" : "answer";
  attempt_failed(shaking() ? Fault::backend_handshake
                 : open    ? Fault::backend_silent
                           : Fault::connect,
                 fmt::format("{} did not {} in time", target_.text(), missing));
}

void Dial::attempt_failed(Fault fault, std::string detail) {
  if (stream_ && stream_->tls() && stream_->tls()->offers_resumption()) resume().kept.reset();
  drop_attempt();
  last_fault_ = fault;
  last_detail_ = std::move(detail);
  const bool retryable = row(fault).retryable;
  if (retryable && fault != Fault::resolve && ++next_ < addresses_.size()) return next_address();
  if (!retryable || retries_left_ == 0) return fail(last_fault_, last_detail_);
  --retries_left_;
  const uint64_t again = worker_.now() + retry_pause_ms;
  if (again >= window_end_) return fail(last_fault_, last_detail_);
  log::debug("backend attempt failed, trying again", {{"session", caller_.session},
                                                      {"destination", destination_->conf.name},
                                                      {"fault", label(fault)},
                                                      {"error", last_detail_}});
  pausing_ = true;
  timer_.at(again);
}

// --- the end ----------------------------------------------------------------------------------------

void Dial::fail(Fault fault, const std::string& detail) {
  over_ = true;
  timer_.stop();
  trial_->failure(fault, detail);
  owner_.dial_failed(fault, detail);
}

void Dial::succeed() {
  over_ = true;
  timer_.stop();
  if (!rules_) trial_->success();  // else the answer to the login tells
  const uint64_t took = (connected_at_ - began_) / 1000;
  destination_->counters->workers[worker_.index].connect.observe(connect_bounds, took);
  if (rules_) {
    worker_.cells.leg_stages[static_cast<size_t>(LegStage::connect)].observe(connect_bounds, took);
    worker_.cells.leg_stages[static_cast<size_t>(LegStage::conversation)].observe(
        connect_bounds, (uv_hrtime() - connected_at_) / 1000);
  }
  if (log::enabled(LogLevel::debug))
    log::debug("backend connected", {{"session", caller_.session},
                                     {"listener", caller_.listener},
                                     {"protocol", conf::name(protocol_)},
                                     {"destination", destination_->conf.name},
                                     {"backend", target_.text()},
                                     {"secs", static_cast<double>(took) / 1e6}});
  stream_->read(false);
  owner_.dialed(std::move(stream_));
}

}  // namespace postern::proxy
