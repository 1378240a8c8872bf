// SPDX-License-Identifier: GPL-3.0-or-later
// Whom a bearer token names, without believing it: the backend checks it (protocols.md 1.5).
#pragma once

#include <string>
#include <string_view>

namespace postern::protocols {

/// From a `sw1.` token or a JWT's claims: `claim` first, then the well-known ones, the first that is a string
/// with an `@`. Empty: the token names nobody. Bounded in depth and memory whatever the token holds.
std::string token_identifier(std::string_view token, std::string_view claim);

}  // namespace postern::protocols
