// SPDX-License-Identifier: GPL-3.0-or-later
// The verbs, what they say, and the lines they come in.
#include "protocols/pop3/dialogue.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "protocols/text.hpp"

namespace postern::protocols {
namespace {

constexpr std::string_view needs_tls = "-ERR cleartext authentication requires TLS";

constexpr Phrases phrases = {{
    {Say::no_such_mechanism, "-ERR unsupported mechanism", "-ERR unsupported mechanism"},
    {Say::login_mechanism, "-ERR unsupported mechanism", "-ERR unsupported mechanism"},
    {Say::privacy, needs_tls, needs_tls},
    {Say::bad_base64, "-ERR invalid base64", "-ERR invalid base64"},
    {Say::malformed, "-ERR malformed credentials", "-ERR malformed credentials"},
    {Say::aborted, "-ERR Authentication aborted", "-ERR Authentication aborted"},
    {Say::unavailable, "-ERR backend unavailable", "-ERR [SYS/TEMP] backend unavailable"},
    {Say::unlocated, "-ERR backend unavailable", "-ERR [SYS/TEMP] backend unavailable"},
    {Say::rejected, "-ERR Authentication failed.", "-ERR [AUTH] Authentication failed."},
    // RFC 1939, 3: no answer at a time-out, and none to what was not asked.
    {Say::timeout, "", ""},
    {Say::failures, "", ""},
    {Say::errors, "", ""},
    {Say::shutdown, "", ""},
}};
static_assert([] {
  for (size_t i = 0; i < phrases.size(); ++i)
    if (phrases[i].say != static_cast<Say>(i)) return false;
  return true;
}());

std::string_view without_spaces(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  return text.substr(0, text.find_last_not_of(' ') + 1);
}

}  // namespace

Pop3Dialogue::Pop3Dialogue(const DialogueRules& rules, bool encrypted, DialogueEvents* events)
    : LoginDialogue(rules, encrypted, phrases, events) {}

std::span<const Pop3Dialogue::Verb> Pop3Dialogue::verbs() {
  static constexpr std::array<Verb, 9> table = {{
      {"APOP", &Pop3Dialogue::apop},
      {"AUTH", &Pop3Dialogue::auth},
      {"CAPA", &Pop3Dialogue::capa},
      {"NOOP", &Pop3Dialogue::noop},
      {"PASS", &Pop3Dialogue::pass},
      {"QUIT", &Pop3Dialogue::quit},
      {"STLS", &Pop3Dialogue::stls},
      {"USER", &Pop3Dialogue::user},
      {"UTF8", &Pop3Dialogue::utf8},
  }};
  return table;
}

void Pop3Dialogue::greet(std::string& out) {
  out += "+OK ";
  out += banner();
  out += "\r\n";
}

void Pop3Dialogue::tls_started(std::string& out) {
  LoginDialogue::tls_started(out);
  user_.clear();
  utf8_ = false;
}

std::optional<Step> Pop3Dialogue::take(Input& in, std::string& out) {
  const auto text = in.line(longest_line);
  if (!text) {
    if (in.overlong()) return Step{Want::close, Parting::line_length};
    return std::nullopt;
  }
  if (in_exchange()) return answer_sasl(*text, out);
  if (!count_command()) return Step{Want::close, Parting::commands};
  const Step step = command(*text, out);
  return step.want == Want::start_tls ? upgrade(in) : step;
}

Step Pop3Dialogue::command(std::string_view text, std::string& out) {
  const std::string_view verb = text.substr(0, text.find(' '));
  if (text.find('\0') == std::string_view::npos)
    for (const Verb& known : verbs())
      if (same_word(known.name, verb)) return (this->*known.run)(text.substr(verb.size()), out);
  out += "-ERR unknown command\r\n";
  return unknown(verb, out);
}

void Pop3Dialogue::line(Say, std::string_view text, std::string& out) {
  out += text;
  out += "\r\n";
}

void Pop3Dialogue::challenge(std::string_view base64, std::string& out) {
  out += "+ ";
  out += base64;
  out += "\r\n";
}

Step Pop3Dialogue::apop(std::string_view, std::string& out) {
  out += "-ERR APOP not supported\r\n";
  return mistaken(out);
}

Step Pop3Dialogue::auth(std::string_view rest, std::string& out) {
  rest = without_spaces(rest);
  if (!rest.empty()) {
    const std::string_view name = rest.substr(0, rest.find(' '));
    const std::string_view initial = without_spaces(rest.substr(name.size()));
    return begin_sasl(name, initial.empty() ? std::nullopt : std::optional(initial), out);
  }
  out += "+OK\r\n";
  for (const std::string_view name : advertised(*rules_.capabilities, clear_ok())) {
    out += name;
    out += "\r\n";
  }
  out += ".\r\n";
  return {};
}

Step Pop3Dialogue::capa(std::string_view, std::string& out) {
  out += "+OK Capability list follows\r\n";
  if (clear_ok()) out += "USER\r\n";
  if (const auto names = advertised(*rules_.capabilities, clear_ok()); !names.empty()) {
    out += "SASL";
    for (const std::string_view name : names) {
      out += ' ';
      out += name;
    }
    out += "\r\n";
  }
  if (upgradable()) out += "STLS\r\n";
  out += "TOP\r\nRESP-CODES\r\nPIPELINING\r\nEXPIRE NEVER\r\nUIDL\r\nUTF8\r\n";
  if (const std::string& words = rules_.capabilities->implementation; !words.empty()) {
    out += "IMPLEMENTATION ";
    out += words;
    out += "\r\n";
  }
  out += ".\r\n";
  return {};
}

Step Pop3Dialogue::noop(std::string_view, std::string& out) {
  out += "+OK\r\n";
  return {};
}

Step Pop3Dialogue::pass(std::string_view rest, std::string& out) {
  if (!clear_ok()) {  // USER has been reported already
    say(Say::privacy, out);
    return mistaken(out);
  }
  if (user_.empty()) {
    out += "-ERR USER required before PASS\r\n";
    return mistaken(out);
  }
  // One space separates; all others are the password's.
  return plain_login("USER", std::exchange(user_, {}), rest.substr(std::min<size_t>(rest.size(), 1)), out);
}

Step Pop3Dialogue::quit(std::string_view, std::string& out) {
  out += "+OK Bye\r\n";
  return {Want::close, Parting::quit};
}

Step Pop3Dialogue::stls(std::string_view, std::string& out) {
  if (!upgradable()) {
    out += "-ERR STLS not available\r\n";
    return mistaken(out);
  }
  out += "+OK Begin TLS negotiation\r\n";
  return {Want::start_tls, Parting::none};
}

Step Pop3Dialogue::user(std::string_view rest, std::string& out) {
  if (!clear_ok()) {
    refused("USER", Refusal::privacy);
    say(Say::privacy, out);
    return mistaken(out);
  }
  rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
  if (rest.empty()) {
    out += "-ERR USER requires an argument\r\n";
    return mistaken(out);
  }
  user_ = rest;
  out += "+OK\r\n";
  return {};
}

Step Pop3Dialogue::utf8(std::string_view, std::string& out) {
  utf8_ = true;
  out += "+OK\r\n";
  return {};
}

}  // namespace postern::protocols
