// SPDX-License-Identifier: GPL-3.0-or-later
// What a value that a store has given means, whichever store it was (stores.md 4 and 5).
#pragma once

#include <string>
#include <string_view>

#include "proxy/stores/store.hpp"

namespace postern::proxy {

/// Longer than this is no name of a destination.
inline constexpr size_t longest_value = 1024;

/// Empty: absent. Too long, with control characters or no UTF-8: failed.
StoreAnswer answer_of(std::string_view value);

inline StoreAnswer absent() { return {StoreAnswer::Kind::absent, {}}; }
inline StoreAnswer failed(std::string why) { return {StoreAnswer::Kind::failed, std::move(why)}; }
inline StoreAnswer too_late() { return {StoreAnswer::Kind::timeout, "no answer in time"}; }

}  // namespace postern::proxy
