// SPDX-License-Identifier: GPL-3.0-or-later
// One line of the backend's at a time; each is judged by what was asked before it.
#include "protocols/imap/replay.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>

#include "conf/secret.hpp"
#include "protocols/base64.hpp"
#include "protocols/sasl.hpp"
#include "protocols/tagged_request.hpp"
#include "protocols/text.hpp"

namespace postern::protocols {
namespace {

constexpr size_t literal_minus_limit = 4096;  // RFC 7888, 5

bool is_tagged(std::string_view line, std::string_view tag) {
  return line.size() > tag.size() && line.starts_with(tag) && line[tag.size()] == ' ';
}
/// With a tag of our own: some backends give it back in the other case.
bool is_own(std::string_view line, std::string_view tag) {
  return is_tagged(line, tag) || (starts_with_word(line, tag) && is_tagged(line, line.substr(0, tag.size())));
}
/// Of a line that has this tag: is this the word behind it?
bool says(std::string_view line, std::string_view tag, std::string_view word) {
  const std::string_view rest = line.substr(tag.size() + 1);
  return same_word(rest.substr(0, rest.find(' ')), word);
}

bool is_printable(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c >= ' ' && c <= '~'; });
}

void add_quoted(std::string_view text, std::string& out) {
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  out += '"';
}

void add_base64(std::string_view secret, std::string& out) {
  std::string text = base64(secret);
  out.reserve(out.size() + text.size() + 2);  // growing twice would leave a copy behind
  out += text;
  out += "\r\n";
  conf::wipe(text);
}

}  // namespace

ImapReplay::ImapReplay(const ReplayRules& rules, const Login& login)
    : rules_(rules), login_(login), tag_(is_tag(login.tag) ? std::string_view(login.tag) : "A1") {}

