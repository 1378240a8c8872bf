// SPDX-License-Identifier: GPL-3.0-or-later
// The notation, one row a prefix.
#include "test/unit/transcripts/transcript.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <optional>

namespace postern::test {
namespace {

struct Prefix {
  std::string_view text;
  Act act;
  bool with_bytes;
};
constexpr Prefix prefixes[] = {
    {"C:", Act::client_says, true},        {"S:", Act::client_hears, true},
    {"P:", Act::backend_hears, true},      {"B:", Act::backend_says, true},
    {"C<tls>", Act::client_tls, false},    {"P<tls>", Act::backend_tls, false},
    {"S<eof>", Act::client_ended, false},  {"P<eof>", Act::backend_left, false},
    {"B<eof>", Act::backend_ended, false},
};

int hex(char c) {
  return c >= '0' && c <= '9'   ? c - '0'
         : c >= 'a' && c <= 'f' ? c - 'a' + 10
         : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                : -1;
}

/// Escapes replaced and the line end added; nothing: a stray backslash.
std::optional<std::string> bytes_of(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      out += text[i];
    } else if (i + 1 == text.size()) {
      return out;
    } else if (text[i + 1] == '\\') {
      out += '\\';
      ++i;
    } else if (text[i + 1] == 'x' && i + 3 < text.size() && hex(text[i + 2]) >= 0 && hex(text[i + 3]) >= 0) {
      out += static_cast<char>(hex(text[i + 2]) * 16 + hex(text[i + 3]));
      i += 3;
    } else {
      return std::nullopt;
    }
  }
  return out + "\r\n";
}

/// "word rest": both without the space between them.
std::pair<std::string_view, std::string_view> cut(std::string_view text, std::string_view at) {
  const size_t found = text.find(at);
  if (found == std::string_view::npos) return {text, {}};
  return {text.substr(0, found), text.substr(found + at.size())};
}

std::string default_greeting(std::string_view protocol) {
  if (protocol == "imap") return "* OK [CAPABILITY IMAP4rev1 SASL-IR ID AUTH=PLAIN] ready\r\n";
  if (protocol == "pop3") return "+OK ready\r\n";
  if (protocol == "managesieve") return "\"IMPLEMENTATION\" \"x\"\r\n\"SASL\" \"PLAIN\"\r\nOK \"ready\"\r\n";
  return "220 backend ESMTP\r\n";
}

bool read_header(Transcript& transcript, std::string_view line, std::optional<std::string>& greeting) {
  const auto [word, rest] = cut(line, " ");
  if (word == "protocol") {
    transcript.protocol = rest;
  } else if (word == "listener") {
    transcript.listener = rest;
  } else if (word == "leg") {
    transcript.leg = rest;
  } else if (word == "mapping") {
    transcript.mappings.emplace_back(rest);
  } else if (word == "set") {
    const auto [key, value] = cut(rest, " =");
    transcript.settings.emplace_back(key, value);
  } else if (word == "greeting") {
    const auto bytes = bytes_of(rest);
    if (!bytes) return false;
    greeting = greeting.value_or("") + (rest.empty() ? "" : *bytes);
  } else {
    return false;
  }
  return true;
}

bool read_step(Transcript& transcript, std::string_view line, int number) {
  for (const Prefix& prefix : prefixes) {
    if (!line.starts_with(prefix.text)) continue;
    std::string_view rest = line.substr(prefix.text.size());
    if (!prefix.with_bytes) {
      if (rest.empty()) transcript.steps.push_back({prefix.act, {}, number});
      return rest.empty();
    }
    if (rest.starts_with(' ')) rest.remove_prefix(1);
    const auto bytes = bytes_of(rest);
    if (!bytes) return false;
    const bool speaks = prefix.act == Act::client_says || prefix.act == Act::backend_says;
    if (speaks && !transcript.steps.empty() && transcript.steps.back().act == prefix.act)
      transcript.steps.back().bytes += *bytes;
    else
      transcript.steps.push_back({prefix.act, *bytes, number});
    return true;
  }
  return false;
}

}  // namespace

conf::Result<Transcript> read_transcript(std::string_view text) {
  Transcript transcript;
  std::optional<std::string> greeting;
  for (int number = 1; !text.empty(); ++number) {
    const auto [line, rest] = cut(text, "\n");
    text = rest;
    if (line.empty() || line.starts_with('#')) continue;
    if (!read_step(transcript, line, number) &&
        !(transcript.steps.empty() && read_header(transcript, line, greeting)))
      return tl::unexpected(conf::Error{fmt::format("line {}: {}", number, line)});
  }
  transcript.greeting = greeting ? *greeting : default_greeting(transcript.protocol);
  if (transcript.protocol.empty() || transcript.steps.empty())
    return tl::unexpected(conf::Error{"no protocol, or nothing said"});
  return transcript;
}

std::string configuration(const Transcript& transcript) {
  const std::string leg = "destination.legacy.protocol." + transcript.protocol;
  const bool leg_tls = transcript.leg != "plain", tls = transcript.listener != "plain";
  const auto mode = [](const std::string& word) {
    return word == "tls" ? "\"implicit\"" : "\"" + word + "\"";
  };
  std::map<std::string, std::string> keys = {
      {"server.hostname", "\"mail.example.com\""},
      {"mapping.source", "\"file\""},
      {"mapping.normalize", "\"lowercase\""},
      {"mapping.file.path", "\"M\""},
      {"routing.default_destination", "\"legacy\""},
      {"destination.legacy.host", "\"127.0.0.1\""},
      {"destination.legacy.forwarding", "\"none\""},
      {"destination.legacy.allow_plaintext_auth", leg_tls ? "false" : "true"},
      {leg + ".port", "10001"},
      {leg + ".tls", mode(transcript.leg)},
      {"listener.l.protocol", "\"" + transcript.protocol + "\""},
      {"listener.l.bind", "[\"127.0.0.1:10000\"]"},
      {"listener.l.tls", mode(transcript.listener)},
  };
  if (!tls) keys["capabilities." + transcript.protocol + ".allow_plain_auth_without_tls"] = "true";
  if (leg_tls) keys["destination.legacy.tls_server_name"] = "\"backend.test\"";
  if (tls) {
    keys["certificate.main.cert"] = "\"cert.pem\"";
    keys["certificate.main.private_key"] = "\"key.pem\"";
    keys["certificate.main.default"] = "true";
  }
  for (const auto& [key, value] : transcript.settings) {
    if (value.empty())
      keys.erase(key);
    else
      keys[key] = value;
  }
  std::string text;
  for (const auto& [key, value] : keys) text += fmt::format("{} = {}\n", key, value);
  return text;
}

bool matches(std::string_view wanted, std::string_view heard) {
  struct Blank {
    std::string_view text, alphabet;
  };
  constexpr Blank blanks[] = {
      {"<cport>", "0123456789"}, {"<lport>", "0123456789"}, {"<hex>", "0123456789abcdef"}};
  while (!wanted.empty()) {
    const auto* const blank =
        std::ranges::find_if(blanks, [&](const Blank& b) { return wanted.starts_with(b.text); });
    if (blank != std::end(blanks)) {
      const size_t length = std::min(heard.find_first_not_of(blank->alphabet), heard.size());
      if (length == 0) return false;
      wanted.remove_prefix(blank->text.size());
      heard.remove_prefix(length);
    } else {
      if (heard.empty() || heard.front() != wanted.front()) return false;
      wanted.remove_prefix(1);
      heard.remove_prefix(1);
    }
  }
  return heard.empty();
}

}  // namespace postern::test
