// SPDX-License-Identifier: GPL-3.0-or-later
// The verbs and what they say. The grammar is the one that IMAP has, without tags.
#include "protocols/managesieve/dialogue.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>

#include "conf/secret.hpp"
#include "protocols/text.hpp"

namespace postern::protocols {
namespace {

constexpr Phrases phrases = {{
    {Say::no_such_mechanism, "NO \"Unsupported mechanism\"", "NO \"Unsupported mechanism\""},
    {Say::login_mechanism, "NO \"Unsupported mechanism\"", "NO \"Unsupported mechanism\""},
    {Say::privacy, "NO \"Cleartext authentication requires TLS\"",
     "NO (ENCRYPT-NEEDED) \"Cleartext authentication requires TLS\""},
    {Say::bad_base64, "NO \"Invalid base64\"", "NO \"Invalid base64\""},
    {Say::malformed, "NO \"Malformed credentials\"", "NO \"Malformed credentials\""},
    {Say::aborted, "NO \"Authentication aborted\"", "NO \"Authentication aborted\""},
    {Say::unavailable, "NO \"backend unavailable\"", "NO (TRYLATER) \"backend unavailable\""},
    {Say::unlocated, "NO \"backend unavailable\"", "NO (TRYLATER) \"backend unavailable\""},
    {Say::rejected, "NO \"Authentication failed.\"", "NO \"Authentication failed.\""},
    {Say::timeout, "", "BYE \"Connection timed out\""},
    {Say::failures, "", "BYE \"Too many authentication failures\""},
    {Say::errors, "", "BYE \"Too many errors\""},
    {Say::shutdown, "", "BYE (TRYLATER) \"Server shutting down\""},
}};
static_assert([] {
  for (size_t i = 0; i < phrases.size(); ++i)
    if (phrases[i].say != static_cast<Say>(i)) return false;
  return true;
}());

void add_quoted(std::string_view text, std::string& out) {
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  out += '"';
}

/// A capability and its value on a line.
void add_capability(std::string_view name, std::string_view value, std::string& out) {
  add_quoted(name, out);
  out += ' ';
  add_quoted(value, out);
  out += "\r\n";
}

template <class Words>
std::string joined(const Words& words) {
  std::string text;
  for (const auto& word : words) {
    if (!text.empty()) text += ' ';
    text += word;
  }
  return text;
}

/// Of the parser's complaints, those about size.
bool is_about_size(std::string_view error) {
  constexpr std::array<std::string_view, 3> words = {"exceeds", "too long", "not a valid number"};
  return std::ranges::any_of(
      words, [&](std::string_view word) { return error.find(word) != std::string_view::npos; });
}

}  // namespace

ManageSieveDialogue::ManageSieveDialogue(const DialogueRules& rules, bool encrypted, DialogueEvents* events)
    : LoginDialogue(rules, encrypted, phrases, events) {}

std::span<const ManageSieveDialogue::Verb> ManageSieveDialogue::verbs() {
  static constexpr std::array<Verb, 5> table = {{
      {"AUTHENTICATE", &ManageSieveDialogue::authenticate},
      {"CAPABILITY", &ManageSieveDialogue::capability},
      {"LOGOUT", &ManageSieveDialogue::logout},
      {"NOOP", &ManageSieveDialogue::noop},
      {"STARTTLS", &ManageSieveDialogue::starttls},
  }};
  return table;
}

void ManageSieveDialogue::tls_started(std::string& out) {
  LoginDialogue::tls_started(out);
  parser_.reset();
  block(out);
}

void ManageSieveDialogue::block(std::string& out) const {
  const conf::CapabilitiesConf& capabilities = *rules_.capabilities;
  add_capability("IMPLEMENTATION", capabilities.implementation, out);
  add_capability("VERSION", "1.0", out);
  add_capability("SASL", joined(advertised(capabilities, clear_ok())), out);
  add_capability("SIEVE", joined(capabilities.sieve), out);
  if (upgradable()) out += "\"STARTTLS\"\r\n";
  // RFC 5804, 1.7: whoever lists enotify says which ways of notifying it knows.
  if (std::ranges::find(capabilities.sieve, "enotify") != capabilities.sieve.end())
    add_capability("NOTIFY", "mailto", out);
  out += "OK ";
  add_quoted(banner(), out);
  out += "\r\n";
}

std::optional<Step> ManageSieveDialogue::take(Input& in, std::string& out) {
  switch (parser_.next(in)) {
    case TaggedRequestParser::Event::more:
      return std::nullopt;
    case TaggedRequestParser::Event::go_ahead:
      // The answer to a challenge comes without leave: another literal there would be another challenge.
      if (!in_exchange()) out += fmt::format("{{{}}}\r\n", parser_.literal_size());
      return Step{};
    case TaggedRequestParser::Event::lost:
      return Step{Want::close, Parting::line_length};
    case TaggedRequestParser::Event::error:
      return unparsable(out);
    case TaggedRequestParser::Event::request:
      break;
  }
  if (!in_exchange() && !count_command()) return Step{Want::close, Parting::commands};
  const Step step = in_exchange() ? answer(out) : command(out);
  parser_.reset();  // what it held may be a password
  if (in_exchange()) parser_.expect_answer();
  return step.want == Want::start_tls ? upgrade(in) : step;
}

Step ManageSieveDialogue::unparsable(std::string& out) {
  if (in_exchange()) {
    if (is_about_size(parser_.error())) return {Want::close, Parting::line_length};
    return answer_sasl("?", out);  // no base64 at any rate
  }
  if (!count_command()) return {Want::close, Parting::commands};
  std::string error(parser_.error());
  std::ranges::replace(error, '"', ' ');
  out += fmt::format("NO \"{}\"\r\n", error);
  return unknown(parser_.command(), out);
}

/// A string, or a line of base64, which white space may have cut.
Step ManageSieveDialogue::answer(std::string& out) {
  const size_t count = parser_.argument_count();
  if (count == TaggedRequestParser::most_arguments) return answer_sasl("?", out);  // perhaps not all of them
  if (count <= 1) return answer_sasl(count == 0 ? std::string_view() : text(0).value_or("?"), out);
  std::string whole;
  whole.reserve(TaggedRequestParser::longest_request);  // growing would leave copies behind
  for (size_t i = 0; i < count; ++i) whole += text(i).value_or("?");
  const Step step = answer_sasl(whole, out);
  conf::wipe(whole);
  return step;
}

Step ManageSieveDialogue::command(std::string& out) {
  for (const Verb& verb : verbs())
    if (same_word(verb.name, parser_.command())) return (this->*verb.run)(out);
  out += "NO \"Command not allowed in this state.\"\r\n";
  return unknown(parser_.command(), out);
}

std::optional<std::string_view> ManageSieveDialogue::text(size_t index) const {
  if (index >= parser_.argument_count()) return std::nullopt;
  const TaggedRequestParser::Argument argument = parser_.argument(index);
  return argument.is_string() ? std::optional(argument.value) : std::nullopt;
}

void ManageSieveDialogue::line(Say, std::string_view text, std::string& out) {
  out += text;
  out += "\r\n";
}

void ManageSieveDialogue::challenge(std::string_view base64, std::string& out) {
  out += fmt::format("{{{}}}\r\n{}\r\n", base64.size(), base64);
}

Step ManageSieveDialogue::authenticate(std::string& out) {
  if (const auto mechanism = text(0)) return begin_sasl(*mechanism, text(1), out);
  out += "NO \"Missing mechanism\"\r\n";
  return mistaken(out);
}

Step ManageSieveDialogue::capability(std::string& out) {
  block(out);
  return {};
}

Step ManageSieveDialogue::logout(std::string& out) {
  out += "OK \"Logout completed.\"\r\n";
  return {Want::close, Parting::quit};
}

Step ManageSieveDialogue::noop(std::string& out) {
  const auto tag = text(0);
  if (tag)
    out += fmt::format("OK (TAG {{{}}}\r\n{}) \"Done\"\r\n", tag->size(), *tag);
  else
    out += "OK \"NOOP completed.\"\r\n";
  return {};
}

Step ManageSieveDialogue::starttls(std::string& out) {
  if (!upgradable()) {
    out += "NO \"STARTTLS not available\"\r\n";
    return mistaken(out);
  }
  out += "OK \"Begin TLS negotiation now.\"\r\n";
  return {Want::start_tls, Parting::none};
}

}  // namespace postern::protocols
