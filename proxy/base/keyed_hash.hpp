// SPDX-License-Identifier: GPL-3.0-or-later
// SipHash-1-3 under a key of this process: names that strangers choose cannot be made to collide.
#pragma once

#include <cstdint>
#include <string_view>

namespace postern::proxy {

uint64_t keyed_hash(std::string_view text);

/// For unordered containers; string_view lookups need no copy.
struct KeyedHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return static_cast<size_t>(keyed_hash(text)); }
};

}  // namespace postern::proxy
