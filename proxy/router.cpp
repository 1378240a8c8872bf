// SPDX-License-Identifier: GPL-3.0-or-later
#include "proxy/router.hpp"

#include <fmt/core.h>
#include <uv.h>

#include "conf/scalars.hpp"
#include "protocols/identity.hpp"
#include "proxy/log.hpp"
#include "proxy/mapping_store.hpp"
#include "proxy/route_cache.hpp"
#include "proxy/siphash.hpp"

namespace postern::proxy {
namespace {

std::shared_ptr<const Destination> named(const Snapshot& snapshot, std::string_view name) {
  const auto found = snapshot.destinations.find(name);
  return found == snapshot.destinations.end() ? nullptr : found->second;
}

/// The store's answer, from the cache if it is there. Null: the default.
const std::string* look_up(const Snapshot& snapshot, const std::string& identifier, uint64_t now_ms,
                           WorkerCells& cells) {
  if (const auto cached = snapshot.cache->find(identifier, now_ms)) {
    cells.cache_hits.add();
    return *cached;
  }
  cells.cache_misses.add();
  const uint64_t began = uv_hrtime();
  const std::string* destination = snapshot.mapping->find(identifier);
  cells.lookup_seconds.observe(lookup_bounds, (uv_hrtime() - began) / 1000);
  cells.lookups[static_cast<size_t>(destination ? Lookup::found : Lookup::absent)].add();
  snapshot.cache->put(identifier, destination, now_ms, snapshot.era);
  return destination;
}

}  // namespace

Route find_route(const Snapshot& snapshot, std::string_view name, uint64_t now_ms, WorkerCells& cells) {
  const conf::RoutingConf& routing = snapshot.config.routing;
  Route route;
  if (name.empty()) {
    route.how = Route::How::nameless;
    route.destination = named(snapshot, routing.default_destination);
    return route;
  }
  const std::string_view identifier = protocols::cut_master_user(name, routing.master_user_separators);
  if (!protocols::acceptable_identifier(identifier)) return route;
  route.identifier = conf::normalized(identifier, snapshot.config.mapping.normalize);

  const std::string* mapped = look_up(snapshot, route.identifier, now_ms, cells);
  if (mapped) route.destination = named(snapshot, *mapped);
  if (mapped && !route.destination)
    log::warn("mapping names an undeclared destination", {{"destination", *mapped}});
  route.how = route.destination ? Route::How::mapped : Route::How::fallback;
  if (!route.destination) route.destination = named(snapshot, routing.default_destination);
  return route;
}

std::string redacted(std::string_view identifier) {
  if (identifier.empty()) return "<empty>";
  size_t end = 0;
  for (int characters = 0; end < identifier.size(); ++end) {
    const bool starts = (static_cast<unsigned char>(identifier[end]) & 0xc0) != 0x80;
    if (starts && ++characters > 2) break;
  }
  return fmt::format("{}***#{:04x}", identifier.substr(0, end), keyed_hash(identifier) & 0xffff);
}

}  // namespace postern::proxy
