// SPDX-License-Identifier: GPL-3.0-or-later
// The loop and the counting. Words and grammar are the protocols'.
#include "protocols/login_dialogue.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "protocols/identity.hpp"
#include "protocols/text.hpp"

namespace postern::protocols {

Step LoginDialogue::advance(Input& in, std::string& out) {
  for (;;) {
    if (out.size() >= enough_said) return {Want::pause, Parting::none};
    const std::optional<Step> step = take(in, out);
    if (!step) return {Want::input, Parting::none};
    if (step->want != Want::input) return *step;
  }
}

void LoginDialogue::tls_started(std::string&) {
  encrypted_ = true;
  in_exchange_ = false;
  sasl_.reset();
  login_ = Login();
}

void LoginDialogue::say(Say what, std::string& out) {
  const Phrase& phrase = phrases_[static_cast<size_t>(what)];
  const std::string_view text = rules_.courtesy ? phrase.courteous : phrase.standard;
  if (!text.empty()) line(what, text, out);
}

std::string LoginDialogue::banner() const {
  if (rules_.greeting) return *rules_.greeting;
  const std::string& banner = rules_.capabilities->banner;
  return banner.empty() ? std::string(rules_.hostname) + " ready" : banner;
}

void LoginDialogue::farewell(Farewell why, std::string& out) {
  say(why == Farewell::timeout ? Say::timeout : Say::shutdown, out);
}

Step LoginDialogue::failed(std::string& out) {
  if (++failures_ < rules_.max_failures) return {};
  say(Say::failures, out);
  return {Want::close, Parting::failures};
}

Step LoginDialogue::mistaken(std::string& out) {
  if (++errors_ < rules_.max_errors) return {};
  say(Say::errors, out);
  return {Want::close, Parting::errors};
}

Step LoginDialogue::unknown(std::string_view word, std::string& out) {
  constexpr std::array<std::string_view, 9> methods = {"GET",     "HEAD",    "POST",  "PUT",  "DELETE",
                                                       "OPTIONS", "CONNECT", "PATCH", "TRACE"};
  if (std::ranges::find(methods, word) != methods.end()) return {Want::close, Parting::errors};
  return mistaken(out);
}

Step LoginDialogue::rejected(std::string_view said, bool hide, std::string& out) {
  if (hide)
    say(Say::rejected, out);
  else
    out += said;
  return failed(out);
}

Step LoginDialogue::unanswered(std::string& out) {
  say(Say::unavailable, out);
  return failed(out);
}

Step LoginDialogue::upgrade(Input& in) {
  if (!in.empty() && events_) events_->clear_text_discarded(in.size());
  in.clear();
  return {Want::start_tls, Parting::none};
}

Step LoginDialogue::begin_sasl(std::string_view name, std::optional<std::string_view> initial,
                               std::string& out) {
  const auto mechanism = mechanism_named(name);
  if (!mechanism || !listed(*rules_.capabilities, *mechanism)) {
    refused(mechanism ? row(*mechanism).name : std::string_view(), Refusal::malformed);
    say(mechanism == Mechanism::login ? Say::login_mechanism : Say::no_such_mechanism, out);
    return failed(out);
  }
  if (row(*mechanism).clear_text && !clear_ok()) {
    refused(row(*mechanism).name, Refusal::privacy);
    say(Say::privacy, out);
    return mistaken(out);
  }
  return exchange(sasl_.begin(*mechanism, initial), out);
}

Step LoginDialogue::answer_sasl(std::string_view base64, std::string& out) {
  return exchange(sasl_.answer(base64), out);
}

Step LoginDialogue::exchange(SaslExchange::Next next, std::string& out) {
  using Next = SaslExchange::Next;
  in_exchange_ = next == Next::challenge;
  switch (next) {
    case Next::challenge:
      challenge(sasl_.challenge(), out);
      return {};
    case Next::complete: {
      Login login = sasl_.take_login();
      sasl_.reset();
      return hand_over(std::move(login), out);
    }
    case Next::aborted:
      sasl_.reset();
      say(Say::aborted, out);
      return mistaken(out);
    case Next::bad_base64:
    case Next::malformed:
      break;
  }
  refused(row(sasl_.mechanism()).name, Refusal::malformed);
  sasl_.reset();
  say(next == Next::malformed ? Say::malformed : Say::bad_base64, out);
  return failed(out);
}

Step LoginDialogue::plain_login(std::string_view method, std::string_view user, std::string_view password,
                                std::string& out) {
  Login login;
  login.method = method;
  login.message = make_plain(user, password);
  const auto parts = split_plain(login.message.reveal());
  if (!parts) {
    refused(method, Refusal::malformed);
    say(Say::malformed, out);
    return failed(out);
  }
  login.user = parts->authcid;
  return hand_over(std::move(login), out);
}

/// The credentials are whole. A name that may not be looked up ends here, as a wrong password would.
Step LoginDialogue::hand_over(Login login, std::string& out) {
  login.name = routing_name(login, rules_.claim);
  if (!login.name.empty() && !acceptable_identifier(cut_master_user(login.name, rules_.separators))) {
    refused(login.method, Refusal::name);
    say(Say::rejected, out);
    return failed(out);
  }
  login_ = std::move(login);
  complete(login_);
  return {Want::route, Parting::none};
}

Login LoginDialogue::take_login() { return std::exchange(login_, Login()); }

}  // namespace postern::protocols
