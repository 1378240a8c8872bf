// SPDX-License-Identifier: GPL-3.0-or-later
// The phases in order, and the one exit: close().
#include "proxy/session/session.hpp"

#include <fmt/core.h>
#include <sys/random.h>

#include <algorithm>
#include <atomic>
#include <utility>

#include "protocols/refusal.hpp"
#include "protocols/registry.hpp"
#include "proxy/base/log.hpp"
#include "proxy/observe/tls_counting.hpp"
#include "proxy/session/mail.hpp"
#include "proxy/session/relay.hpp"
#include "proxy/session/roster.hpp"

namespace postern::proxy {
namespace {

/// What a client may send ahead of its backend; above it Postern stops reading (protocols.md 1.3).
constexpr size_t early_limit = 72 * 1024;
/// After a last word or a broken leg, the other side has this long to take what was sent.
constexpr uint64_t linger_ms = 1000;
/// How late an answer of the store loop may come.
constexpr uint64_t overdue_ms = 250;
/// Less for a backend whose client is gone: together with what a bridge waits for its last words, a second.
constexpr uint64_t bereaved_ms = 500;

/// Unique in this process, and by its random start across restarts and replicas (forwarding.md 3.4).
uint64_t next_number() {
  static std::atomic<uint64_t> next = [] {
    uint64_t start = 0;
    while (::getrandom(&start, sizeof start, 0) != static_cast<ssize_t>(sizeof start)) {
    }
    return start;
  }();
  return next.fetch_add(1, std::memory_order_relaxed);
}

std::array<char, 18> next_id() {
  std::array<char, 18> id{};
  fmt::format_to_n(id.data(), id.size() - 1, "P{:016x}", next_number());
  return id;
}

}  // namespace

Session::Session(Roster& roster, std::shared_ptr<const ListenerPolicy> policy,
                 const conf::SocketAddress& peer, const conf::SocketAddress& local, Admission admission)
    : roster_(roster),
      listener_(policy->listener),
      policy_(std::move(policy)),
      accepted_(roster.loop.now()),
      admission_(std::move(admission)),
      peer_(peer),
      local_(local),
      id_(next_id()),
      timer_(
          *roster.loop.timers,
          [](void* data) noexcept {
            auto* const self = static_cast<Session*>(data);
            self->safely([self] { self->tick(); });
          },
          this),
      client_(roster.loop, *this),
      deadline_(accepted_ + static_cast<uint64_t>(listener().conf.preauth_timeout.count())) {
  listener_->counters->workers[loop().index].accepted.add();
  admission_.belongs_to(roster.loop, this,
                        [](void* self, Fault why) noexcept { static_cast<Session*>(self)->cut(why); });
}

std::unique_ptr<Session> Session::make(Roster& roster, std::shared_ptr<const ListenerPolicy> policy,
                                       const conf::SocketAddress& peer, const conf::SocketAddress& local,
                                       Admission admission) {
  if (conf::interactive(policy->conf.protocol))
    return std::make_unique<MailSession>(roster, std::move(policy), peer, local, std::move(admission));
  return std::make_unique<RelaySession>(roster, std::move(policy), peer, local, std::move(admission));
}

Loop& Session::loop() const { return roster_.loop; }

Session::~Session() { listener_->counters->workers[loop().index].closed.add(); }

void Session::enter(Phase phase) noexcept {
  phase_ = phase;
  const auto after = [&](conf::Duration limit) {
    return loop().now() + static_cast<uint64_t>(limit.count());
  };
  switch (phase) {
    case Phase::proxy_header:
    case Phase::dialogue:
      return timer_.at(deadline_);
    case Phase::handshake:
      return timer_.at(std::min(deadline_, after(listener().conf.tls.timeout)));
    case Phase::routing:  // what a lookup may take, and the way between two loops
      deadline_ = after(roster_.snapshot()->config.mapping.lookup_timeout) + overdue_ms;
      return watch_client();
    case Phase::replaying:
      deadline_ = after(settings().server.backend_timeout);
      return watch_client();
    case Phase::dialing:   // a Dial has a time of its own
    case Phase::bridging:  // and so has a bridge
    case Phase::closing:
      return timer_.stop();
  }
}

// --- accept and PROXY header ------------------------------------------------------------------------

void Session::start(int fd) noexcept {
  safely([&] { open(fd); });
}

void Session::open(int fd) {
  if (client_.open(fd) != 0) return close(Fault::memory, "the socket could not be opened");
  client_.sip(true);
  weigh();
  const conf::ListenerConf& conf = listener().conf;
  if (conf.proxy_protocol == conf::ProxyMode::off) return begin();
  const bool required = conf.proxy_protocol == conf::ProxyMode::required;
  if (!expects_header(conf, peer_.ip))
    return required ? close(Fault::proxy_header, "peer is not in proxy_trusted") : begin();

  enter(Phase::proxy_header);
  // A peer without a header waits for the greeting where the server speaks first; do not wait for each other.
  if (!required && protocols::row(conf.protocol).server_speaks_first &&
      conf.tls_mode != conf::TlsMode::implicit)
    timer_.at(std::min(deadline_,
                       accepted_ + static_cast<uint64_t>(settings().server.proxy_header_timeout.count())));
  client_.read(true);
}

void Session::read_header() {
  protocols::ProxyParse parsed = protocols::parse_proxy_header(early_);
  const bool required = listener().conf.proxy_protocol == conf::ProxyMode::required;
  switch (parsed.verdict) {
    case protocols::ProxyVerdict::more:
      timer_.at(deadline_);  // it has begun: the short wait for a first byte is over
      return;
    case protocols::ProxyVerdict::absent:
      return required ? close(Fault::proxy_header, "no PROXY header") : header_absent();
    case protocols::ProxyVerdict::malformed:
      return close(Fault::proxy_header, parsed.reason);
    case protocols::ProxyVerdict::complete:
      break;
  }
  early_.erase(early_.begin(), early_.begin() + static_cast<std::ptrdiff_t>(parsed.consumed));
  proxy_header_ = std::make_unique<InboundHeader>(InboundHeader{std::move(parsed.header), peer_});
  if (!proxy_header_->header.local) {
    peer_ = proxy_header_->header.source;
    local_ = proxy_header_->header.destination;
  }
  if (identified()) begin();
}

void Session::header_absent() {
  if (identified()) begin();
}

/// The stream itself begins: with TLS if it is due from the first byte.
void Session::begin() {
  if (listener().conf.tls_mode == conf::TlsMode::implicit) return handshake();
  client_ready();
}

// --- TLS --------------------------------------------------------------------------------------------

void Session::handshake() {
  enter(Phase::handshake);
  auto engine = tls::Engine::server(listener().tls);
  if (!engine) return close(Fault::memory, "no memory for TLS");
  const std::vector<uint8_t> early = std::exchange(early_, {});
  client_.read(true);
  client_.start_tls(std::move(engine), early);
}

void Session::stream_secured(Stream& stream) noexcept {
  count_handshake(loop().cells.client, stream.tls()->facts());
  safely([this] {
    client_ready();
    weigh();
  });
}

// --- the backend ------------------------------------------------------------------------------------

void Session::dial() {
  enter(Phase::dialing);
  Caller caller;
  caller.peer = peer_;
  caller.local = local_;
  caller.ttl = ttl();
  caller.listener = listener_->name;
  caller.session = id();
  if (const tls::Engine* engine = client_.tls()) {
    caller.tls = true;
    caller.facts = engine->facts();
    caller.alpn = engine->alpn();
    caller.server_name = engine->server_name();
  }
  // The wait for a backend is bounded, so it may keep the whole of what is current.
  DialEvents& events = *this;
  const conf::Protocol protocol = listener().conf.protocol;
  dial_ = std::make_unique<Dial>(roster_.probes, roster_.snapshot()->backend, destination_, protocol, caller,
                                 events);
  counted_ = destination_->counters.get();
  begin_dial(*dial_, caller);
  client_.read(!ahead());  // to notice a client that breaks off
  watch_client();
  dial_->start();
}

uint32_t Session::ttl() const { return settings().server.proxy_ttl; }

void Session::begin_dial(Dial&, const Caller&) {}

void Session::dialed(Leg leg) noexcept {
  backend_ = std::move(leg.stream);
  StreamEvents& events = *this;
  backend_->belong_to(events);  // before the dial goes, whose it is
  backend_address_ = dial_->backend();
  dial_.reset();
  safely([&] { backend_ready(leg); });
}

void Session::dial_failed(Fault fault, const std::string& detail) noexcept {
  backend_address_ = dial_->backend();
  safely([&] { unavailable(fault, detail); });
}

/// While its backend is asked: a client that is not read cannot report its own reset, so it is looked at.
void Session::watch_client() noexcept {
  const bool answering = phase_ != Phase::dialing;
  const uint64_t look = loop().now() + Bridge::look_ms;
  if (!client_.reading()) return timer_.at(answering ? std::min(deadline_, look) : look);
  if (answering) return timer_.at(deadline_);
  timer_.stop();  // the dial has its own
}

// --- bytes ------------------------------------------------------------------------------------------

void Session::bridge(const Bridge::Before& before) {
  client_.sip(false);
  const auto protocol = static_cast<size_t>(listener_->protocol);
  BridgeEvents& events = *this;
  bridge_.emplace(loop(), client_, *backend_, static_cast<uint64_t>(settings().server.bridge_idle.count()),
                  loop().cells.bytes_to_backend[protocol], loop().cells.bytes_to_client[protocol], events);
  counted_->workers[loop().index].protocol[protocol].opened.add();
  enter(Phase::bridging);
  policy_.reset();  // from here on counters, occupancy and time limits are all it takes
  bridge_->run(before);
}

void Session::backend_spoke() noexcept {
  const tls::Engine* engine = backend_->tls();
  if (!engine || !destination_) return;
  Resume& resume = destination_->resume[loop().index][static_cast<size_t>(listener_->protocol)];
  if (loop().now() >= resume.not_before) best_effort([&] { engine->renew(resume.kept); });
  if (phase_ == Phase::bridging) destination_.reset();
}

void Session::bridge_over(Fault fault) noexcept { close(fault); }

void Session::received(Stream& stream, std::span<const uint8_t> plain) {
  if (phase_ == Phase::closing) return;  // lingering: read and forget
  if (&stream != &client_) {
    if (phase_ == Phase::replaying) backend_said(plain);
    return;
  }
  if (phase_ != Phase::proxy_header) return client_said(plain);
  keep_early(plain);
  read_header();
}

void Session::keep_early(std::span<const uint8_t> plain) {
  // Not by doubling, as it would by itself.
  const size_t size = early_.size() + plain.size();
  if (size > early_.capacity()) early_.reserve(std::max(size, std::min(size + size / 2, early_limit)));
  early_.insert(early_.end(), plain.begin(), plain.end());
}

bool Session::too_early() const { return early_.size() >= early_limit; }

void Session::stream_ended(Stream& stream, StreamEnd end) noexcept {
  safely([&] { ended(stream, end); });
}

void Session::ended(Stream& stream, StreamEnd end) {
  const bool broken = end == StreamEnd::reset || end == StreamEnd::tls;
  if (&stream == &client_ && phase_ != Phase::closing && stream.flooded())
    return close(Fault::key_updates, stream.tls()->error());
  if (&stream != &client_ && phase_ == Phase::replaying) return backend_ended();
  switch (phase_) {
    case Phase::closing:
      if (broken) stream.close();
      return settle(stream);
    case Phase::handshake:
      if (end != StreamEnd::tls) return close(Fault::client_gone, "during the TLS handshake");
      count_failure(loop().cells.client, client_.tls()->failure());
      return close(Fault::tls, client_.tls()->error());
    case Phase::dialogue:
      if (broken) return close(Fault::client_gone, "before it logged in");
      client_over_ = true;
      client_clean_ = end == StreamEnd::eof;
      if (client_.queued()) return;  // what it said before is still being answered
      return client_ended();
    case Phase::routing:
    case Phase::dialing:
    case Phase::replaying:
      if (broken) return close(Fault::client_gone, "while its backend was asked");
      client_over_ = true;  // an end of input is no break: what it sent still goes to the backend
      client_clean_ = end == StreamEnd::eof;
      return watch_client();
    default:
      return close(Fault::client_gone, "before anything was asked");
  }
}

void Session::stream_drained(Stream& stream) noexcept {
  if (phase_ == Phase::dialogue && &stream == &client_) {
    if (stream.write_failed()) return close(Fault::client_gone, "while it was answered");
    return safely([this] { client_drained(); });
  }
  if (phase_ != Phase::closing) return;
  if (stream.write_failed()) stream.close();
  settle(stream);
}

// --- time and the end -------------------------------------------------------------------------------

void Session::tick() {
  switch (phase_) {
    case Phase::proxy_header:
      if (loop().now() < deadline_ && early_.empty()) return header_absent();
      return close(Fault::timeout, "no complete PROXY header");
    case Phase::handshake:
      count_timeout(loop().cells.client);
      return close(Fault::tls_timeout, "no complete TLS handshake");
    case Phase::dialogue:
      return out_of_time();
    case Phase::routing:
    case Phase::dialing:
    case Phase::replaying:
      if (!client_.reading() && client_.broken())
        return close(Fault::client_gone, "while its backend was asked");
      if (phase_ == Phase::dialing || loop().now() < deadline_) return watch_client();
      return out_of_time();
    case Phase::closing:
      client_.close();
      if (backend_) backend_->close();
      return settle(client_);
    default:
      return;
  }
}

void Session::cut(Fault fault) noexcept {
  // A bridge is cut without a word; a conversation of our own has one for it.
  if (fault == Fault::shutdown && phase_ != Phase::closing && phase_ != Phase::handshake)
    best_effort([this] { (void)say_farewell(); });
  close(fault);
}

/// What it was about to do is left undone. Right at any moment of a session's life.
void Session::starved(const char* why) noexcept {
  if (phase_ == Phase::closing) return drop();
  close(Fault::memory, why);
}

void Session::drop() noexcept {
  close(Fault::shutdown);
  client_.close();
  if (backend_) backend_->close();
  settle(client_);
}

void Session::close(Fault fault, std::string_view detail) noexcept {
  if (phase_ == Phase::closing) return;
  const bool bridged = phase_ == Phase::bridging;
  if (client_.starved() || (backend_ && backend_->starved())) fault = Fault::memory;
  if (fault == Fault::memory) {
    if (detail.empty()) detail = "out of memory";
    loop().starved("a connection ends for want of memory or descriptors", listener_->name, id(), detail);
  }
  if (!best_effort([&] { record(fault, detail); }))
    log::info(bridged ? "session closed" : "connection closed",
              {{"session", id()}, {"listener", listener_->name}, {"reason", row(fault).label}});
  auto& cells = listener_->counters->workers[loop().index];
  if (bridged) {
    const auto protocol = static_cast<size_t>(listener_->protocol);
    auto& ended = counted_->workers[loop().index].protocol[protocol].ended;
    ended[static_cast<size_t>(row(fault).end)].add();
    loop().cells.session_seconds[protocol].observe(session_bounds, (loop().now() - accepted_) * 1000);
    bridge_->stop();
  } else if (row(fault).rejected) {
    cells.rejected[static_cast<size_t>(*row(fault).rejected)].add();
  }
  enter(Phase::closing);
  if (dial_) dial_->cancel();
  const bool talked = give_up();

  switch (fault) {
    case Fault::timeout:
      if (talked) return linger(true, linger_ms);  // it was told; else there is nobody to say goodbye to
      [[fallthrough]];
    case Fault::none:  // both ends are out already
    case Fault::tls_timeout:
    case Fault::client_gone:
    case Fault::client_limit:
    case Fault::made_room:
    case Fault::preauth_memory:
      client_.close();
      if (backend_) backend_->close();
      return settle(client_);
    default:
      // After a break the other side must not take what it got for the whole.
      return linger(!bridged || row(fault).end != EndReason::error,
                    fault == Fault::client_reset ? bereaved_ms : linger_ms);
  }
}

/// Ends our direction on whatever leg still works and waits a moment for its peer to end too: closing a
/// socket with unread input resets it, and a reset may overtake our last bytes.
void Session::linger(bool clean, uint64_t patience) noexcept {
  for (Stream* stream : {&client_, backend_.get()}) {
    if (!stream || !stream->is_open()) continue;
    stream->belong_to(*this);
    if (!stream->finish(clean)) stream->close();
    stream->forget_input();
  }
  timer_.in(patience);
  if (backend_ && backend_->is_open() && backend_->input_over() && !backend_->queued()) backend_->close();
  settle(client_);
}

/// While lingering: drops a leg that has nothing more to give or take, and the session with the last one.
void Session::settle(Stream& stream) noexcept {
  if (stream.is_open() && stream.input_over() && !stream.queued()) stream.close();
  if (client_.is_open() || (backend_ && backend_->is_open())) return;
  timer_.stop();
  if (!std::exchange(retired_, true)) roster_.retire(*this);
}

}  // namespace postern::proxy
