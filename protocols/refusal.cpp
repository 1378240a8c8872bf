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
      // The last line may be the end of a literal; codes stand in the one that begins the response.
      while (!said.empty()) {
        const size_t end = std::min(said.find('\n'), said.size() - 1);
        const std::string_view line = said.substr(0, end);
        if (starts_with_word(line, "BYE") || starts_with_word(line, "NO (TRYLATER")) return true;
        if (starts_with_word(line, "NO")) return false;
        said.remove_prefix(end + 1);
      }
      return false;
    default:
      return false;
  }
}

}  // namespace postern::protocols
