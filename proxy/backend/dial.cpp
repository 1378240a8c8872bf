// SPDX-License-Identifier: GPL-3.0-or-later
// The order of protocols.md 1.6; how it comes by addresses is in dial_addresses.cpp. Every path ends in
// exactly one of succeed(), fail() and cancel().
#include "proxy/backend/dial.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <new>
#include <utility>

#include "protocols/proxy_header.hpp"
#include "proxy/backend/probe.hpp"
#include "proxy/base/log.hpp"
#include "proxy/loop/loop.hpp"
#include "proxy/loop/loop_memory.hpp"
#include "proxy/observe/tls_counting.hpp"

namespace postern::proxy {
namespace {

constexpr uint64_t retry_pause_ms = 200;
constexpr uint64_t name_pause_ms = NameTimes{}.again;  // sooner, nothing new is known of a name
/// A backend that does not get along with resumption costs a second handshake this often, not at every login.
constexpr uint64_t resume_pause_ms = 10 * 60 * 1000;

/// As its registry spells it, and so other senders of such headers: "secp256r1", but "X25519MLKEM768".
std::string group_in_header(std::string_view group) {
  std::string name(group);
  if (name.find("MLKEM") == std::string::npos)
    std::ranges::transform(name, name.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return name;
}

void discard(uv_tcp_t* tcp) {
  uv_close(reinterpret_cast<uv_handle_t*>(tcp),
           [](uv_handle_t* handle) { delete reinterpret_cast<uv_tcp_t*>(handle); });
}

}  // namespace

/// One TCP connect. Lives until libuv has called back, also when the Dial is gone by then.
struct Dial::Connecting {
  uv_connect_t request{};
  uv_tcp_t* tcp = nullptr;
  Dial* dial = nullptr;
};

Dial::Dial(Probes& probes, std::shared_ptr<const BackendPolicy> policy,
           std::shared_ptr<const Destination> destination, conf::Protocol protocol, const Caller& caller,
           DialEvents& owner)
    : probes_(probes),
      loop_(probes.loop),
      policy_(std::move(policy)),
      destination_(std::move(destination)),
      protocol_(protocol),
      caller_(caller),
      owner_(owner),
      timer_(
          *probes.loop.timers,
          [](void* data) noexcept {
            auto* const self = static_cast<Dial*>(data);
            self->safely([self] { self->tick(); });
          },
          this),
      began_(uv_hrtime()),
      window_end_(loop_.now() + policy_->timeout_ms),
      retries_left_(policy_->connect_retries),
      attempt_(std::make_unique<Attempt>(probes, policy_, destination_, protocol, caller)) {}

void Dial::start() {
  const auto& leg = destination_->conf.leg(protocol_);
  if (!leg) return fail(Fault::no_leg, "destination has no leg for this protocol");
  leg_ = &*leg;
  if (leg_->forwarding == conf::Forwarding::xclient && caller_.ttl <= 1)
    return fail(Fault::loop, "forwarding TTL is used up");
  switch (attempt_ ? attempt_->admit() : Health::Admission::pass) {
    case Health::Admission::pass:
      return round();
    case Health::Admission::refuse:
      return fail(Fault::breaker_open, "destination is marked down");
    case Health::Admission::trial:
      break;
  }
  timer_.at(window_end_);
  probes_.begin(policy_, destination_, protocol_, this);
}

/// The trial that this login has waited for.
void Dial::probe_over(bool up) noexcept {
  safely([&] {
    if (!up) return fail(Fault::breaker_open, "destination is marked down, and still does not answer");
    round();
  });
}

void Dial::starved() noexcept {
  if (told_) return;
  cancel();
  over_ = told_ = true;
  owner_.dial_failed(Fault::memory, "no memory");  // so short that it takes none
}

void Dial::cancel() noexcept {
  if (over_) return;
  over_ = true;
  if (attempt_) attempt_->abandon();
  ProbeWaiter::leave();
  Waiter::cancel();
  timer_.stop();
  drop_attempt();
}

// --- one attempt ------------------------------------------------------------------------------------

/// False: it has failed already, and the failure is noted.
bool Dial::connect(int fd) {
  std::unique_ptr<Connecting> begun(new (std::nothrow) Connecting);
  auto* tcp = begun && can_watch(*loop_.uv(), fd) ? new (std::nothrow) uv_tcp_t : nullptr;
  if (!tcp) {
    ::close(fd);
    note_failure(Fault::memory, "no memory");
    return false;
  }
  uv_tcp_init(loop_.uv(), tcp);
  tcp->data = nullptr;
  if (const int status = uv_tcp_open(tcp, fd); status != 0) {
    ::close(fd);
    discard(tcp);
    note_failure(Fault::connect, uv_strerror(status));
    return false;
  }
  begun->tcp = tcp;
  begun->dial = this;
  begun->request.data = begun.get();
  sockaddr_storage address{};
  target_.to(address);
  const auto done = [](uv_connect_t* request, int status) {
    const std::unique_ptr<Connecting> self(static_cast<Connecting*>(request->data));
    Dial* const dial = self->dial;
    if (!dial) return;  // given up; the handle is closing
    dial->connecting_ = nullptr;
    dial->safely([&] { dial->connect_over(self->tcp, status); });
  };
  const int status = uv_tcp_connect(&begun->request, tcp, reinterpret_cast<const sockaddr*>(&address), done);
  if (status != 0) {
    discard(tcp);
    note_failure(Fault::connect, fmt::format("connect {}: {}", target_.text(), uv_strerror(status)));
    return false;
  }
  connecting_ = begun.release();
  return true;
}

void Dial::connect_over(uv_tcp_t* tcp, int status) {
  StreamEvents& events = *this;
  if (status == 0) stream_.reset(new (std::nothrow) Stream(loop_, events));
  if (status == 0 && stream_) {
    stream_->adopt(tcp);
    return connected();
  }
  discard(tcp);
  if (status == 0) return attempt_failed(Fault::memory, "no memory");
  attempt_failed(Fault::connect, fmt::format("connect {}: {}", target_.text(), uv_strerror(status)));
}

/// Forgets what an attempt got to; the next begins from nothing.
void Dial::drop_attempt() noexcept {
  if (connecting_) {
    connecting_->dial = nullptr;
    discard(connecting_->tcp);
    connecting_ = nullptr;
  }
  if (stream_) {
    stream_->close();
    loop_.bury(std::move(stream_));  // it may be what is calling
  }
  opening_begun_ = false;
  input_.clear();
}

std::string Dial::proxy_header() const {
  if (leg_->forwarding != conf::Forwarding::proxy) return {};
  if (!attempt_) return protocols::local_proxy_header();
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
  const std::string group = group_in_header(caller_.facts.group);
  out.tls_group = group;
  out.tls_sig_scheme = caller_.facts.signature;
  return protocols::write_proxy_header(out);
}

void Dial::connected() {
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
    timer_.at(loop_.now() + (attempt_end_ - std::min(attempt_end_, loop_.now())) / 2);
  stream_->read(true);
  stream_->start_tls(std::move(engine), {}, prefix);
}

Resume& Dial::resume() const { return destination_->resume[loop_.index][static_cast<size_t>(protocol_)]; }

/// A handshake that would have resumed failed. What it would have resumed with may be the reason, so that is
/// forgotten, and the same address is tried once more without it. Nothing is said about the host.
bool Dial::again_in_full() {
  if (!shaking() || !stream_->tls()->offers_resumption() || loop_.now() >= window_end_) return false;
  log::debug("backend did not resume, shaking hands in full", {{"session", caller_.session},
                                                               {"destination", destination_->conf.name},
                                                               {"error", stream_->tls()->error()}});
  resume().kept.reset();
  resume().not_before = loop_.now() + resume_pause_ms;
  in_full_ = true;
  drop_attempt();
  next_address();  // the same one
  return true;
}

void Dial::stream_secured(Stream& stream) noexcept {
  timer_.at(attempt_end_);
  count_handshake(loop_.cells.backend, stream.tls()->facts());
  safely([this] {
    if (!opening_begun_) return established();
    std::string out;
    const protocols::ReplayStep step = opening_->tls_started(out);
    converse(step, out);
  });
}

// --- the conversation -------------------------------------------------------------------------------

/// The leg stands as the configuration wants it from the first byte on: connected, and encrypted if implicit.
void Dial::established() {
  connected_at_ = uv_hrtime();
  if (!opening_) return succeed();
  opening_->begin();
  opening_begun_ = true;
  stream_->read(true);  // the backend speaks first
}

void Dial::stream_data(Stream&, std::span<const uint8_t> plain) noexcept {
  if (opening_begun_) safely([&] { heard(plain); });
}

void Dial::heard(std::span<const uint8_t> plain) {
  input_.append(plain);
  std::string out;
  const protocols::ReplayStep step = opening_->advance(input_, out);
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

void Dial::stream_ended(Stream& stream, StreamEnd end) noexcept {
  safely([&] { ended(stream, end); });
}

void Dial::ended(Stream& stream, StreamEnd end) {
  if (stream.starved()) return attempt_failed(Fault::memory, "out of memory");
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
  count_failure(loop_.cells.backend, failure);
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
  if (waiting()) {
    ProbeWaiter::leave();
    return fail(Fault::breaker_open, "destination is marked down, and its trial has not ended in time");
  }
  if (looking_since_) return look_up();
  if (again_in_full()) return;
  if (loop_.now() >= window_end_) {
    drop_attempt();
    return out_of_time(last_detail_.empty() ? std::string("not ready within backend_timeout")
                                            : "backend_timeout; before that " + last_detail_);
  }
  const bool open = stream_ && stream_->is_open();
  const char* missing = shaking() ? "complete TLS" : open ? "get to the login" : "answer";
  attempt_failed(name_was_slow() ? Fault::name_server
                 : shaking()     ? Fault::backend_handshake
                 : open          ? Fault::backend_silent
                                 : Fault::connect,
                 fmt::format("{} did not {} in time", target_.text(), missing));
}

void Dial::note_failure(Fault fault, std::string detail) {
  last_fault_ = fault;
  last_detail_ = std::move(detail);
}

void Dial::attempt_failed(Fault fault, std::string detail) {
  if (stream_ && stream_->starved()) fault = Fault::memory;
  if (stream_ && stream_->tls() && stream_->tls()->offers_resumption()) resume().kept.reset();
  drop_attempt();
  note_failure(fault, std::move(detail));
  if (row(fault).retryable && addresses_ && ++next_ < addresses_->size()) return next_address();
  again_or_fail();
}

void Dial::again_or_fail() {
  if (!row(last_fault_).retryable || retries_left_ == 0) return fail(last_fault_, last_detail_);
  --retries_left_;
  const uint64_t again = loop_.now() + (addresses_ ? retry_pause_ms : name_pause_ms);
  if (again >= window_end_) return fail(last_fault_, last_detail_);
  log::debug("backend attempt failed, trying again", {{"session", caller_.session},
                                                      {"destination", destination_->conf.name},
                                                      {"fault", label(last_fault_)},
                                                      {"error", last_detail_}});
  retrying_ = addresses_ != nullptr;
  addresses_.reset();
  pausing_ = true;
  timer_.at(again);
}

// --- the end ----------------------------------------------------------------------------------------

void Dial::fail(Fault fault, const std::string& detail) {
  over_ = true;
  timer_.stop();
  if (attempt_) best_effort([&] { attempt_->failure(fault, detail); });
  told_ = true;
  owner_.dial_failed(fault, detail);
}

void Dial::succeed() {
  over_ = true;
  timer_.stop();
  stream_->read(false);
  if (!attempt_) {
    told_ = true;
    return owner_.dialed({std::move(stream_), {}, nullptr});
  }
  if (!opening_) attempt_->success();  // else the answer to the login tells
  const uint64_t took = (connected_at_ - began_) / 1000;
  destination_->counters->workers[loop_.index].connect.observe(connect_bounds, took);
  if (opening_) {
    loop_.cells.leg_stages[static_cast<size_t>(LegStage::connect)].observe(connect_bounds, took);
    loop_.cells.leg_stages[static_cast<size_t>(LegStage::conversation)].observe(
        connect_bounds, (uv_hrtime() - connected_at_) / 1000);
  }
  if (log::enabled(LogLevel::debug))
    log::debug("backend connected", {{"session", caller_.session},
                                     {"listener", caller_.listener},
                                     {"protocol", conf::name(protocol_)},
                                     {"destination", destination_->conf.name},
                                     {"backend", target_.text()},
                                     {"secs", static_cast<double>(took) / 1e6}});
  told_ = true;
  owner_.dialed({std::move(stream_), std::move(input_), std::move(attempt_)});
}

}  // namespace postern::proxy
