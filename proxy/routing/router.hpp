// SPDX-License-Identifier: GPL-3.0-or-later
// From what a login calls itself to the backend that gets it (protocols.md 1.5): cut, check, normalise, look
// up.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "conf/config.hpp"
#include "proxy/observe/counters.hpp"
#include "proxy/routing/lookups.hpp"
#include "proxy/routing/mapping_file.hpp"
#include "proxy/routing/route_cache.hpp"

namespace postern::proxy {

struct Destination;

/// What routing goes by: the accounts of one configuration and the destinations they may name.
struct Routes {
  conf::RoutingConf conf;
  conf::Normalize normalize = conf::Normalize::none;
  std::map<std::string, std::shared_ptr<const Destination>, std::less<>> destinations;
  std::shared_ptr<const MappingStore> mapping;  // null: a store is asked
  std::shared_ptr<RouteCache> cache;            // shared with other snapshots
  uint64_t era = 0;                             // of what it adds there; counts snapshots
};

struct Route {
  enum class How : uint8_t {
    mapped,    // the store named the destination
    fallback,  // the store did not know the identifier
    nameless,  // the login told no identifier
    refused,   // the identifier may not be looked up; no destination
    unknown,   // an account store must be asked; no destination yet
  };
  How how = How::refused;
  std::string identifier;  // normalised; empty if nameless or refused
  std::shared_ptr<const Destination> destination;
};

/// `name` is the login as far as it routes, master user included.
Route find_route(const Routes& routes, std::string_view name, uint64_t now_ms, WorkerCells& cells);

/// The same for an account that was asked about: `answer` is mapped or unmapped.
Route route_by(const Routes& routes, std::string identifier, const LookupAnswer& answer);

/// An identifier for records: its first two characters and a hash that is the same for the same value within
/// this process.
std::string redacted(std::string_view identifier);

}  // namespace postern::proxy
