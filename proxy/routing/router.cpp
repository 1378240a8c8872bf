// SPDX-License-Identifier: GPL-3.0-or-later
#include "proxy/routing/router.hpp"

#include <fmt/core.h>
#include <uv.h>

#include <utility>

#include "conf/build/normalize.hpp"
#include "protocols/identity.hpp"
#include "proxy/base/keyed_hash.hpp"
#include "proxy/base/log.hpp"

namespace postern::proxy {
namespace {

std::shared_ptr<const Destination> named(const Routes& routes, std::string_view name) {
  const auto found = routes.destinations.find(name);
  return found == routes.destinations.end() ? nullptr : found->second;
}

/// What the mapping file says, or lately said. Null: the default.
const std::string* look_up(const Routes& routes, const std::string& identifier, uint64_t now_ms,
                           WorkerCells& cells) {
  const uint64_t began = uv_hrtime();
  const std::string* destination = routes.mapping->find(identifier);
  cells.lookup_seconds.observe(lookup_bounds, (uv_hrtime() - began) / 1000);
  cells.lookups[static_cast<size_t>(destination ? Lookup::found : Lookup::absent)].add();
  routes.cache->put(identifier, destination, now_ms, routes.era);
  return destination;
}

void lead(const Routes& routes, const std::string* mapped, Route& route) {
  if (mapped) route.destination = named(routes, *mapped);
  if (mapped && !route.destination)
    log::warn("mapping names an undeclared destination", {{"destination", *mapped}});
  route.how = route.destination ? Route::How::mapped : Route::How::fallback;
  if (!route.destination) route.destination = named(routes, routes.conf.default_destination);
}

}  // namespace

Route find_route(const Routes& routes, std::string_view name, uint64_t now_ms, WorkerCells& cells) {
  const conf::RoutingConf& routing = routes.conf;
  Route route;
  if (name.empty()) {
    route.how = Route::How::nameless;
    route.destination = named(routes, routing.default_destination);
    return route;
  }
  const std::string_view identifier = protocols::cut_master_user(name, routing.master_user_separators);
  if (!protocols::acceptable_identifier(identifier)) return route;
  route.identifier = conf::normalized(identifier, routes.normalize);

  const auto cached = routes.cache->find(route.identifier, now_ms);
  (cached ? cells.cache_hits : cells.cache_misses).add();
  if (!cached && !routes.mapping) {
    route.how = Route::How::unknown;
    return route;
  }
  lead(routes, cached ? *cached : look_up(routes, route.identifier, now_ms, cells), route);
  return route;
}

Route route_by(const Routes& routes, std::string identifier, const LookupAnswer& answer) {
  Route route;
  route.identifier = std::move(identifier);
  lead(routes, answer.kind == LookupAnswer::Kind::mapped ? &answer.destination : nullptr, route);
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
