// SPDX-License-Identifier: GPL-3.0-or-later
// The verbs, one row each, and the phrases of RFC 4954 and RFC 3463.
#include "protocols/submission/dialogue.hpp"

#include <algorithm>

#include "protocols/text.hpp"

namespace postern::protocols {
namespace {

constexpr size_t longest_name = 255;

constexpr std::string_view no_mechanism = "504 5.5.4 Unsupported authentication mechanism";
constexpr std::string_view privacy = "538 5.7.11 Encryption required for requested authentication mechanism";
constexpr std::string_view bad_base64 = "535 5.7.8 Invalid base64";
constexpr std::string_view malformed = "535 5.7.8 Malformed credentials";
constexpr std::string_view aborted = "501 5.7.0 Authentication aborted";
constexpr std::string_view unavailable = "421 4.3.0 backend unavailable";
constexpr std::string_view unlocated = "454 4.7.0 Temporary authentication failure";
constexpr std::string_view rejected = "535 5.7.8 Authentication failed.";

constexpr Phrases phrases = {{
    {Say::no_such_mechanism, no_mechanism, no_mechanism},
    {Say::login_mechanism, no_mechanism, no_mechanism},
    {Say::privacy, privacy, privacy},
    {Say::bad_base64, bad_base64, bad_base64},
    {Say::malformed, malformed, malformed},
    {Say::aborted, aborted, aborted},
    {Say::unavailable, unavailable, unavailable},
    {Say::unlocated, unlocated, unlocated},
    {Say::rejected, rejected, rejected},
    {Say::timeout, "", "421 4.4.2 Connection timed out"},
    {Say::failures, "", "421 4.7.0 Too many authentication failures"},
    {Say::errors, "", "421 4.7.0 Too many errors"},
    {Say::shutdown, "", "421 4.3.2 Server shutting down"},
}};

std::string_view without_spaces(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  return text;
}

}  // namespace

const SubmissionDialogue::Verb SubmissionDialogue::verbs[] = {
    {"EHLO", &SubmissionDialogue::ehlo},         {"LHLO", &SubmissionDialogue::ehlo},
    {"HELO", &SubmissionDialogue::helo},         {"AUTH", &SubmissionDialogue::auth},
    {"STARTTLS", &SubmissionDialogue::starttls}, {"NOOP", &SubmissionDialogue::noop},
    {"RSET", &SubmissionDialogue::noop},         {"QUIT", &SubmissionDialogue::quit},
    {"MAIL", &SubmissionDialogue::not_now},      {"RCPT", &SubmissionDialogue::not_now},
    {"DATA", &SubmissionDialogue::not_now},      {"BDAT", &SubmissionDialogue::not_now},
    {"VRFY", &SubmissionDialogue::not_now},      {"EXPN", &SubmissionDialogue::not_now},
    {"HELP", &SubmissionDialogue::not_now},      {"ETRN", &SubmissionDialogue::not_now},
    {"ATRN", &SubmissionDialogue::not_now},      {"BURL", &SubmissionDialogue::not_now},
};

SubmissionDialogue::SubmissionDialogue(const DialogueRules& rules, bool encrypted, DialogueEvents* events)
    : LoginDialogue(rules, encrypted, phrases, events) {}

void SubmissionDialogue::greet(std::string& out) {
  out += "220 ";
  out += rules_.hostname;
  out += " ESMTP ";
  // The host stands there already.
  out += rules_.greeting || !rules_.capabilities->banner.empty() ? banner() : "ready";
  out += "\r\n";
}

void SubmissionDialogue::tls_started(std::string& out) {
  LoginDialogue::tls_started(out);
  helo_.clear();
}

std::optional<Step> SubmissionDialogue::take(Input& in, std::string& out) {
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

void SubmissionDialogue::line(Say, std::string_view text, std::string& out) {
  out += text;
  out += "\r\n";
}

void SubmissionDialogue::challenge(std::string_view base64, std::string& out) {
  out += "334 ";
  out += base64;
  out += "\r\n";
}

Step SubmissionDialogue::command(std::string_view text, std::string& out) {
  if (text.find('\0') != std::string_view::npos) return syntax_error(out);
  const size_t space = std::min(text.find(' '), text.size());
  for (const Verb& verb : verbs)
    if (same_word(verb.name, text.substr(0, space)))
      return (this->*verb.act)(without_spaces(text.substr(space)), out);
  out += "500 5.5.2 Syntax error\r\n";
  return unknown(text.substr(0, space), out);
}

Step SubmissionDialogue::syntax_error(std::string& out) {
  out += "500 5.5.2 Syntax error\r\n";
  return mistaken(out);
}

bool SubmissionDialogue::introduce(std::string_view rest) {
  const std::string_view name = rest.substr(0, rest.find(' '));
  if (name.empty() || name.size() > longest_name || std::ranges::any_of(name, is_control)) return false;
  helo_ = name;
  return true;
}

Step SubmissionDialogue::ehlo(std::string_view rest, std::string& out) {
  if (!introduce(rest)) return syntax_error(out);
  // Every line gets its end from the next one, so that the last can be marked.
  std::string text(rules_.hostname);
  text += " at your service, [" + helo_ + "]";
  const auto next = [&](std::string_view keyword) {
    out += "250-" + text + "\r\n";
    text = keyword;
  };
  for (const std::string& keyword : rules_.capabilities->ehlo) next(keyword);
  if (upgradable()) next("STARTTLS");
  if (const auto mechanisms = advertised(*rules_.capabilities, clear_ok()); !mechanisms.empty()) {
    next("AUTH");
    for (const std::string_view mechanism : mechanisms) {
      text += ' ';
      text += mechanism;
    }
  }
  out += "250 " + text + "\r\n";
  return {};
}

Step SubmissionDialogue::helo(std::string_view rest, std::string& out) {
  if (!introduce(rest)) return syntax_error(out);
  out += "250 ";
  out += rules_.hostname;
  out += "\r\n";
  return {};
}

Step SubmissionDialogue::auth(std::string_view rest, std::string& out) {
  if (rest.empty()) return syntax_error(out);
  const size_t space = std::min(rest.find(' '), rest.size());
  const std::string_view initial = without_spaces(rest.substr(space));
  return begin_sasl(rest.substr(0, space), initial.empty() ? std::nullopt : std::optional(initial), out);
}

Step SubmissionDialogue::starttls(std::string_view, std::string& out) {
  if (!upgradable()) {
    out += "503 5.5.1 STARTTLS not available\r\n";
    return mistaken(out);
  }
  out += "220 2.0.0 Ready to start TLS\r\n";
  return {Want::start_tls, Parting::none};
}

Step SubmissionDialogue::noop(std::string_view, std::string& out) {
  out += "250 2.0.0 OK\r\n";
  return {};
}

Step SubmissionDialogue::quit(std::string_view, std::string& out) {
  out += "221 2.0.0 Bye\r\n";
  return {Want::close, Parting::quit};
}

Step SubmissionDialogue::not_now(std::string_view, std::string& out) {
  out += "503 5.5.1 Command not allowed here\r\n";
  return mistaken(out);
}

}  // namespace postern::protocols
