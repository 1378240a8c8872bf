// SPDX-License-Identifier: GPL-3.0-or-later
// Base64 as SASL and tokens have it (protocols.md 1.4, 1.5).
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace postern::protocols {

/// Standard alphabet, padded, no line breaks.
std::string base64(std::string_view bytes);

/// Standard alphabet; ASCII white space is skipped, padding may be whole or missing. Nothing else passes.
std::optional<std::string> from_base64(std::string_view text);

/// The URL alphabet of tokens; padding may be whole or missing; no white space.
std::optional<std::string> from_base64url(std::string_view text);

}  // namespace postern::protocols
