// SPDX-License-Identifier: GPL-3.0-or-later
// From what a login calls itself to the backend that gets it (protocols.md 1.5): cut, check, normalise, look
// up.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "proxy/counters.hpp"
#include "proxy/snapshot.hpp"

namespace postern::proxy {

struct Route {
  enum class How : uint8_t {
    mapped,    // the store named the destination
    fallback,  // the store did not know the identifier
    nameless,  // the login told no identifier
    refused,   // the identifier may not be looked up; no destination
  };
  How how = How::refused;
  std::string identifier;  // normalised; empty if nameless or refused
  std::shared_ptr<const Destination> destination;
};

/// `name` is the login as far as it routes, master user included.
Route find_route(const Snapshot& snapshot, std::string_view name, uint64_t now_ms, WorkerCells& cells);

/// An identifier for records: its first two characters and a hash that is the same for the same value within
/// this process.
std::string redacted(std::string_view identifier);

}  // namespace postern::proxy
