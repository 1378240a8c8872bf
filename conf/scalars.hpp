// SPDX-License-Identifier: GPL-3.0-or-later
// Texts of the file with a grammar of their own: durations, sizes, host names, log filters, pins.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "conf/config.hpp"
#include "conf/result.hpp"

namespace postern::conf {

/// "30s", "250 ms": digits and one unit of ms, s, m, h, d. Beyond a thousand years counts as a thousand
/// years.
Result<Duration> parse_duration(std::string_view text);
/// In the largest unit that divides it.
std::string duration_text(Duration value);

/// "64MiB", "512 KiB": digits and one unit of B, KiB, MiB, GiB. What is beyond 16 EiB counts as that.
Result<Size> parse_size(std::string_view text);
/// In the largest unit that divides it.
std::string size_text(Size value);

/// A level, or "target=level,..." with at most one bare level; any case. Only the target "postern" is known;
/// a filter that says nothing about it leaves `otherwise`.
Result<LogLevel> parse_log_level(std::string_view text, LogLevel otherwise);

/// A DNS name or an IP literal without brackets.
bool is_host(std::string_view text);

/// 64 hex digits; colons and white space around are ignored.
Result<std::vector<uint8_t>> parse_pin(std::string_view text);

/// The path of a PEM value: behind "file://", or the value itself; empty for inline PEM.
std::string_view pem_path(std::string_view value);

}  // namespace postern::conf
