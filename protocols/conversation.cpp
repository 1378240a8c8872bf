// SPDX-License-Identifier: GPL-3.0-or-later
// The loop and the counting. Words and grammar are the protocols'.
#include "protocols/conversation.hpp"

#include <utility>

namespace postern::protocols {

Step Conversation::advance(Input& in, std::string& out) {
  for (;;) {
    if (out.size() >= enough_said) return {Want::pause, Parting::none};
    const std::optional<Step> step = take(in, out);
    if (!step) return {Want::input, Parting::none};
    if (step->want != Want::input) return *step;
  }
}

void Conversation::tls_started(std::string&) {
  encrypted_ = true;
  in_exchange_ = false;
  sasl_.reset();
  login_ = Login();
}

void Conversation::say(Say what, std::string& out) {
  const Phrase& phrase = phrases_[static_cast<size_t>(what)];
  const std::string_view text = rules_.courtesy ? phrase.courteous : phrase.standard;
  if (!text.empty()) line(what, text, out);
}

void Conversation::farewell(Farewell why, std::string& out) {
  say(why == Farewell::timeout ? Say::timeout : Say::shutdown, out);
}

Step Conversation::failed(std::string& out) {
  if (++failures_ < rules_.max_failures) return {};
  say(Say::failures, out);
  return {Want::close, Parting::failures};
}

Step Conversation::rejected(std::string_view said, bool hide, std::string& out) {
  if (hide)
    say(Say::rejected, out);
  else
    out += said;
  return failed(out);
}

Step Conversation::upgrade(Input& in) {
  if (!in.empty() && events_) events_->clear_text_discarded(in.size());
  in.clear();
  return {Want::start_tls, Parting::none};
}

Step Conversation::begin_sasl(std::string_view name, std::optional<std::string_view> initial,
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
    return {};
  }
  return exchange(sasl_.begin(*mechanism, initial), out);
}

Step Conversation::answer_sasl(std::string_view base64, std::string& out) {
  return exchange(sasl_.answer(base64), out);
}

Step Conversation::exchange(SaslExchange::Next next, std::string& out) {
  using Next = SaslExchange::Next;
  in_exchange_ = next == Next::challenge;
  switch (next) {
    case Next::challenge:
      challenge(sasl_.challenge(), out);
      return {};
    case Next::complete:
      login_ = sasl_.take_login();
      sasl_.reset();
      complete(login_);
      return {Want::route, Parting::none};
    case Next::aborted:
      sasl_.reset();
      say(Say::aborted, out);
      return {};
    case Next::bad_base64:
    case Next::malformed:
      break;
  }
  refused(row(sasl_.mechanism()).name, Refusal::malformed);
  sasl_.reset();
  say(next == Next::malformed ? Say::malformed : Say::bad_base64, out);
  return failed(out);
}

Step Conversation::plain_login(std::string_view method, std::string_view user, std::string_view password,
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
  login_ = std::move(login);
  complete(login_);
  return {Want::route, Parting::none};
}

Login Conversation::take_login() { return std::exchange(login_, Login()); }

}  // namespace postern::protocols
