// SPDX-License-Identifier: GPL-3.0-or-later
// The one decoder of UTF-8: shortest form, no surrogates, up to U+10FFFF (RFC 3629).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace postern::conf {

struct Character {
  char32_t code = 0;
  size_t length = 1;
  bool valid = true;  // false: one byte that is no UTF-8
};

/// The character that `text`, which is not empty, begins with.
Character first_character(std::string_view text);

/// Whether all of it is UTF-8.
bool is_utf8(std::string_view text);

}  // namespace postern::conf