ReplayStep ImapReplay::advance(Input& in, std::string& out) {
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

ReplayStep ImapReplay::take(std::string_view line, std::string& out) {
  switch (await_) {
    case Await::greeting:
      return greeting(line, out);
    case Await::starttls:
      if (is_own(line, "P1") && says(line, "P1", "OK")) return end(ReplayWant::start_tls);
      if (is_tagged(line, "*") && !says(line, "*", "BYE") && ++lines_ < most_reply_lines) return {};
      return end(ReplayWant::failed, ReplayFault::starttls);
    case Await::capability:
      return capability(line, out);
    case Await::id:
      if (is_own(line, "F1")) return end(ReplayWant::ready);  // whatever it says
      if (++lines_ < most_id_lines) return {};
      return end(ReplayWant::failed, ReplayFault::forwarding);
    case Await::verdict:
      return verdict(line, out);
    case Await::nothing:
      break;
  }
  return last_;
}

ReplayStep ImapReplay::greeting(std::string_view line, std::string& out) {
  if (!is_tagged(line, "*") || !says(line, "*", "OK")) return end(ReplayWant::failed, ReplayFault::greeting);
  constexpr std::string_view code = "[CAPABILITY ";
  const std::string_view text = line.substr(std::min(line.size(), std::string_view("* OK ").size()));
  const size_t close = text.find(']');
  if (starts_with_word(text, code) && close != std::string_view::npos)
    learn(text.substr(code.size(), close - code.size()));

  if (rules_.tls != conf::TlsMode::starttls) return secured(out);
  if (offers_.known && !offers_.starttls) return end(ReplayWant::failed, ReplayFault::starttls);
  return ask("P1 STARTTLS\r\n", Await::starttls, out);
}

ReplayStep ImapReplay::tls_started(std::string& out) {
  offers_ = {};
  return secured(out);
}

/// The leg is as safe as it will be. What the backend can do decides how the credentials are said to it, so a
/// greeting that kept silent about it is asked. Everything that tells of the client goes out behind here, so
/// the leg must be fit for it.
ReplayStep ImapReplay::secured(std::string& out) {
  if (rules_.tls == conf::TlsMode::plain && !rules_.allow_plaintext)
    return end(ReplayWant::failed, ReplayFault::plaintext);
  return offers_.known ? forward(out) : ask("P2 CAPABILITY\r\n", Await::capability, out);
}

ReplayStep ImapReplay::capability(std::string_view line, std::string& out) {
  if (is_own(line, "P2")) return forward(out);
  if (++lines_ >= most_reply_lines) return end(ReplayWant::failed, ReplayFault::protocol);
  constexpr std::string_view untagged = "* CAPABILITY ";
  if (starts_with_word(line, untagged)) learn(line.substr(untagged.size()));
  return {};
}

void ImapReplay::learn(std::string_view words) {
  static constexpr std::array<Word, 9> rows = {{
      {"STARTTLS", &Offers::starttls},
      {"ID", &Offers::id},
      {"IMAP4rev2", &Offers::rev2},
      {"SASL-IR", &Offers::sasl_ir},
      {"AUTH=PLAIN", &Offers::plain},
      {"AUTH=LOGIN", &Offers::login},
      {"LOGINDISABLED", &Offers::no_login},
      {"LITERAL+", &Offers::literal_plus},
      {"LITERAL-", &Offers::literal_minus},
  }};
  offers_ = {};
  offers_.known = true;
  while (!words.empty()) {
    const size_t space = std::min(words.find(' '), words.size());
    for (const Word& row : rows)
      if (same_word(words.substr(0, space), row.name)) offers_.*row.flag = true;
    words.remove_prefix(std::min(space + 1, words.size()));
  }
}

ReplayStep ImapReplay::forward(std::string& out) {
  const std::string id =
      offers_.id ? imap_id(rules_.forward ? &rules_.client : nullptr, login_.id) : std::string();
  return id.empty() ? end(ReplayWant::ready) : ask(id, Await::id, out);
}

ReplayStep ImapReplay::ask(std::string_view command, Await next, std::string& out) {
  out += command;
  await_ = next;
  lines_ = 0;
  return {};
}

ReplayStep ImapReplay::end(ReplayWant want, ReplayFault fault) {
  await_ = Await::nothing;
  return last_ = {want, fault};
}

// --- the credentials ------------------------------------------------------------------------------------

/// AUTHENTICATE PLAIN is for all who do not say that they lack it.
ImapReplay::Form ImapReplay::best_form() const {
  if (!offers_.known || offers_.plain || offers_.rev2 || !own_password(login_)) return Form::sasl;
  if (offers_.login) return Form::sasl_login;
  return offers_.no_login ? Form::sasl : Form::command;
}

ReplayStep ImapReplay::authenticate(std::string& out) {
  form_ = best_form();
  with_initial_ = offers_.sasl_ir;
  await_ = Await::verdict;
  lines_ = 0;
  last_ = {};
  begin_login(out);
  return {};
}

void ImapReplay::begin_login(std::string& out) {
  out += tag_;
  switch (form_) {
    case Form::sasl:
      send_message(out);
      break;
    case Form::sasl_login:
      out += " AUTHENTICATE LOGIN\r\n";
      break;
    case Form::command:
      out += " LOGIN";
      send_login(out);
      break;
  }
}

/// What was not understood was perhaps only the way it was said: without an initial response, then as LOGIN.
/// False: no other way is left.
bool ImapReplay::fall_back(std::string& out) {
  if (form_ == Form::command || challenges_ != 0) return false;
  if (form_ == Form::sasl && with_initial_)
    with_initial_ = false;
  else if (own_password(login_) && !offers_.no_login)
    form_ = Form::command;
  else
    return false;
  said_.clear();
  begin_login(out);
  return true;
}

void ImapReplay::send_message(std::string& out) {
  out += " AUTHENTICATE ";
  out += row(login_.mechanism).name;
  if (!with_initial_) {
    out += "\r\n";
    return;
  }
  out += ' ';
  if (login_.message.empty())
    out += "=\r\n";
  else
    add_base64(login_.message.reveal(), out);
}

bool ImapReplay::goes_unasked(size_t literal) const {
  return offers_.literal_plus || (offers_.literal_minus && literal <= literal_minus_limit);
}

/// The arguments of LOGIN as far as they may be sent; a literal that must be asked for stops them.
void ImapReplay::send_login(std::string& out) {
  const auto parts = own_password(login_);
  if (!parts) return;
  // Twice the length is enough for everything quoted: growing would leave a copy behind.
  out.reserve(out.size() + 2 * (parts->authcid.size() + parts->password.size()) + 64);
  for (; argument_ < 2; ++argument_) {
    const std::string_view value = argument_ == 0 ? parts->authcid : parts->password;
    out += ' ';
    if (is_printable(value)) {
      add_quoted(value, out);
      continue;
    }
    const bool unasked = goes_unasked(value.size());
    out += fmt::format("{{{}{}}}\r\n", value.size(), unasked ? "+" : "");
    if (!unasked) return;
    out += value;
  }
  out += "\r\n";
}

ReplayStep ImapReplay::verdict(std::string_view line, std::string& out) {
  if (++lines_ > most_auth_lines || said_.size() > most_said)
    return end(ReplayWant::failed, ReplayFault::protocol);
  if (line.starts_with('+')) return go_on(line.find_first_not_of(' ', 1) == std::string_view::npos, out);
  said_ += line;
  said_ += "\r\n";
  if (!is_tagged(line, tag_)) return {};
  if (says(line, tag_, "BAD") && fall_back(out)) return {};
  return end(says(line, tag_, "OK") ? ReplayWant::accepted : ReplayWant::rejected);
}

/// A `+` line: what it asks for depends on what went out before it.
ReplayStep ImapReplay::go_on(bool empty, std::string& out) {
  const auto parts = form_ == Form::sasl ? std::nullopt : own_password(login_);
  if (form_ == Form::command) {
    if (!parts || argument_ >= 2) return end(ReplayWant::failed, ReplayFault::protocol);
    const std::string_view value = argument_++ == 0 ? parts->authcid : parts->password;
    out.reserve(out.size() + value.size() + 2);
    out += value;
    send_login(out);
    return {};
  }
  const unsigned before = challenges_++;
  const bool oauth = login_.mechanism != Mechanism::plain;
  if (parts && before < 2)
    add_base64(before == 0 ? parts->authcid : parts->password, out);
  else if (!parts && before == 0 && (!with_initial_ || (empty && !oauth)))
    add_base64(login_.message.reveal(), out);
  else
    out += oauth ? "AQ==\r\n" : "*\r\n";
  return {};
}

}  // namespace postern::protocols
