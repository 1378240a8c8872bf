// SPDX-License-Identifier: GPL-3.0-or-later
// One line of the backend's at a time; each is judged by what was asked before it.
#include "protocols/pop3/replay.hpp"

#include <algorithm>
#include <array>
#include <span>

#include "conf/secret.hpp"
#include "protocols/base64.hpp"
#include "protocols/sasl.hpp"
#include "protocols/text.hpp"

namespace postern::protocols {
namespace {

constexpr size_t longest_auth = 255;  // RFC 5034, 4, CR LF included

bool is_ok(std::string_view line) { return starts_with_word(line, "+OK"); }
bool is_error(std::string_view line) { return starts_with_word(line, "-ERR"); }
bool is_challenge(std::string_view line) { return line == "+" || line.starts_with("+ "); }

/// What backends call a command they do not have, and one with more behind it than they can read. POP3 has no
/// code for either.
constexpr std::array<std::string_view, 11> unknown_words = {
    "unknown command", "unrecognized",      "unrecognised", "not recognized",
    "not recognised",  "not implemented",   "unsupported",  "not supported",
    "invalid command", "unknown mechanism", "bad command"};
constexpr std::array<std::string_view, 3> argument_words = {"argument", "parameter", "syntax error"};

bool has_one(std::string_view line, std::span<const std::string_view> known) {
  if (starts_with_word(line, "-ERR [AUTH]")) return false;  // RFC 3206: it was the password
  return std::ranges::any_of(known, [&](std::string_view words) {
    for (size_t i = 0; i + words.size() <= line.size(); ++i)
      if (starts_with_word(line.substr(i), words)) return true;
    return false;
  });
}

template <class Each>
void for_each_word(std::string_view text, Each&& each) {
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    if (end != 0) each(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

/// XCLIENT as a word of a bracketed code; anywhere in the line, as existing backends have it.
bool has_xclient_code(std::string_view line) {
  bool found = false;
  for (;;) {
    const size_t open = line.find('[');
    if (open == std::string_view::npos) return found;
    line.remove_prefix(open + 1);
    const size_t close = line.find(']');
    if (close == std::string_view::npos) return found;
    for_each_word(line.substr(0, close), [&](std::string_view word) { found |= same_word(word, "XCLIENT"); });
    line.remove_prefix(close + 1);
  }
}

void add_line(std::string_view text, std::string& out) {
  out.reserve(out.size() + text.size() + 2);  // growing twice would leave a copy behind
  out += text;
  out += "\r\n";
}

void add_base64(std::string_view secret, std::string& out) {
  std::string text = base64(secret);
  add_line(text, out);
  conf::wipe(text);
}

bool one_line(std::string_view text) {
  return text.find_first_of(std::string_view("\r\n\0", 3)) == std::string_view::npos;
}

}  // namespace

ReplayStep Pop3Replay::advance(Input& in, std::string& out) {
  const size_t asked = out.size();
  while (await_ != Await::nothing) {
    if (out.size() != asked) return {};
    const auto line = in.line(longest_line);
    if (!line) return in.overlong() ? end(ReplayWant::failed, ReplayFault::protocol) : ReplayStep{};
    const ReplayStep step = take(*line, out);
    if (step.want == ReplayWant::start_tls && !in.empty())
      return end(ReplayWant::failed, ReplayFault::starttls);  // said in clear, to be read inside TLS
  }
  return last_;
}

ReplayStep Pop3Replay::take(std::string_view line, std::string& out) {
  switch (await_) {
    case Await::greeting:
      return greeting(line, out);
    case Await::capa:
      if (!is_ok(line)) return end(ReplayWant::failed, ReplayFault::starttls);
      offers_.listed = true;
      lines_ = 1;
      await_ = Await::capability;
      return {};
    case Await::capability:
      return capability(line, out);
    case Await::stls:
      return is_ok(line) ? end(ReplayWant::start_tls) : end(ReplayWant::failed, ReplayFault::starttls);
    case Await::xclient:
      return is_ok(line) ? announce_utf8(out) : end(ReplayWant::failed, ReplayFault::forwarding);
    case Await::utf8:
      return end(ReplayWant::ready);  // whatever it says
    case Await::auth:
    case Await::user:
    case Await::pass:
      return verdict(line, out);
    case Await::nothing:
      break;
  }
  return last_;
}

ReplayStep Pop3Replay::greeting(std::string_view line, std::string& out) {
  if (!is_ok(line)) return end(ReplayWant::failed, ReplayFault::greeting);
  xclient_ = has_xclient_code(line);
  return rules_.tls == conf::TlsMode::starttls ? ask("CAPA", Await::capa, out) : forward(out);
}

ReplayStep Pop3Replay::capability(std::string_view line, std::string& out) {
  if (++lines_ > most_reply_lines) return end(ReplayWant::failed, ReplayFault::protocol);
  if (line == ".")
    return offers_.stls ? ask("STLS", Await::stls, out) : end(ReplayWant::failed, ReplayFault::starttls);
  bool sasl = false, first = true;
  for_each_word(line, [&](std::string_view word) {
    if (first) {
      offers_.stls |= same_word(word, "STLS");
      offers_.utf8 |= same_word(word, "UTF8");
      offers_.user |= same_word(word, "USER");
      sasl = same_word(word, "SASL");
    } else if (sasl) {
      offers_.plain |= same_word(word, "PLAIN");
      offers_.login |= same_word(word, "LOGIN");
    }
    first = false;
  });
  return {};
}

ReplayStep Pop3Replay::tls_started(std::string& out) { return forward(out); }

ReplayStep Pop3Replay::forward(std::string& out) {
  if (rules_.tls == conf::TlsMode::plain && !rules_.allow_plaintext)
    return end(ReplayWant::failed, ReplayFault::plaintext);
  if (!rules_.forward || !xclient_) return announce_utf8(out);
  out += xclient_all(rules_.client);
  await_ = Await::xclient;
  return {};
}

ReplayStep Pop3Replay::announce_utf8(std::string& out) {
  return login_.utf8 && offers_.utf8 ? ask("UTF8", Await::utf8, out) : end(ReplayWant::ready);
}

ReplayStep Pop3Replay::ask(std::string_view command, Await next, std::string& out) {
  add_line(command, out);
  await_ = next;
  return {};
}

ReplayStep Pop3Replay::end(ReplayWant want, ReplayFault fault) {
  await_ = Await::nothing;
  return last_ = {want, fault};
}

// --- the credentials
// ----------------------------------------------------------------------------------------

/// What USER and PASS can carry of the message. Nothing: it must go as it is.
std::optional<PlainParts> Pop3Replay::name_and_password() const {
  const auto parts = own_password(login_);
  if (!parts || !one_line(parts->authcid) || !one_line(parts->password)) return std::nullopt;
  return parts;
}

Pop3Replay::Form Pop3Replay::best_form() const {
  if (!offers_.listed || offers_.plain || !name_and_password()) return Form::sasl;
  if (offers_.user) return Form::user_pass;
  return offers_.login ? Form::sasl_login : Form::sasl;
}

ReplayStep Pop3Replay::authenticate(std::string& out) {
  lines_ = 0;
  form_ = best_form();
  switch (form_) {
    case Form::user_pass:
      return send_user(out);
    case Form::sasl_login:
      return ask("AUTH LOGIN", Await::auth, out);
    case Form::sasl:
      break;
  }
  with_initial_ = true;
  send_auth(out);
  return last_;
}

void Pop3Replay::send_auth(std::string& out) {
  std::string text = base64(login_.message.reveal());
  const std::string_view name = row(login_.mechanism).name;
  with_initial_ = with_initial_ && 5 + name.size() + 1 + text.size() + 2 <= longest_auth && !text.empty();
  out.reserve(out.size() + longest_auth);
  out += "AUTH ";
  out += name;
  if (with_initial_) {
    out += ' ';
    out += text;
  }
  out += "\r\n";
  conf::wipe(text);
  await_ = Await::auth;
  last_ = {};
}

/// What was not understood was perhaps only the way it was said: without an initial response, then as USER
/// and PASS. False: it was the password, or no other way is left.
bool Pop3Replay::fall_back(std::string_view line, std::string& out) {
  if (await_ != Await::auth || form_ != Form::sasl || challenges_ != 0 || !is_error(line)) return false;
  const bool arguments = has_one(line, argument_words);
  if (!arguments && !has_one(line, unknown_words)) return false;
  if (arguments && with_initial_) {
    with_initial_ = false;
    send_auth(out);
    return true;
  }
  if (!name_and_password()) return false;
  form_ = Form::user_pass;
  send_user(out);
  return true;
}

ReplayStep Pop3Replay::verdict(std::string_view line, std::string& out) {
  if (++lines_ > most_auth_lines) return end(ReplayWant::failed, ReplayFault::protocol);
  if (await_ == Await::auth && is_challenge(line)) {
    answer_challenge(line.find_first_not_of(' ', 1) == std::string_view::npos, out);
    return {};
  }
  if (await_ == Await::user && is_ok(line)) {
    send_pass(out);
    return {};
  }
  if (fall_back(line, out)) return {};
  // Only -ERR is a no to the password. What is neither is no POP3, and not the client's fault.
  if (!is_ok(line) && !is_error(line)) return end(ReplayWant::failed, ReplayFault::protocol);
  add_line(line, said_);
  return end(is_ok(line) ? ReplayWant::accepted : ReplayWant::rejected);
}

void Pop3Replay::answer_challenge(bool empty, std::string& out) {
  const unsigned before = challenges_++;
  const auto parts = form_ == Form::sasl_login ? name_and_password() : std::nullopt;
  const bool oauth = login_.mechanism != Mechanism::plain;
  if (parts && before < 2)
    add_base64(before == 0 ? parts->authcid : parts->password, out);
  else if (!parts && before == 0 && (!with_initial_ || (empty && !oauth)))
    add_base64(login_.message.reveal(), out);
  else
    add_line(oauth ? "AQ==" : "*", out);
}

ReplayStep Pop3Replay::send_user(std::string& out) {
  const auto parts = name_and_password();
  out += "USER ";
  add_line(parts ? parts->authcid : std::string_view(), out);
  await_ = Await::user;
  return last_ = {};
}

void Pop3Replay::send_pass(std::string& out) {
  const auto parts = name_and_password();
  const std::string_view password = parts ? parts->password : std::string_view();
  out.reserve(out.size() + 5 + password.size() + 2);
  out += "PASS ";
  add_line(password, out);
  await_ = Await::pass;
}

}  // namespace postern::protocols
