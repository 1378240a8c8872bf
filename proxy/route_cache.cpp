// SPDX-License-Identifier: GPL-3.0-or-later
#include "proxy/route_cache.hpp"

#include <algorithm>
#include <utility>

namespace postern::proxy {
namespace {

constexpr size_t many = 4096;  // below it one shard keeps the bound exact
constexpr size_t shard_count = 16;

}  // namespace

RouteCache::RouteCache(const conf::MappingConf& conf)
    : positive_ms_(static_cast<uint64_t>(conf.positive_ttl.count())),
      negative_ms_(static_cast<uint64_t>(conf.negative_ttl.count())) {
  const size_t shards = conf.cache_max_entries >= many ? shard_count : 1;
  generation_ = conf.cache_max_entries / shards / 2;
  for (size_t i = 0; i < shards; ++i) shards_.push_back(std::make_unique<Shard>());
}

std::optional<const std::string*> RouteCache::find(std::string_view identifier, uint64_t now_ms) {
  Shard& in = shard(identifier);
  const std::lock_guard lock(in.mutex);
  if (const auto it = in.young.find(identifier); it != in.young.end())
    return it->second.until > now_ms ? std::optional(it->second.destination) : std::nullopt;
  const auto it = in.old.find(identifier);
  if (it == in.old.end() || it->second.until <= now_ms) return std::nullopt;
  auto node = in.old.extract(it);
  const Entry entry = node.mapped();
  insert(in, std::move(node.key()), entry);
  return entry.destination;
}

void RouteCache::put(std::string_view identifier, const std::string* destination, uint64_t now_ms,
                     uint64_t era) {
  if (generation_ == 0 || identifier.size() > longest_identifier) return;
  const Entry entry{destination ? intern(*destination) : nullptr,
                    now_ms + (destination ? positive_ms_ : negative_ms_)};
  Shard& in = shard(identifier);
  const std::lock_guard lock(in.mutex);
  if (era != era_.load()) return;  // under the lock: clear() comes after begin()
  if (const auto it = in.young.find(identifier); it != in.young.end()) {
    it->second = entry;
    return;
  }
  if (const auto it = in.old.find(identifier); it != in.old.end()) in.old.erase(it);
  insert(in, std::string(identifier), entry);
}

void RouteCache::insert(Shard& shard, std::string key, Entry entry) const {
  if (shard.young.size() >= generation_) shard.old = std::exchange(shard.young, Map());
  shard.young.insert_or_assign(std::move(key), entry);
}

void RouteCache::clear() {
  for (const auto& shard : shards_) {
    const std::lock_guard lock(shard->mutex);
    shard->young = Map();
    shard->old = Map();
  }
}

size_t RouteCache::entries(uint64_t now_ms) const {
  size_t alive = 0;
  const auto count = [&](const Map& map) {
    alive += static_cast<size_t>(
        std::ranges::count_if(map, [&](const auto& item) { return item.second.until > now_ms; }));
  };
  for (const auto& shard : shards_) {
    const std::lock_guard lock(shard->mutex);
    count(shard->young);
    count(shard->old);
  }
  return alive;
}

const std::string* RouteCache::intern(const std::string& name) {
  const std::lock_guard lock(names_mutex_);
  return &*names_.insert(name).first;
}

}  // namespace postern::proxy
