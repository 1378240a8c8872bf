// SPDX-License-Identifier: GPL-3.0-or-later
// Replies are read line by line and judged when whole; what a line offers is noted as it passes.
#include "protocols/submission/replay.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <optional>

#include "protocols/base64.hpp"
#include "protocols/sasl.hpp"
#include "protocols/text.hpp"

namespace postern::protocols {
namespace {

constexpr size_t longest_auth_line = 512;  // RFC 4954, 4: it stays a command, CR LF included
constexpr size_t longest_name = 255;

ReplayStep failed(ReplayFault fault) { return {ReplayWant::failed, fault}; }

constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// The next word and what is behind it.
std::string_view take_word(std::string_view& text) {
  const size_t space = std::min(text.find(' '), text.size());
  const std::string_view word = text.substr(0, space);
  text.remove_prefix(std::min(space + 1, text.size()));
  return word;
}

/// Checked by the dialogue, and once more where it is written.
bool fit_for_ehlo(std::string_view name) {
  return !name.empty() && name.size() <= longest_name &&
         std::ranges::none_of(name, [](char c) { return is_control(c) || c == ' '; });
}

}  // namespace

ReplayStep SubmissionReplay::advance(Input& in, std::string& out) {
  if (phase_ == Phase::ready) return {ReplayWant::ready, ReplayFault::none};
  const size_t asked = out.size();
  for (;;) {
    const auto line = in.line(longest_line);
    if (!line) return in.overlong() ? failed(ReplayFault::protocol) : ReplayStep{};
    if (!take_line(*line))
      return failed(phase_ == Phase::greeting ? ReplayFault::greeting : ReplayFault::protocol);
    if (!last_) continue;
    const ReplayStep step = reply_complete(in, out);
    code_ = 0;
    if (step.want != ReplayWant::input || out.size() != asked) return step;
  }
}

bool SubmissionReplay::take_line(std::string_view line) {
  const bool login = phase_ == Phase::auth;
  if (code_ == 0 && !login) lines_ = 0;
  if (++lines_ > (login ? most_auth_lines : most_reply_lines) || said_.size() > most_said) return false;
  if (line.size() < 3 || !std::ranges::all_of(line.substr(0, 3), is_digit)) return false;
  if (line.size() > 3 && line[3] != ' ' && line[3] != '-') return false;
  const int code = (line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0');
  // A reply of two minds could be read two ways.
  if (code < 100 || (code_ != 0 && code != code_)) return false;
  if (code_ == 0) {
    said_.clear();
    if (phase_ == Phase::ehlo) offers_ = Offers();
  }
  code_ = code;
  last_ = line.size() == 3 || line[3] == ' ';
  const std::string_view text = line.substr(std::min<size_t>(4, line.size()));
  empty_text_ = text.empty();
  if (phase_ == Phase::ehlo) note_keyword(text);
  if (login) {
    said_ += line;
    said_ += "\r\n";
  }
  return true;
}

/// One pass over a keyword line; AUTH also in the form before RFC 2554, `AUTH=PLAIN`.
void SubmissionReplay::note_keyword(std::string_view text) {
  constexpr std::string_view old_auth = "AUTH=";
  if (starts_with_word(text, old_auth)) {
    text.remove_prefix(old_auth.size());
  } else {
    const std::string_view keyword = take_word(text);
    if (same_word(keyword, "STARTTLS")) offers_.starttls = true;
    if (same_word(keyword, "XCLIENT") && !offers_.xclient) {
      offers_.xclient = true;
      offers_.attributes = text;
    }
    if (!same_word(keyword, "AUTH")) return;
  }
  while (!text.empty()) {
    const auto mechanism = mechanism_named(take_word(text));
    offers_.plain |= mechanism == Mechanism::plain;
    offers_.login |= mechanism == Mechanism::login;
  }
}

ReplayStep SubmissionReplay::reply_complete(const Input& in, std::string& out) {
  switch (phase_) {
    case Phase::greeting:
      if (code_ != 220) return failed(ReplayFault::greeting);
      say_ehlo(out);
      return {};
    case Phase::ehlo:
      if (code_ != 250) return failed(ReplayFault::greeting);
      return ehlo_complete(out);
    case Phase::starttls:
      // What lies behind the go-ahead was said in clear and would be read as if it were not.
      if (code_ != 220 || !in.empty()) return failed(ReplayFault::starttls);
      return {ReplayWant::start_tls, ReplayFault::none};
    case Phase::xclient:
      if (code_ / 100 != 2) return failed(ReplayFault::forwarding);
      say_ehlo(out);
      return {};
    case Phase::ready:
    case Phase::auth:
      break;
  }
  return verdict(out);
}

void SubmissionReplay::say_ehlo(std::string& out) {
  phase_ = Phase::ehlo;
  out += "EHLO ";
  out += fit_for_ehlo(login_.helo) ? std::string_view(login_.helo)
         : rules_.hostname.empty() ? std::string_view("proxy")
                                   : rules_.hostname;
  out += "\r\n";
}

ReplayStep SubmissionReplay::ehlo_complete(std::string& out) {
  if (rules_.tls == conf::TlsMode::starttls && !tls_) {
    if (!offers_.starttls) return failed(ReplayFault::starttls);
    phase_ = Phase::starttls;
    out += "STARTTLS\r\n";
    return {};
  }
  if (rules_.tls == conf::TlsMode::plain && !rules_.allow_plaintext) return failed(ReplayFault::plaintext);
  if (rules_.forward && offers_.xclient && !introduced_) {
    introduced_ = true;
    const std::string command = xclient_filtered(rules_.client, login_.helo, offers_.attributes);
    if (!command.empty()) {
      phase_ = Phase::xclient;
      out += command;
      return {};
    }
  }
  phase_ = Phase::ready;
  return {ReplayWant::ready, ReplayFault::none};
}

ReplayStep SubmissionReplay::tls_started(std::string& out) {
  tls_ = true;
  offers_ = Offers();
  say_ehlo(out);
  return {};
}

/// Whether PLAIN must be said as AUTH LOGIN: the backend lists that one alone, and nothing is lost by it.
bool SubmissionReplay::login_only() const {
  return offers_.login && !offers_.plain && own_password(login_).has_value();
}

ReplayStep SubmissionReplay::authenticate(std::string& out) {
  phase_ = Phase::auth;
  lines_ = 0;
  said_.clear();
  if (login_only())
    send_login(out);
  else
    send_auth(out);
  return {};
}

void SubmissionReplay::send_login(std::string& out) {
  answer_ = Answer::user;
  out += "AUTH LOGIN\r\n";
}

void SubmissionReplay::send_auth(std::string& out) {
  const std::string command = "AUTH " + std::string(row(login_.mechanism).name);
  const size_t encoded = (login_.message.reveal().size() + 2) / 3 * 4;
  if (command.size() + 1 + encoded + 2 > longest_auth_line) {
    answer_ = Answer::whole;
    out += command + "\r\n";
    return;
  }
  answer_ = login_.mechanism == Mechanism::plain ? Answer::whole_again : Answer::dummy;
  send_secret(command + " ", login_.message.reveal(), out);
}

/// The codes of a command that was not understood (RFC 4954, 4) say nothing of the password: it is said
/// without an initial response, then as AUTH LOGIN. False: no other way is left.
bool SubmissionReplay::fall_back(std::string& out) {
  if (challenged_ || (code_ != 500 && code_ != 501 && code_ != 502 && code_ != 504)) return false;
  const bool had_initial = answer_ == Answer::whole_again || answer_ == Answer::dummy;
  if (had_initial && code_ != 504) {  // 504: it was the mechanism
    answer_ = Answer::whole;
    out += fmt::format("AUTH {}\r\n", row(login_.mechanism).name);
    return true;
  }
  if (answer_ == Answer::user || !own_password(login_)) return false;
  send_login(out);
  return true;
}

ReplayStep SubmissionReplay::verdict(std::string& out) {
  if (code_ == 334) {
    said_.clear();  // a challenge is for Postern alone
    answer_challenge(out);
    return {};
  }
  if (fall_back(out)) return {};
  return {code_ / 100 == 2 ? ReplayWant::accepted : ReplayWant::rejected, ReplayFault::none};
}

void SubmissionReplay::answer_challenge(std::string& out) {
  const Answer now = answer_;
  challenged_ = true;
  const bool plain = login_.mechanism == Mechanism::plain;
  answer_ = now == Answer::user ? Answer::password : plain ? Answer::cancel : Answer::dummy;
  if (now == Answer::whole || (now == Answer::whole_again && empty_text_)) {
    send_secret("", login_.message.reveal(), out);
  } else if (now == Answer::user || now == Answer::password) {
    const auto parts = own_password(login_);
    send_secret("", now == Answer::user ? parts->authcid : parts->password, out);
  } else {
    out += now == Answer::dummy ? "AQ==\r\n" : "*\r\n";
  }
}

/// The room is made first: no copy is left behind where `out` used to be.
void SubmissionReplay::send_secret(std::string_view before, std::string_view secret, std::string& out) const {
  std::string encoded = base64(secret);
  out.reserve(out.size() + before.size() + encoded.size() + 2);
  out += before;
  out += encoded;
  out += "\r\n";
  conf::wipe(encoded);
}

}  // namespace postern::protocols
