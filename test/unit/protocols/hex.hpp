// SPDX-License-Identifier: GPL-3.0-or-later
// Bytes for tables: hexadecimal text in, and text to bytes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace postern::test {

/// "0D0A 11" is three bytes; white space is skipped.
inline std::string hex(std::string_view text) {
  constexpr std::string_view digits = "0123456789ABCDEF";
  std::string bytes;
  int high = -1;
  for (const char c : text) {
    if (c == ' ') continue;
    const int value = static_cast<int>(digits.find(c));
    if (high < 0) {
      high = value;
    } else {
      bytes += static_cast<char>(high << 4 | value);
      high = -1;
    }
  }
  return bytes;
}

inline std::span<const uint8_t> bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

}  // namespace postern::test
