// SPDX-License-Identifier: GPL-3.0-or-later
// Lower case by table, independent of any locale: simple case pairs of the scripts that have them.
#include "conf/build/normalize.hpp"

#include <algorithm>
#include <array>
#include <cstdint>

#include "conf/text.hpp"
#include "conf/utf8.hpp"

namespace postern::conf {
namespace {

/// Upper-case letters from..to; every `step`th one has its small letter `offset` further on.
struct CaseRange {
  char32_t from, to;
  int32_t offset;
  uint32_t step;
};

constexpr auto ranges = std::to_array<CaseRange>({
    {0x0041, 0x005a, 32, 1},  // Latin
    {0x00c0, 0x00d6, 32, 1}, {0x00d8, 0x00de, 32, 1},    {0x0100, 0x012e, 1, 2},    {0x0132, 0x0136, 1, 2},
    {0x0139, 0x0147, 1, 2},  {0x014a, 0x0176, 1, 2},     {0x0178, 0x0178, -121, 1}, {0x0179, 0x017d, 1, 2},
    {0x01a0, 0x01a4, 1, 2},  {0x01af, 0x01af, 1, 1},     {0x01cd, 0x01db, 1, 2},    {0x01de, 0x01ee, 1, 2},
    {0x01f8, 0x021e, 1, 2},  {0x0222, 0x0232, 1, 2},     {0x0386, 0x0386, 38, 1},  // Greek
    {0x0388, 0x038a, 37, 1}, {0x038c, 0x038c, 64, 1},    {0x038e, 0x038f, 63, 1},   {0x0391, 0x03a1, 32, 1},
    {0x03a3, 0x03ab, 32, 1}, {0x03d8, 0x03ee, 1, 2},     {0x0400, 0x040f, 80, 1},  // Cyrillic
    {0x0410, 0x042f, 32, 1}, {0x0460, 0x0480, 1, 2},     {0x048a, 0x04be, 1, 2},    {0x04c0, 0x04c0, 15, 1},
    {0x04c1, 0x04cd, 1, 2},  {0x04d0, 0x052e, 1, 2},     {0x0531, 0x0556, 48, 1},  // Armenian
    {0x1e00, 0x1e94, 1, 2},  // Latin, additional (Vietnamese among it)
    {0x1ea0, 0x1efe, 1, 2},  {0x1e9e, 0x1e9e, -7615, 1}, {0x2160, 0x216f, 16, 1},  // Roman numerals
    {0x24b6, 0x24cf, 26, 1},                                                       // letters in circles
    {0xff21, 0xff3a, 32, 1},                                                       // full width
});

char32_t lower(char32_t letter) {
  for (const CaseRange& range : ranges) {
    if (letter >= range.from && letter <= range.to && (letter - range.from) % range.step == 0) {
      return static_cast<char32_t>(static_cast<int64_t>(letter) + range.offset);
    }
  }
  return letter;
}

void put(std::string& out, char32_t letter) {
  const auto tail = [&](int shift) { out += static_cast<char>(0x80 | (letter >> shift & 0x3f)); };
  if (letter < 0x80) {
    out += static_cast<char>(letter);
  } else if (letter < 0x800) {
    out += static_cast<char>(0xc0 | letter >> 6);
    tail(0);
  } else if (letter < 0x10000) {
    out += static_cast<char>(0xe0 | letter >> 12);
    tail(6);
    tail(0);
  } else {
    out += static_cast<char>(0xf0 | letter >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
}

}  // namespace

std::string normalized(std::string_view identifier, Normalize how) {
  if (how == Normalize::none) return std::string(identifier);
  const bool ascii =
      std::ranges::all_of(identifier, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
  if (ascii || !is_utf8(identifier)) return ascii_lower(identifier);
  std::string out;
  out.reserve(identifier.size());
  while (!identifier.empty()) {
    const auto [letter, length, valid] = first_character(identifier);
    identifier.remove_prefix(length);
    if (letter == 0x130) {
      out += "i\xcc\x87";  // the one letter whose small form is two
    } else {
      put(out, lower(letter));
    }
  }
  return out;
}

}  // namespace postern::conf
