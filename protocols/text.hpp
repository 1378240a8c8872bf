// SPDX-License-Identifier: GPL-3.0-or-later
// Words and bytes as every protocol compares and checks them. ASCII only, no locale.
#pragma once

#include <strings.h>

#include <string_view>

#include "conf/utf8.hpp"

namespace postern::protocols {

inline bool same_word(std::string_view a, std::string_view b) {
  return a.size() == b.size() && ::strncasecmp(a.data(), b.data(), a.size()) == 0;
}
inline bool starts_with_word(std::string_view text, std::string_view word) {
  return text.size() >= word.size() && same_word(text.substr(0, word.size()), word);
}

using conf::is_utf8;

/// A byte that no line of a protocol may carry: NUL, other controls, DEL.
constexpr bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

}  // namespace postern::protocols
