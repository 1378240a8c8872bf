// SPDX-License-Identifier: GPL-3.0-or-later
// Small text helpers; every one is linear in its input but nearest(), which is bounded by word length.
#include "conf/text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <vector>

namespace postern::conf {
namespace {

constexpr size_t longest_shown = 80;  // bytes of an offending value that a message repeats

bool is_bare(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

void append_escaped(std::string& out, std::string_view text, bool quotes = true) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (quotes && (c == '"' || c == '\\')) {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\u{:04x}", byte);
    } else {
      out += c;
    }
  }
}

/// Levenshtein distance, with one row of memory.
size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

std::optional<uint64_t> parse_number(std::string_view text, uint64_t limit) {
  if (text.empty()) return std::nullopt;
  uint64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    const auto digit = static_cast<uint64_t>(c - '0');
    if (digit > limit || value > (limit - digit) / 10) return std::nullopt;
    value = value * 10 + digit;
  }
  return value;
}

std::string Quoted::operator()(std::string_view text) const {
  std::string out = "\"";
  size_t shown = std::min(text.size(), longest_shown);
  // Do not cut through a UTF-8 sequence.
  while (shown < text.size() && shown > 0 && (static_cast<unsigned char>(text[shown]) & 0xc0) == 0x80)
    --shown;
  append_escaped(out, text.substr(0, shown));
  out += shown < text.size() ? "\"..." : "\"";
  return out;
}

std::string on_one_line(std::string_view text) {
  std::string out;
  append_escaped(out, text, false);
  return out;
}

std::string ascii_lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view white = " \t\r\n\v\f";
  const size_t first = text.find_first_not_of(white);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(white) - first + 1);
}

bool has_control(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 || byte == 0x7f;
  });
}

std::string join_key(std::string_view path, std::string_view segment) {
  std::string out(path);
  if (!out.empty()) out += '.';
  if (!segment.empty() && std::all_of(segment.begin(), segment.end(), is_bare)) {
    out += segment;
  } else {
    out += '"';
    append_escaped(out, segment);
    out += '"';
  }
  return out;
}

std::string join_index(std::string_view path, size_t index) { return fmt::format("{}[{}]", path, index); }

std::string_view nearest(std::string_view word, std::span<const std::string_view> known) {
  constexpr size_t longest_word = 64;
  if (word.empty() || word.size() > longest_word) return {};
  std::string_view best;
  size_t best_distance = word.size() / 3 + 1;  // farther than this is another word
  for (const std::string_view candidate : known) {
    const size_t difference = distance(word, candidate);
    if (difference <= best_distance && (best.empty() || difference < best_distance)) {
      best = candidate;
      best_distance = difference;
    }
  }
  return best;
}

}  // namespace postern::conf
