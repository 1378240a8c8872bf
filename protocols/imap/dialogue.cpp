// SPDX-License-Identifier: GPL-3.0-or-later
// One row a command; everything that is no row is not allowed before a login.
#include "protocols/imap/dialogue.hpp"

#include <fmt/core.h>

#include <array>
#include <charconv>

#include "protocols/text.hpp"

namespace postern::protocols {
namespace {

constexpr Phrases phrases = {{
    {Say::no_such_mechanism, "NO Unsupported authentication mechanism.",
     "NO Unsupported authentication mechanism."},
    {Say::login_mechanism, "NO AUTH LOGIN is not supported.", "NO AUTH LOGIN is not supported."},
    {Say::privacy, "NO [PRIVACYREQUIRED] Cleartext authentication requires TLS.",
     "NO [PRIVACYREQUIRED] Cleartext authentication requires TLS."},
    {Say::bad_base64, "NO Invalid base64 in SASL response.", "NO Invalid base64 in SASL response."},
    {Say::malformed, "NO Malformed credentials.", "NO Malformed credentials."},
    {Say::aborted, "BAD Authentication aborted.", "BAD Authentication aborted."},
    {Say::unavailable, "NO [UNAVAILABLE] backend unavailable", "NO [UNAVAILABLE] backend unavailable"},
    {Say::unlocated, "NO [UNAVAILABLE] backend unavailable", "NO [UNAVAILABLE] backend unavailable"},
    {Say::rejected, "NO [AUTHENTICATIONFAILED] Authentication failed.",
     "NO [AUTHENTICATIONFAILED] Authentication failed."},
    {Say::timeout, "", "BYE Autologout; idle for too long."},
    {Say::failures, "", "BYE Too many authentication failures."},
    {Say::errors, "", "BYE Too many errors."},
    {Say::shutdown, "", "BYE Server shutting down."},
}};

// RFC 2971, 3.3
constexpr size_t most_id_fields = 30, longest_id_field = 30, longest_id_value = 1024;

std::optional<uint32_t> decimal(std::string_view text) {
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

std::span<const ImapDialogue::Verb> ImapDialogue::verbs() {
  static constexpr std::array<Verb, 7> rows = {{
      {"AUTHENTICATE", &ImapDialogue::authenticate},
      {"CAPABILITY", &ImapDialogue::capability},
      {"ID", &ImapDialogue::id},
      {"LOGIN", &ImapDialogue::login},
      {"LOGOUT", &ImapDialogue::logout},
      {"NOOP", &ImapDialogue::noop},
      {"STARTTLS", &ImapDialogue::starttls},
  }};
  return rows;
}

ImapDialogue::ImapDialogue(const DialogueRules& rules, bool encrypted, DialogueEvents* events)
    : LoginDialogue(rules, encrypted, phrases, events) {}

void ImapDialogue::greet(std::string& out) {
  out += fmt::format("* OK [CAPABILITY {}] {}\r\n", capabilities(), banner());
}

void ImapDialogue::tls_started(std::string& out) {
  LoginDialogue::tls_started(out);
  parser_.reset();
  tag_.clear();
  id_.clear();
  ttl_.reset();
}

std::optional<Step> ImapDialogue::take(Input& in, std::string& out) {
  if (in_exchange()) {
    const auto response = in.line(longest_line);
    if (response) return answer_sasl(*response, out);
    if (!in.overlong()) return std::nullopt;
    return Step{Want::close, Parting::line_length};
  }
  switch (parser_.next(in)) {
    case TaggedRequestParser::Event::more:
      return std::nullopt;
    case TaggedRequestParser::Event::go_ahead:
      out += fmt::format("+ Ready for {} bytes.\r\n", parser_.literal_size());
      return Step{};
    case TaggedRequestParser::Event::lost:
      return Step{Want::close, Parting::line_length};
    case TaggedRequestParser::Event::error:
      if (!count_command()) return Step{Want::close, Parting::commands};
      out += fmt::format("{} BAD {}\r\n", parser_.tag().empty() ? "*" : parser_.tag(), parser_.error());
      return unknown(parser_.tag(), out);
    case TaggedRequestParser::Event::request:
      break;
  }
  if (!count_command()) return Step{Want::close, Parting::commands};
  const Step step = command(out);
  parser_.reset();  // what it held may be a password
  return step.want == Want::start_tls ? upgrade(in) : step;
}

Step ImapDialogue::command(std::string& out) {
  tag_ = parser_.tag();
  for (const Verb& verb : verbs())
    if (same_word(verb.name, parser_.command())) return (this->*verb.run)(out);
  tagged("BAD Command not allowed in this state.", out);
  return unknown(tag_, out);
}

Step ImapDialogue::authenticate(std::string& out) {
  const auto mechanism = text(0);
  if (mechanism) return begin_sasl(*mechanism, text(1), out);
  tagged("BAD Missing mechanism.", out);
  return mistaken(out);
}

Step ImapDialogue::capability(std::string& out) {
  out += "* CAPABILITY " + capabilities() + "\r\n";
  tagged("OK CAPABILITY completed.", out);
  return {};
}

Step ImapDialogue::id(std::string& out) {
  learn_id();
  out += "* ID NIL\r\n";
  tagged("OK ID completed.", out);
  return {};
}

Step ImapDialogue::login(std::string& out) {
  constexpr std::string_view method = "LOGIN command";  // not the mechanism of that name
  const auto user = text(0), password = text(1);
  if (!user || !password) {
    tagged("BAD LOGIN requires a username and password.", out);
    return mistaken(out);
  }
  if (!clear_ok()) {
    refused(method, Refusal::privacy);
    tagged("NO [PRIVACYREQUIRED] Cleartext login requires TLS.", out);
    return mistaken(out);
  }
  return plain_login(method, *user, *password, out);
}

Step ImapDialogue::logout(std::string& out) {
  out += "* BYE Logging out\r\n";
  tagged("OK LOGOUT completed.", out);
  return {Want::close, Parting::quit};
}

Step ImapDialogue::noop(std::string& out) {
  tagged("OK NOOP completed.", out);
  return {};
}

Step ImapDialogue::starttls(std::string& out) {
  if (!upgradable()) {
    tagged("BAD STARTTLS not available.", out);
    return mistaken(out);
  }
  tagged("OK Begin TLS negotiation now.", out);
  return {Want::start_tls, Parting::none};
}

/// `("field" "value" ...)`, as far as it makes sense. Nobody has to believe it.
void ImapDialogue::learn_id() {
  id_.clear();
  ttl_.reset();
  if (parser_.argument_count() == 0 || parser_.argument(0).kind != TaggedRequestParser::Kind::open) return;
  for (size_t i = 1;; i += 2) {
    const auto field = text(i), value = text(i + 1);
    if (!field || !value) return;
    const bool nil =
        parser_.argument(i + 1).kind == TaggedRequestParser::Kind::atom && same_word(*value, "NIL");
    if (nil) continue;
    if (same_word(*field, "x-proxy-ttl"))
      ttl_ = decimal(*value);
    else if (id_.size() < most_id_fields && field->size() <= longest_id_field &&
             value->size() <= longest_id_value)
      id_.emplace_back(*field, *value);
  }
}

size_t ImapDialogue::collected() const {
  size_t bytes = sizeof parser_ + parser_.held();
  for (const auto& [field, value] : id_) bytes += sizeof id_[0] + field.size() + value.size();
  return bytes;
}

void ImapDialogue::complete(Login& login) {
  login.tag = tag_;
  login.id = id_;
  login.ttl = ttl_;
}

void ImapDialogue::line(Say say, std::string_view text, std::string& out) {
  const bool untagged =
      say == Say::timeout || say == Say::failures || say == Say::errors || say == Say::shutdown;
  if (untagged)
    out += fmt::format("* {}\r\n", text);
  else
    tagged(text, out);
}

void ImapDialogue::challenge(std::string_view base64, std::string& out) {
  out += fmt::format("+ {}\r\n", base64);
}

void ImapDialogue::tagged(std::string_view text, std::string& out) const {
  out += fmt::format("{} {}\r\n", tag_, text);
}

std::string ImapDialogue::capabilities() const {
  std::string list;
  const auto add = [&](std::string_view prefix, std::string_view word) {
    if (!list.empty()) list += ' ';
    list += prefix;
    list += word;
  };
  for (const std::string& token : rules_.capabilities->advertise) add("", token);
  for (const std::string_view mechanism : advertised(*rules_.capabilities, clear_ok()))
    add("AUTH=", mechanism);
  if (!clear_ok()) add("", "LOGINDISABLED");
  if (upgradable()) add("", "STARTTLS");
  return list;
}

std::optional<std::string_view> ImapDialogue::text(size_t index) const {
  if (index >= parser_.argument_count()) return std::nullopt;
  const TaggedRequestParser::Argument argument = parser_.argument(index);
  if (!argument.is_string()) return std::nullopt;
  return argument.value;
}

}  // namespace postern::protocols
