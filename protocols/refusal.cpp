// SPDX-License-Identifier: GPL-3.0-or-later
#include "protocols/refusal.hpp"

#include <algorithm>
#include <array>

#include "protocols/text.hpp"

namespace postern::protocols {
namespace {

// RFC 5530 and RFC 9051; RFC 2449 and RFC 3206. What follows the code does not matter.
constexpr std::array<std::string_view, 4> imap_codes = {"[UNAVAILABLE", "[INUSE", "[SERVERBUG", "[LIMIT"};
constexpr std::array<std::string_view, 3> pop3_codes = {"[SYS/TEMP", "[IN-USE", "[LOGIN-DELAY"};

std::string_view last_line(std::string_view text) {
  if (text.ends_with('\n')) text.remove_suffix(1);
  return text.substr(text.rfind('\n') + 1);  // npos + 1 is 0
}

/// The rest behind the next space.
std::string_view behind_word(std::string_view text) {
  return text.substr(std::min(text.find(' ') + 1, text.size()));
}

template <size_t N>
bool begins_with_one(std::string_view text, const std::array<std::string_view, N>& codes) {
  return std::ranges::any_of(codes, [&](std::string_view code) { return starts_with_word(text, code); });
}

/// ManageSieve: the word that the response begins with, the lines before it left out. The last line may be
/// the end of a literal.
std::string_view sieve_verdict(std::string_view said) {
  while (!said.empty()) {
    const size_t end = std::min(said.find('\n'), said.size() - 1);
    const std::string_view line = said.substr(0, end);
    if (starts_with_word(line, "BYE") || starts_with_word(line, "NO")) return line;
    said.remove_prefix(end + 1);
  }
  return {};
}

template <class Holds>
bool every_line(std::string_view text, Holds&& holds) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size() - 1);
    if (!holds(text.substr(0, end + 1))) return false;
    text.remove_prefix(end + 1);
  }
  return true;
}

}  // namespace

bool is_temporary(conf::Protocol protocol, std::string_view said) {
  switch (protocol) {
    case conf::Protocol::imap:  // tag NO [CODE]
      return begins_with_one(behind_word(behind_word(last_line(said))), imap_codes);
    case conf::Protocol::pop3:  // -ERR [CODE]
      return begins_with_one(behind_word(last_line(said)), pop3_codes);
    case conf::Protocol::submission:
      return last_line(said).starts_with('4');
    case conf::Protocol::managesieve:
      return is_goodbye(protocol, said) || starts_with_word(sieve_verdict(said), "NO (TRYLATER");
    default:
      return false;
  }
}

bool is_goodbye(conf::Protocol protocol, std::string_view said) {
  switch (protocol) {
    case conf::Protocol::imap:
      return !every_line(said, [](std::string_view line) { return !starts_with_word(line, "* BYE"); });
    case conf::Protocol::submission:
      return last_line(said).starts_with("421");
    case conf::Protocol::managesieve:
      return starts_with_word(sieve_verdict(said), "BYE");
    default:
      return false;
  }
}

bool is_premature(conf::Protocol protocol, std::string_view said) {
  // The end of a line that a ManageSieve literal was the last of is looked at late.
  if (protocol == conf::Protocol::managesieve && (said == "\r\n" || said == "\r" || said == "\n"))
    return false;
  if (protocol != conf::Protocol::imap) return !said.empty();
  return !every_line(said, [](std::string_view line) { return line.starts_with('*'); });
}

}  // namespace postern::protocols
