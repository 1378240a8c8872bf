// SPDX-License-Identifier: GPL-3.0-or-later
// One decoder; the two alphabets are its tables.
#include "protocols/base64.hpp"

#include <array>
#include <cstdint>

#include "conf/secret.hpp"

namespace postern::protocols {
namespace {

constexpr std::string_view standard = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::string_view url = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

constexpr int8_t none = -1, space = -2;
using Table = std::array<int8_t, 256>;

constexpr Table table(std::string_view alphabet, bool spaces) {
  Table made{};
  made.fill(none);
  for (size_t i = 0; i < alphabet.size(); ++i)
    made[static_cast<uint8_t>(alphabet[i])] = static_cast<int8_t>(i);
  if (spaces)
    for (const char c : std::string_view(" \t\r\n\f\v")) made[static_cast<uint8_t>(c)] = space;
  return made;
}
constexpr Table standard_table = table(standard, true), url_table = table(url, false);

std::optional<std::string> decode(const Table& table, std::string_view text) {
  std::string out;
  out.reserve(text.size() / 4 * 3 + 3);
  uint32_t bits = 0;
  size_t digits = 0, padding = 0;
  // What was decoded so far may be most of a password.
  const auto refused = [&]() -> std::optional<std::string> {
    conf::wipe(out);
    return std::nullopt;
  };
  for (const char c : text) {
    const int8_t value = table[static_cast<uint8_t>(c)];
    if (value == space) continue;
    if (c == '=') {
      ++padding;
      continue;
    }
    if (value == none || padding != 0) return refused();
    bits = bits << 6 | static_cast<uint32_t>(value);
    if (++digits % 4 == 0) {
      out += static_cast<char>(bits >> 16);
      out += static_cast<char>(bits >> 8);
      out += static_cast<char>(bits);
      bits = 0;
    }
  }
  const size_t rest = digits % 4;
  if (rest == 1 || (padding != 0 && (rest == 0 || rest + padding != 4))) return refused();
  if (rest == 2) out += static_cast<char>(bits >> 4);
  if (rest == 3) {
    out += static_cast<char>(bits >> 10);
    out += static_cast<char>(bits >> 2);
  }
  return out;
}

}  // namespace

std::string base64(std::string_view bytes) {
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  const auto at = [&](size_t i) { return i < bytes.size() ? static_cast<uint8_t>(bytes[i]) : uint8_t{0}; };
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const uint32_t bits =
        static_cast<uint32_t>(at(i)) << 16 | static_cast<uint32_t>(at(i + 1)) << 8 | at(i + 2);
    out += standard[bits >> 18];
    out += standard[bits >> 12 & 63];
    out += i + 1 < bytes.size() ? standard[bits >> 6 & 63] : '=';
    out += i + 2 < bytes.size() ? standard[bits & 63] : '=';
  }
  return out;
}

std::optional<std::string> from_base64(std::string_view text) { return decode(standard_table, text); }
std::optional<std::string> from_base64url(std::string_view text) { return decode(url_table, text); }

}  // namespace postern::protocols
