// SPDX-License-Identifier: GPL-3.0-or-later
// Small text: numbers, ASCII case, quoting for messages, key paths, the nearest known word.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace postern::conf {

/// Decimal digits only, at most `limit`; no sign, no white space, nothing behind.
std::optional<uint64_t> parse_number(std::string_view text, uint64_t limit);

/// `text` in double quotes, controls and quotes escaped, cut when long: safe on one line of a log.
/// An object, since for a function of that name a std::string would bring std::quoted into play.
inline constexpr struct Quoted { std::string operator()(std::string_view text) const; } quoted{};

/// `text` with its control characters escaped, for what other libraries say.
std::string on_one_line(std::string_view text);

std::string ascii_lower(std::string_view text);
/// Without ASCII white space at both ends.
std::string_view trimmed(std::string_view text);
/// A control character (C0 or DEL), which no line protocol may carry inside a text.
bool has_control(std::string_view text);

/// One more segment behind a key path; a segment that is no bare key is quoted as TOML would.
std::string join_key(std::string_view path, std::string_view segment);
/// "path[3]"
std::string join_index(std::string_view path, size_t index);

/// The word of `known` closest to `word`, or empty if none is close enough to be a slip of the pen.
std::string_view nearest(std::string_view word, std::span<const std::string_view> known);

}  // namespace postern::conf
