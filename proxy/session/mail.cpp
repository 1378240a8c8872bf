// SPDX-License-Identifier: GPL-3.0-or-later
// In the order of a login: with the client, to the backend, its verdict, and what comes of that.
#include "proxy/session/mail.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "proxy/base/log.hpp"
#include "proxy/session/roster.hpp"

namespace postern::proxy {
namespace {

/// A client that heard a temporary failure has this long to try again; then its connection ends. Few do, and
/// whoever only makes backends hang does not get to keep connections as well.
constexpr uint64_t second_try_ms = 500;

std::span<const uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

Fault fault_of(protocols::Parting parting) {
  switch (parting) {
    case protocols::Parting::quit:
      return Fault::quit;
    case protocols::Parting::failures:
      return Fault::auth_failures;
    case protocols::Parting::errors:
      return Fault::command_errors;
    default:
      return Fault::input_limit;
  }
}

}  // namespace

// --- with the client --------------------------------------------------------------------------------

void MailSession::client_ready() { login_ ? upgraded() : greet(); }

void MailSession::client_said(std::span<const uint8_t> plain) {
  login_->exchange.from_client.append(plain);
  // What lies in the loop's buffer may be a password, and nothing may come to overwrite it for long.
  conf::wipe(const_cast<uint8_t*>(plain.data()), plain.size());
  if (phase_ == Phase::dialogue) {
    if (std::exchange(login_->told, Fault::none) != Fault::none) timer_.at(deadline_);
    return talk();
  }
  if (!ahead()) return;
  client_.read(false);
  watch_client();
}

void MailSession::greet() {
  const conf::ListenerConf& conf = listener().conf;
  const SessionPolicy& policy = settings();
  protocols::DialogueEvents& events = *this;
  login_ = std::make_unique<LoginState>(
      protocols::LoginSettings{conf, policy.capabilities[static_cast<size_t>(conf.protocol)], policy.server,
                               policy.oauth, policy.routing},
      local_.ip, client_.secured(), events);
  times_ = std::make_unique<LoginTimes>();
  if (!early_.empty()) {  // it came with the PROXY header, and may be a login
    login_->exchange.from_client.append(early_);
    conf::wipe(early_.data(), early_.size());
    early_ = {};
  }

  enter(Phase::dialogue);
  std::string out;
  login_->exchange.greet(out);
  if (tell_client(out)) talk();
}

/// The handshake that STARTTLS asked for is done.
void MailSession::upgraded() {
  enter(Phase::dialogue);
  std::string out;
  login_->exchange.upgraded(out);
  if (tell_client(out)) talk();
}

/// Answers what has come, as long as the client takes the answers.
void MailSession::talk() {
  for (;;) {
    if (client_.queued()) return client_.read(false);  // stream_drained() comes back here
    std::string out;
    const protocols::Step step = login_->exchange.talk(out);
    if (!tell_client(out)) return;
    switch (step.want) {
      case protocols::Want::pause:
        continue;
      case protocols::Want::input:
        if (client_over_) return ended_without_login("the client ended");
        if (login_->exchange.from_client.empty())
          login_->exchange.from_client.clear();  // gives its memory back
        return client_.read(true);
      case protocols::Want::start_tls:
        return handshake();
      case protocols::Want::route:
        return route();
      case protocols::Want::close:
        return close(fault_of(step.parting));
    }
  }
}

/// False: the client is gone, and so is the session.
bool MailSession::tell_client(const std::string& text) {
  if (text.empty() || client_.write(bytes_of(text))) return true;
  close(Fault::client_gone, "while it was answered");
  return false;
}

void MailSession::login_refused(std::string_view method, protocols::Refusal refusal) {
  times_->method = method;
  times_->account.clear();  // nobody was named
  report_login(refusal == protocols::Refusal::privacy ? AuthResult::privacy
               : refusal == protocols::Refusal::name  ? AuthResult::name
                                                      : AuthResult::malformed);
}

void MailSession::clear_text_discarded(size_t bytes) {
  uint64_t suppressed = 0;
  if (loop().complaints.allow(loop().now(), suppressed))
    log::warn("bytes behind STARTTLS discarded", {{"session", id()},
                                                  {"listener", listener().conf.name},
                                                  {"peer", peer_.text()},
                                                  {"bytes", bytes},
                                                  {"suppressed", suppressed}});
}

// --- to the backend ---------------------------------------------------------------------------------

/// What an upstream of ours said of hops left counts if we believe that upstream.
uint32_t MailSession::ttl() const {
  const uint32_t own = settings().server.proxy_ttl;
  const std::array upstreams = {peer_.ip, proxy_header_ ? proxy_header_->via.ip : peer_.ip};
  return protocols::hops_left(own, login_->exchange.login(), listener().conf.proxy_trusted, upstreams);
}

void MailSession::route() {
  login_->told = Fault::none;
  const protocols::Login& login = login_->exchange.login();
  times_->method = login.method;
  times_->asked_ms = static_cast<uint32_t>(loop().now() - accepted_);
  times_->ready_ms = times_->answered_ms = LoginTimes::never;
  timer_.stop();
  locate();
}

/// Where an account is, is asked of what is current: a dialogue keeps no table of accounts alive.
void MailSession::locate() {
  Route found =
      find_route(roster_.snapshot()->routes, login_->exchange.login().name, loop().now(), loop().cells);
  if (found.how == Route::How::unknown) return ask_store(std::move(found.identifier));
  routed(std::move(found));
}

void MailSession::ask_store(std::string identifier) {
  enter(Phase::routing);
  times_->account = redacted(identifier);
  login_->identifier = std::move(identifier);
  const auto limit = static_cast<uint64_t>(roster_.snapshot()->config.mapping.lookup_timeout.count());
  login_->lookup = roster_.desk.ask(
      login_->identifier, loop().now() + limit,
      [](void* self, LookupAnswer answer) { static_cast<MailSession*>(self)->looked_up(std::move(answer)); },
      this);
  client_.read(!ahead());  // to notice a client that breaks off
  watch_client();
}

void MailSession::looked_up(LookupAnswer&& answer) {
  login_->lookup = 0;
  timer_.stop();
  if (answer.kind == LookupAnswer::Kind::again) return locate();
  if (answer.kind == LookupAnswer::Kind::failed) return unlocated(answer.why);
  routed(route_by(roster_.snapshot()->routes, std::move(login_->identifier), answer));
}

/// Nobody knows where the account is: to guess would show its owner an empty mailbox (stores.md 1). No
/// backend hears of it, and it is no failed login.
void MailSession::unlocated(std::string_view detail) {
  report_login(AuthResult::unavailable);
  std::string out;
  login_->exchange.account_unknown_now(out);
  if (tell_client(out)) close(Fault::mapping_store, detail);
}

void MailSession::routed(Route route) {
  times_->account = redacted(route.identifier);
  destination_ = std::move(route.destination);
  if (!destination_) return unavailable(Fault::no_leg, "no destination");
  log::debug("routed", {{"session", id()},
                        {"listener", listener().conf.name},
                        {"account", times_->account},
                        {"destination", destination_->conf.name},
                        {"how", route.how == Route::How::mapped ? "mapped" : "default"}});
  dial();
}

void MailSession::begin_dial(Dial& dial, const Caller& caller) {
  const protocols::ClientFacts facts{peer_, local_, caller.ttl, id(), client_.secured()};
  login_->exchange.choose(destination_->conf, facts, settings().server.hostname);
  dial.open_with(login_->exchange);
  login_->stage_began = uv_hrtime();
}

void MailSession::backend_ready(Leg& leg) {
  login_->attempt = std::move(leg.attempt);
  times_->ready_ms = static_cast<uint32_t>(loop().now() - accepted_);
  login_->stage_began = uv_hrtime();
  enter(Phase::replaying);
  take_over_backend();
  std::string out;
  const protocols::ReplayStep step = login_->exchange.authenticate(std::move(leg.unread), out);
  if (step.fault == protocols::ReplayFault::premature)
    return unavailable(proxy::fault_of(step.fault), reason_of(step.fault));
  replay(step, std::move(out));
}

void MailSession::backend_said(std::span<const uint8_t> plain) {
  login_->exchange.from_backend.append(plain);
  std::string out;
  const protocols::ReplayStep step = login_->exchange.hear(out);
  replay(step, std::move(out));
}

void MailSession::backend_ended() {
  unanswered(Fault::backend_closed, "the backend ended before it answered the login");
}

/// The replay's last step, with what it wants sent.
void MailSession::replay(protocols::ReplayStep step, std::string out) {
  const bool sent = out.empty() || backend_->write(bytes_of(out));
  conf::wipe(out);  // it may be a password
  if (!sent) return unanswered(Fault::backend_closed, "the backend does not listen");
  switch (step.want) {
    case protocols::ReplayWant::input:
      return;
    case protocols::ReplayWant::accepted:
      return accepted_login();
    case protocols::ReplayWant::rejected:
      return rejected_login();
    default:
      return unanswered(proxy::fault_of(step.fault), reason_of(step.fault));
  }
}

/// The backend has judged the login, one way or the other: it works.
void MailSession::answered() {
  login_->attempt->success();
  times_->answered_ms = static_cast<uint32_t>(loop().now() - accepted_);
  const uint64_t took = (uv_hrtime() - login_->stage_began) / 1000;
  loop().cells.leg_stages[static_cast<size_t>(LegStage::authentication)].observe(connect_bounds, took);
  backend_spoke();  // its TLS tickets have come as well
}

void MailSession::accepted_login() {
  answered();
  if (const Fault fault = admission_.established(); fault != Fault::none) return close(fault);
  report_login(AuthResult::ok);
  if (!tell_client(std::string(login_->exchange.said()))) return;
  destination_.reset();
  const auto login = std::exchange(login_, nullptr);
  bridge({bytes_of(login->exchange.from_client.view()), bytes_of(login->exchange.from_backend.view()),
          client_over_, client_clean_});
}

/// The backend said no: the client may try again, anew and elsewhere (protocols.md 1.7).
void MailSession::rejected_login() {
  answered();
  std::string out;
  const protocols::LoginExchange::Refused refused = login_->exchange.refused(out);
  // Whom a backend in trouble turns away must not look like somebody who guesses passwords.
  report_login(refused.temporary ? AuthResult::unavailable : AuthResult::rejected);
  try_again(refused.step, out, refused.leaves);
}

/// The backend was ready and got the credentials, but gives no answer. Silence and a bare end may be a
/// guess's doing (a backend that delays failures for longer than we wait, a password it will not read): one
/// more failed login. They may be the backend's, so the words are those of a temporary failure (protocols.md
/// 1.7); and that ends a connection, but for a client that goes on at once. A goodbye or nonsense is the
/// backend's alone.
void MailSession::unanswered(Fault fault, std::string_view detail) {
  login_->attempt->unanswered(fault, std::string(detail));
  const bool bare = fault == Fault::backend_silent || fault == Fault::backend_closed;
  if (!bare || login_->exchange.says_goodbye()) return unavailable(fault, detail);
  report_login(AuthResult::unanswered);
  login_->told = fault;
  login_->told_detail = detail;
  std::string out;
  const protocols::Step step = login_->exchange.unanswered(out);
  try_again(step, out);
}

/// This login is over and the client stays, as if it had just connected; unless it was its last, or the
/// client has read a goodbye and `leaves`. Told of a temporary failure, it has a moment to say something.
void MailSession::try_again(protocols::Step step, const std::string& out, bool leaves) {
  LoginState& login = *login_;
  backend_->close();
  loop().bury(std::move(backend_));  // it may be what is calling
  login.attempt.reset();
  if (!tell_client(out)) return;
  if (step.want == protocols::Want::close) return close(fault_of(step.parting));
  if (leaves) return close(Fault::backend_closed, "the backend said goodbye instead of judging the login");
  deadline_ = loop().now() + static_cast<uint64_t>(listener().conf.preauth_timeout.count());
  enter(Phase::dialogue);
  if (login.told != Fault::none) timer_.at(std::min(deadline_, loop().now() + second_try_ms));
  talk();
}

void MailSession::out_of_time() {
  if (phase_ == Phase::routing) return unlocated("nothing was heard of the store");
  if (phase_ == Phase::replaying)
    return unanswered(Fault::backend_silent, "the backend did not answer the login in time");
  if (login_->told != Fault::none) return ended_without_login({});
  std::string out;
  login_->exchange.farewell(protocols::Farewell::timeout, out);
  if (tell_client(out)) close(Fault::timeout, "no login in time");
}

bool MailSession::say_farewell() {
  if (!login_) return true;
  std::string out;
  login_->exchange.farewell(protocols::Farewell::shutdown, out);
  return tell_client(out);
}

bool MailSession::give_up() {
  if (login_ && login_->lookup) roster_.desk.forget(login_->lookup);
  if (login_ && login_->attempt) login_->attempt->abandon();
  return login_ != nullptr;
}

size_t MailSession::held_besides() const {
  return login_ ? sizeof(LoginState) + sizeof(LoginTimes) + login_->exchange.held() : 0;
}

/// The client has left, or its time is up: what it was last told says more than that.
void MailSession::ended_without_login(std::string_view detail) {
  const LoginState& login = *login_;
  if (login.told != Fault::none) return close(login.told, login.told_detail);
  close(Fault::no_login, detail);
}

/// No backend for this login, for whatever reason: a temporary failure in the protocol's words, and the end.
void MailSession::unavailable(Fault fault, std::string_view detail) {
  if (login_->attempt) login_->attempt->failure(fault, std::string(detail));
  report_login(AuthResult::unavailable);
  std::string out;
  login_->exchange.unavailable(out);
  if (tell_client(out)) close(fault, detail);
}

/// One count and one line a login, however it went. The line of a refused one is what fail2ban looks for.
void MailSession::report_login(AuthResult result) {
  const auto protocol = listener().conf.protocol;
  const char* said = auth_result_names[static_cast<size_t>(result)];
  loop()
      .cells.auth[static_cast<size_t>(protocol)][auth_method(times_->method)][static_cast<size_t>(result)]
      .add();
  const bool refused = result == AuthResult::rejected || result == AuthResult::malformed ||
                       result == AuthResult::name || result == AuthResult::unanswered;
  if (refused) ++times_->attempts;
  const LogLevel level = refused ? LogLevel::info : LogLevel::debug;
  if (!log::enabled(level)) return;
  const std::string address = peer_.ip.text();
  log::write(level, refused ? "login refused" : "login",
             {{"session", id()},
              {"listener", listener().conf.name},
              {"protocol", conf::name(protocol)},
              {"peer", peer_.text()},
              {"address", address},
              {"account", times_->account},
              {"mechanism", auth_method_names[auth_method(times_->method)]},
              {"result", said}});
}

}  // namespace postern::proxy
