// SPDX-License-Identifier: GPL-3.0-or-later
// From what a client calls itself to the name that routes it (protocols.md 1.5). Pure.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace postern::protocols {

/// The mailbox part of a login: everything before the earliest of the master-user separators. Empty
/// separators are ignored; without one the login is the identifier.
std::string_view cut_master_user(std::string_view login, std::span<const std::string> separators);

/// RFC 5321, 4.5.3.1: 64 of the local part, the @, and 255 of the domain.
inline constexpr size_t longest_identifier = 320;

/// May this identifier be looked up? Refused: empty, too long, controls, a space, a quote. What is refused
/// here never reaches a store, a backend or a record.
bool acceptable_identifier(std::string_view identifier);

}  // namespace postern::protocols
