// SPDX-License-Identifier: GPL-3.0-or-later
// One record as text: whatever bytes a value holds, the line stays one line, its fields stay its own, and
// what is invisible or turns text around is shown as an escape.
#include <fmt/format.h>

#include <array>
#include <cmath>
#include <iterator>
#include <utility>

#include "conf/utf8.hpp"
#include "proxy/base/log.hpp"

namespace postern::proxy {
namespace {

constexpr size_t value_max = 1024;  // bytes of one value; what is longer ends in the marker
constexpr std::string_view cut_marker = "...";

/// What a terminal, an editor or a reader's eye may take for something else: C1 controls (with NEL), marks
/// and overrides of direction, zero widths, line and paragraph separators, annotations, tags.
constexpr std::array<std::pair<char32_t, char32_t>, 11> unsafe_ranges = {{{0x80, 0x9F},
                                                                          {0xAD, 0xAD},
                                                                          {0x61C, 0x61C},
                                                                          {0x180E, 0x180E},
                                                                          {0x200B, 0x200F},
                                                                          {0x2028, 0x202E},
                                                                          {0x2060, 0x206F},
                                                                          {0xFEFF, 0xFEFF},
                                                                          {0xFFF9, 0xFFFB},
                                                                          {0xFFFE, 0xFFFF},
                                                                          {0xE0000, 0xE007F}}};

bool plain(const conf::Character& c) {
  if (!c.valid || c.code < 0x20 || c.code == 0x7F) return false;
  for (const auto& [first, last] : unsafe_ranges)
    if (c.code >= first && c.code <= last) return false;
  return true;
}

char short_escape(char32_t code) {
  switch (code) {
    case '\n':
      return 'n';
    case '\r':
      return 'r';
    case '\t':
      return 't';
    case '"':
      return '"';
    case '\\':
      return '\\';
    default:
      return 0;
  }
}

void append_escape(std::string& to, conf::LogFormat format, const conf::Character& c,
                   std::string_view bytes) {
  const bool json = format == conf::LogFormat::json;
  const auto out = std::back_inserter(to);
  if (json && c.valid && c.code > 0xFFFF) {
    const char32_t rest = c.code - 0x10000;
    fmt::format_to(out, "\\u{:04x}\\u{:04x}", 0xD800 + static_cast<uint32_t>(rest >> 10),
                   0xDC00 + static_cast<uint32_t>(rest & 0x3FF));
  } else if (json && c.valid) {
    fmt::format_to(out, "\\u{:04x}", static_cast<uint32_t>(c.code));
  } else {
    // JSON has no word for a byte: the reader finds \xNN in the text.
    for (const char byte : bytes)
      fmt::format_to(out, "{}\\x{:02x}", json ? "\\" : "", static_cast<unsigned>(static_cast<uint8_t>(byte)));
  }
}

void append_quoted(std::string& to, conf::LogFormat format, std::string_view text) {
  to += '"';
  size_t at = 0;
  while (at < text.size()) {
    const conf::Character c = conf::first_character(text.substr(at));
    if (at + c.length > value_max) {
      to += cut_marker;
      break;
    }
    const std::string_view bytes = text.substr(at, c.length);
    at += c.length;
    if (const char letter = c.valid ? short_escape(c.code) : '\0') {
      to += '\\';
      to += letter;
    } else if (plain(c)) {
      to += bytes;
    } else {
      append_escape(to, format, c, bytes);
    }
  }
  to += '"';
}

/// A word that needs no quotes in logfmt.
bool bare(std::string_view text) {
  if (text.empty() || text.size() > value_max) return false;
  for (const char c : text)
    if (c <= ' ' || c > '~' || c == '"' || c == '=' || c == '\\') return false;
  return true;
}

void append_text(std::string& to, conf::LogFormat format, std::string_view text) {
  if (format == conf::LogFormat::logfmt && bare(text))
    to += text;
  else
    append_quoted(to, format, text);
}

/// Seconds; what is no number would not be JSON.
void append_number(std::string& to, double n) {
  constexpr double far = 1e15;
  if (!(std::abs(n) < far)) n = n > 0 ? far : n < 0 ? -far : 0;
  fmt::format_to(std::back_inserter(to), "{:.3f}", n);
}

void append_key(std::string& to, conf::LogFormat format, std::string_view key) {
  if (format == conf::LogFormat::json)
    to.append(",\"").append(key).append("\":");
  else
    to.append(" ").append(key).append("=");
}

void append_time(std::string& to, std::chrono::system_clock::time_point now) {
  using namespace std::chrono;
  const auto day = floor<days>(now);
  const year_month_day date(day);
  const hh_mm_ss time(floor<milliseconds>(now - day));
  fmt::format_to(std::back_inserter(to), "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
                 static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                 static_cast<unsigned>(date.day()), time.hours().count(), time.minutes().count(),
                 time.seconds().count(), time.subseconds().count());
}

}  // namespace

std::string format_record(conf::LogFormat format, std::chrono::system_clock::time_point now, LogLevel level,
                          std::string_view message, std::span<const Field> fields) {
  const bool json = format == conf::LogFormat::json;
  std::string to;
  to.reserve(256);
  to += json ? "{\"time\":\"" : "time=";
  append_time(to, now);
  to += json ? "\",\"level\":\"" : " level=";
  to += conf::name(level);
  to += json ? "\",\"msg\":" : " msg=";
  append_text(to, format, message);
  for (const Field& field : fields) {
    if (const auto* text = std::get_if<std::string_view>(&field.value)) {
      if (text->empty()) continue;
      append_key(to, format, field.key);
      append_text(to, format, *text);
      continue;
    }
    append_key(to, format, field.key);
    if (const auto* flag = std::get_if<bool>(&field.value))
      to += *flag ? "true" : "false";
    else if (const auto* seconds = std::get_if<double>(&field.value))
      append_number(to, *seconds);
    else if (const auto* whole = std::get_if<int64_t>(&field.value))
      to += fmt::to_string(*whole);
    else
      to += fmt::to_string(std::get<uint64_t>(field.value));
  }
  to += json ? "}\n" : "\n";
  return to;
}

}  // namespace postern::proxy
