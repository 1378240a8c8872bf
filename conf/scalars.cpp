// SPDX-License-Identifier: GPL-3.0-or-later
// Durations, sizes, log filters, hosts, pins and PEM values.
#include "conf/scalars.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <optional>

#include "conf/names.hpp"
#include "conf/text.hpp"

namespace postern::conf {
namespace {

struct Unit {
  std::string_view text;
  uint64_t milliseconds;
};
constexpr std::array<Unit, 5> units = {
    {{"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}, {"d", 86'400'000}}};

struct SizeUnit {
  std::string_view text;
  uint64_t bytes;
};
constexpr std::array<SizeUnit, 4> size_units = {
    {{"B", 1}, {"KiB", 1024}, {"MiB", mebibyte}, {"GiB", 1024 * mebibyte}}};

// Long enough to mean "never", short enough that a deadline computed from it cannot overflow.
constexpr Duration longest = std::chrono::hours(24) * 365 * 1000;

std::optional<LogLevel> level_of(std::string_view text) { return word_value<LogLevel>(ascii_lower(text)); }

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool is_label(std::string_view label) {
  constexpr size_t longest_label = 63;
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  };
  return !label.empty() && label.size() <= longest_label && label.front() != '-' && label.back() != '-' &&
         std::all_of(label.begin(), label.end(), fits);
}

}  // namespace

Result<Duration> parse_duration(std::string_view text) {
  const std::string_view bare = trimmed(text);
  const size_t digits = std::min(bare.find_first_not_of("0123456789"), bare.size());
  const std::string_view unit_text = trimmed(bare.substr(digits));
  const auto unit =
      std::find_if(units.begin(), units.end(), [&](const Unit& u) { return u.text == unit_text; });
  const auto refuse = [&](std::string_view why) {
    return error(fmt::format("{} is not a duration: {}", quoted(text), why));
  };
  if (digits == 0) return refuse("write digits and a unit (ms, s, m, h, d), such as \"30s\"");
  if (unit_text.empty()) return refuse("the unit is missing (ms, s, m, h, d)");
  if (unit == units.end()) return refuse("the unit must be one of ms, s, m, h, d");
  constexpr uint64_t most = std::numeric_limits<uint64_t>::max();
  const auto count = parse_number(bare.substr(0, digits), most);
  if (!count) return refuse("too long");
  if (unit->milliseconds >= 1000 && *count > most / (unit->milliseconds / 1000)) return refuse("too long");
  if (*count > static_cast<uint64_t>(longest.count()) / unit->milliseconds) return longest;
  return Duration(static_cast<int64_t>(*count * unit->milliseconds));
}

std::string duration_text(Duration value) {
  const auto count = static_cast<uint64_t>(value.count());
  if (count == 0) return "0s";
  const Unit* best = units.data();
  for (const Unit& unit : units) {
    if (count % unit.milliseconds == 0) best = &unit;
  }
  return fmt::format("{}{}", count / best->milliseconds, best->text);
}

Result<Size> parse_size(std::string_view text) {
  const std::string_view bare = trimmed(text);
  const size_t digits = std::min(bare.find_first_not_of("0123456789"), bare.size());
  const std::string_view unit_text = trimmed(bare.substr(digits));
  const auto unit = std::ranges::find(size_units, unit_text, &SizeUnit::text);
  const auto refuse = [&](std::string_view why) {
    return error(fmt::format("{} is not a size: {}", quoted(text), why));
  };
  if (digits == 0) return refuse("write digits and a unit (B, KiB, MiB, GiB), such as \"64MiB\"");
  if (unit_text.empty()) return refuse("the unit is missing (B, KiB, MiB, GiB)");
  if (unit == size_units.end()) return refuse("the unit must be one of B, KiB, MiB, GiB");
  constexpr uint64_t most = std::numeric_limits<uint64_t>::max();
  const auto count = parse_number(bare.substr(0, digits), most);
  if (!count) return refuse("too long");
  return Size{*count > most / unit->bytes ? most : *count * unit->bytes};
}

std::string size_text(Size value) {
  const SizeUnit* best = size_units.data();
  for (const SizeUnit& unit : size_units) {
    if (value.bytes != 0 && value.bytes % unit.bytes == 0) best = &unit;
  }
  return fmt::format("{}{}", value.bytes / best->bytes, best->text);
}

Result<LogLevel> parse_log_level(std::string_view text, LogLevel otherwise) {
  std::optional<LogLevel> bare;
  std::optional<LogLevel> ours;
  std::string_view rest = text;
  while (true) {
    const size_t comma = rest.find(',');
    const std::string_view item = trimmed(rest.substr(0, comma));
    const size_t equals = item.find('=');
    const bool targeted = equals != std::string_view::npos;
    const auto level = level_of(targeted ? trimmed(item.substr(equals + 1)) : item);
    if (!level || equals == 0) return error(quoted(text) + " is not a log level or a list of target=level");
    if (!targeted && bare) return error(quoted(text) + " has two levels without a target");
    if (!targeted) {
      bare = level;
    } else if (trimmed(item.substr(0, equals)) == "postern") {
      ours = level;
    }
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  if (ours) return *ours;
  return bare.value_or(otherwise);
}

bool is_host(std::string_view text) {
  constexpr size_t longest_name = 253;
  if (Ip::parse(text)) return true;
  if (!text.empty() && text.back() == '.') text.remove_suffix(1);
  if (text.size() > longest_name) return false;
  std::string_view last;
  for (std::string_view rest = text;; rest.remove_prefix(last.size() + 1)) {
    last = rest.substr(0, rest.find('.'));
    if (!is_label(last)) return false;
    if (last.size() == rest.size()) break;
  }
  // "300.1.1.1" is a mistyped address, not a name: no top-level domain consists of digits.
  return last.find_first_not_of("0123456789") != std::string_view::npos;
}

Result<std::vector<uint8_t>> parse_pin(std::string_view text) {
  constexpr size_t pin_bytes = 32;
  std::vector<uint8_t> pin;
  int high = -1;
  for (const char c : trimmed(text)) {
    if (c == ':') continue;
    const int digit = hex_digit(c);
    if (digit < 0 || pin.size() == pin_bytes) return error(quoted(text) + " is not 64 hexadecimal digits");
    if (high < 0) {
      high = digit;
    } else {
      pin.push_back(static_cast<uint8_t>(high * 16 + digit));
      high = -1;
    }
  }
  if (pin.size() != pin_bytes || high >= 0) return error(quoted(text) + " is not 64 hexadecimal digits");
  return pin;
}

std::string_view pem_path(std::string_view value) {
  constexpr std::string_view scheme = "file://";
  const size_t first = value.find_first_not_of(" \t\r\n");
  if (first != std::string_view::npos && value.substr(first).starts_with("-----BEGIN")) return {};
  if (value.starts_with(scheme)) value.remove_prefix(scheme.size());
  return value;
}

}  // namespace postern::conf
