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
#include "proxy/session/roster.hpp"

namespace postern::proxy {
namespace {

/// What a client may send ahead of its backend; above it Postern stops reading (protocols.md 1.3).
constexpr size_t early_limit = 72 * 1024;
/// After a last word or a broken leg, the other side has this long to take what was sent.
constexpr uint64_t linger_ms = 1000;
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
          *roster.loop.timers, [](void* self) { static_cast<Session*>(self)->tick(); }, this),
      client_(roster.loop, *this),
      deadline_(accepted_ + static_cast<uint64_t>(listener().conf.preauth_timeout.count())) {
  listener_->counters->workers[loop().index].accepted.add();
  admission_.belongs_to(roster.loop, this,
                        [](void* self, Fault why) { static_cast<Session*>(self)->cut(why); });
}

Loop& Session::loop() const { return roster_.loop; }

Session::~Session() { listener_->counters->workers[loop().index].closed.add(); }

// --- accept and PROXY header ------------------------------------------------------------------------

void Session::start(int fd) {
  if (client_.open(fd) != 0) return close(Fault::memory, "the socket could not be opened");
  client_.sip(true);
  weigh();
  const conf::ListenerConf& conf = listener().conf;
  if (conf.proxy_protocol == conf::ProxyMode::off) return begin();
  const bool required = conf.proxy_protocol == conf::ProxyMode::required;
  if (!expects_header(conf, peer_.ip))
    return required ? close(Fault::proxy_header, "peer is not in proxy_trusted") : begin();

  phase_ = Phase::proxy_header;
  uint64_t due = deadline_;
  // A peer without a header waits for the greeting where the server speaks first; do not wait for each other.
  if (!required && protocols::row(conf.protocol).server_speaks_first &&
      conf.tls_mode != conf::TlsMode::implicit)
    due = std::min(due, accepted_ + static_cast<uint64_t>(settings().server.proxy_header_timeout.count()));
  timer_.at(due);
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

/// Nothing stands between us and the client's protocol any more.
void Session::client_ready() {
  if (conf::interactive(listener().conf.protocol)) return login_ ? upgraded() : greet();
  destination_ = listener().passthrough;
  if (!destination_) return close(Fault::no_leg, "no destination");
  dial();
}

// --- TLS --------------------------------------------------------------------------------------------

void Session::handshake() {
  phase_ = Phase::handshake;
  timer_.at(std::min(deadline_, loop().now() + static_cast<uint64_t>(listener().conf.tls.timeout.count())));
  auto engine = tls::Engine::server(listener().tls);
  if (!engine) return close(Fault::memory, "no memory for TLS");
  const std::vector<uint8_t> early = std::exchange(early_, {});
  client_.read(true);
  client_.start_tls(std::move(engine), early);
}

void Session::stream_secured(Stream& stream) {
  count_handshake(loop().cells.client, stream.tls()->facts());
  client_ready();
  weigh();
}

// --- the backend ------------------------------------------------------------------------------------

void Session::dial() {
  phase_ = Phase::dialing;
  timer_.stop();
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
  if (login_) {
    const protocols::ClientFacts facts{peer_, local_, caller.ttl, id(), client_.secured()};
    login_->exchange.choose(destination_->conf, facts, settings().server.hostname);
    dial_->open_with(login_->exchange);
    login_->stage_began = uv_hrtime();
  }
  client_.read(!ahead());  // to notice a client that breaks off
  watch_client();
  dial_->start();
}

void Session::dialed(Leg leg) {
  backend_ = std::move(leg.stream);
  backend_address_ = dial_->backend();
  dial_.reset();
  if (!login_) {
    if (const Fault fault = admission_.established(); fault != Fault::none) return close(fault);
    return bridge();
  }
  login_->attempt = std::move(leg.attempt);
  times_->ready_ms = static_cast<uint32_t>(loop().now() - accepted_);
  login_->stage_began = uv_hrtime();
  phase_ = Phase::replaying;
  deadline_ = loop().now() + static_cast<uint64_t>(settings().server.backend_timeout.count());
  watch_client();
  StreamEvents& events = *this;
  backend_->belong_to(events);
  backend_->read(true);
  std::string out;
  const protocols::ReplayStep step = login_->exchange.authenticate(std::move(leg.unread), out);
  if (step.fault == protocols::ReplayFault::premature)
    return unavailable(proxy::fault_of(step.fault), reason_of(step.fault));
  replay(step, std::move(out));
}

void Session::dial_failed(Fault fault, const std::string& detail) {
  backend_address_ = dial_->backend();
  if (login_) return unavailable(fault, detail);
  close(fault, detail);
}

/// The client has sent as much ahead of its backend as we keep.
bool Session::ahead() const {
  return login_ ? login_->exchange.from_client.full() : early_.size() >= early_limit;
}

// --- bytes ------------------------------------------------------------------------------------------

void Session::bridge() {
  phase_ = Phase::bridging;
  client_.sip(false);
  const auto protocol = static_cast<size_t>(listener_->protocol);
  timer_.stop();
  counted_->workers[loop().index].protocol[protocol].opened.add();
  BridgeEvents& events = *this;
  bridge_.emplace(loop(), client_, *backend_, static_cast<uint64_t>(settings().server.bridge_idle.count()),
                  loop().cells.bytes_to_backend[protocol], loop().cells.bytes_to_client[protocol], events);
  // From here on counters, occupancy and time limits are all it takes; and, where the backend's tickets are
  // still to come, the place for them.
  policy_.reset();
  if (login_ || !backend_->tls()) destination_.reset();
  const auto login = std::exchange(login_, nullptr);
  const std::vector<uint8_t> early = std::exchange(early_, {});
  if (!login) return bridge_->run({early, {}, client_over_, client_clean_});
  const auto unread = [](const protocols::Input& input) {
    const std::string_view text = input.view();
    return std::span(reinterpret_cast<const uint8_t*>(text.data()), text.size());
  };
  bridge_->run({unread(login->exchange.from_client), unread(login->exchange.from_backend), client_over_,
                client_clean_});
}

void Session::backend_spoke() {
  const tls::Engine* engine = backend_->tls();
  if (!engine || !destination_) return;
  Resume& resume = destination_->resume[loop().index][static_cast<size_t>(listener_->protocol)];
  if (loop().now() >= resume.not_before) engine->renew(resume.kept);
  if (phase_ == Phase::bridging) destination_.reset();
}

void Session::bridge_over(Fault fault) { close(fault); }

void Session::received(Stream& stream, std::span<const uint8_t> plain) {
  if (phase_ == Phase::closing) return;  // lingering: read and forget
  if (&stream != &client_) {
    if (phase_ != Phase::replaying) return;
    login_->exchange.from_backend.append(plain);
    std::string out;
    const protocols::ReplayStep step = login_->exchange.hear(out);
    return replay(step, std::move(out));
  }
  if (login_) {
    login_->exchange.from_client.append(plain);
    // What lies in the loop's buffer may be a password, and nothing may come to overwrite it for long.
    conf::wipe(const_cast<uint8_t*>(plain.data()), plain.size());
  } else {
    // Not by doubling, as it would by itself.
    const size_t size = early_.size() + plain.size();
    if (size > early_.capacity()) early_.reserve(std::max(size, std::min(size + size / 2, early_limit)));
    early_.insert(early_.end(), plain.begin(), plain.end());
  }
  if (phase_ == Phase::proxy_header) return read_header();
  if (phase_ == Phase::dialogue) {
    if (std::exchange(login_->told, Fault::none) != Fault::none) timer_.at(deadline_);
    return talk();
  }
  if (!ahead()) return;
  client_.read(false);
  if (phase_ == Phase::dialing || phase_ == Phase::replaying) watch_client();
}

void Session::stream_ended(Stream& stream, StreamEnd end) {
  const bool broken = end == StreamEnd::reset || end == StreamEnd::tls;
  if (&stream == &client_ && phase_ != Phase::closing && stream.flooded())
    return close(Fault::key_updates, stream.tls()->error());
  if (&stream != &client_ && phase_ == Phase::replaying)
    return unanswered(Fault::backend_closed, "the backend ended before it answered the login");
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
      if (client_.queued()) return;  // what it said before is still being answered: talk() will find the end
      return ended_without_login("the client ended");
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

void Session::stream_drained(Stream& stream) {
  if (phase_ == Phase::dialogue && &stream == &client_)
    return stream.write_failed() ? close(Fault::client_gone, "while it was answered") : talk();
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
    case Phase::dialogue: {
      if (login_->told != Fault::none) return ended_without_login({});
      std::string out;
      login_->exchange.farewell(protocols::Farewell::timeout, out);
      if (tell_client(out)) close(Fault::timeout, "no login in time");
      return;
    }
    case Phase::dialing:
    case Phase::replaying:
      if (!client_.reading() && client_.broken())
        return close(Fault::client_gone, "while its backend was asked");
      if (phase_ == Phase::dialing || loop().now() < deadline_) return watch_client();
      return unanswered(Fault::backend_silent, "the backend did not answer the login in time");
    case Phase::closing:
      client_.close();
      if (backend_) backend_->close();
      return settle(client_);
    default:
      return;
  }
}

void Session::cut(Fault fault) {
  // A bridge is cut without a word; a conversation of our own has one for it.
  if (login_ && fault == Fault::shutdown && phase_ != Phase::closing && phase_ != Phase::handshake) {
    std::string out;
    login_->exchange.farewell(protocols::Farewell::shutdown, out);
    if (!tell_client(out)) return;
  }
  close(fault);
}

void Session::close(Fault fault, std::string_view detail) {
  if (phase_ == Phase::closing) return;
  const bool bridged = phase_ == Phase::bridging;
  record(fault, detail);
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
  phase_ = Phase::closing;
  timer_.stop();
  if (dial_) dial_->cancel();
  const bool talked = login_ != nullptr;
  if (login_ && login_->attempt) login_->attempt->abandon();

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
void Session::linger(bool clean, uint64_t patience) {
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
void Session::settle(Stream& stream) {
  if (stream.is_open() && stream.input_over() && !stream.queued()) stream.close();
  if (client_.is_open() || (backend_ && backend_->is_open())) return;
  timer_.stop();
  roster_.retire(*this);
}

}  // namespace postern::proxy
