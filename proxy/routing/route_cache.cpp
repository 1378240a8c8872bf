// SPDX-License-Identifier: GPL-3.0-or-later
// A hash map a shard, and through its entries two queues by age: one of accounts with a mapping, one of names
// without. The second has a bound of its own, so that strangers who try names cannot push accounts out.
#include "proxy/routing/route_cache.hpp"

#include <algorithm>
#include <utility>

#include "proxy/base/guard.hpp"

namespace postern::proxy {
namespace {

constexpr size_t entries_per_shard =
    4096;  // so few that a map of them grows within a fraction of a millisecond
constexpr size_t most_shards = 256;
constexpr size_t at_once = 64;  // entries freed under one lock
constexpr size_t with_each_put =
    2;  // so that a steady stream of answers needs nobody else to free the old ones

}  // namespace

// --- one queue --------------------------------------------------------------------------------------

void RouteCache::Queue::push(Node& node) {
  node.second.newer = nullptr;
  node.second.older = newest;
  (newest ? newest->second.newer : oldest) = &node;
  newest = &node;
  ++size;
}

void RouteCache::Queue::take(Node& node) {
  const Entry& entry = node.second;
  if (hand == &node) hand = entry.newer;
  (entry.newer ? entry.newer->second.older : newest) = entry.older;
  (entry.older ? entry.older->second.newer : oldest) = entry.newer;
  --size;
}

/// Ends, since each entry that it passes has its mark taken away.
RouteCache::Node& RouteCache::Queue::victim() {
  for (;;) {
    if (!hand) hand = oldest;
    if (!std::exchange(hand->second.used, false)) return *hand;
    hand = hand->second.newer;
  }
}

// --- the cache --------------------------------------------------------------------------------------

RouteCache::RouteCache(const conf::MappingConf& conf)
    : positive_ms_(conf.positive_ttl.count()), negative_ms_(conf.negative_ttl.count()) {
  const size_t shards = std::clamp<size_t>(conf.cache_max_entries / entries_per_shard, 1, most_shards);
  most_unknown_ = conf.cache_max_entries / 4 / shards;
  most_known_ = conf.cache_max_entries / shards - most_unknown_;
  for (size_t i = 0; i < shards; ++i) shards_.push_back(std::make_unique<Shard>());
}

std::optional<const std::string*> RouteCache::find(std::string_view identifier, uint64_t now_ms) {
  Shard& in = shard(identifier);
  const std::lock_guard lock(in.mutex);
  const auto it = in.map.find(identifier);
  if (it == in.map.end() || it->second.until <= static_cast<int64_t>(now_ms)) return std::nullopt;
  it->second.used = true;
  return it->second.destination;
}

std::optional<RouteCache::Kept> RouteCache::look(std::string_view identifier, uint64_t now_ms) {
  Shard& in = shard(identifier);
  const std::lock_guard lock(in.mutex);
  const auto it = in.map.find(identifier);
  if (it == in.map.end()) return std::nullopt;
  Entry& entry = it->second;
  const int64_t left = entry.until - static_cast<int64_t>(now_ms);
  if (left <= (entry.destination ? -stale_ms_.load() : 0)) return std::nullopt;
  entry.used = true;
  return Kept{entry.destination, left, entry.from_disk};
}

void RouteCache::put(std::string_view identifier, const std::string* destination, uint64_t now_ms,
                     uint64_t era) {
  const size_t most = destination ? most_known_ : most_unknown_;
  if (identifier.size() > longest_identifier) return;
  const std::string* name = destination ? intern(*destination) : nullptr;
  Shard& in = shard(identifier);
  const std::lock_guard lock(in.mutex);
  if (era != era_.load()) return;  // under the lock: clear() comes after begin()
  expire(in, now_ms, with_each_put);
  bool used = false;
  if (const auto it = in.map.find(identifier); it != in.map.end()) {
    used = it->second.used;
    erase(in, it->second.destination ? in.known : in.unknown, *it);
  }
  if (most == 0) return;
  Entry entry;
  entry.until = static_cast<int64_t>(now_ms) + (destination ? positive_ms_ : negative_ms_);
  entry.used = used;
  keep(in, identifier, name, entry);
}

void RouteCache::keep(Shard& shard, std::string_view identifier, const std::string* name, Entry entry) {
  Queue& queue = name ? shard.known : shard.unknown;
  while (queue.size >= (name ? most_known_ : most_unknown_)) erase(shard, queue, queue.victim());
  entry.destination = name;
  Node& node = *shard.map.try_emplace(std::string(identifier), entry).first;
  queue.push(node);
}

bool RouteCache::restore(std::string_view identifier, const std::string& destination, int64_t left_ms,
                         uint64_t now_ms) {
  left_ms = std::min(left_ms, positive_ms_);
  if (identifier.size() > longest_identifier || left_ms <= -stale_ms_.load()) return false;
  const std::string* name = intern(destination);
  Shard& in = shard(identifier);
  const std::lock_guard lock(in.mutex);
  if (in.known.size >= most_known_ || in.map.find(identifier) != in.map.end()) return false;
  Entry entry;
  entry.until = static_cast<int64_t>(now_ms) + left_ms;
  entry.from_disk = true;
  keep(in, identifier, name, entry);
  return true;
}

void RouteCache::each_mapping(size_t number, uint64_t now_ms, const Visit& visit) const {
  const Shard& in = *shards_[number];
  const std::lock_guard lock(in.mutex);
  for (const Node* node = in.known.oldest; node; node = node->second.newer) {
    const int64_t left = node->second.until - static_cast<int64_t>(now_ms);
    if (left > 0 || left > -stale_ms_.load()) visit(node->first, *node->second.destination, left);
  }
}

void RouteCache::drop(std::string_view identifier) {
  Shard& in = shard(identifier);
  const std::lock_guard lock(in.mutex);
  if (const auto it = in.map.find(identifier); it != in.map.end())
    erase(in, it->second.destination ? in.known : in.unknown, *it);
}

void RouteCache::erase(Shard& shard, Queue& queue, Node& node) {
  queue.take(node);
  shard.map.erase(shard.map.find(node.first));
}

/// Frees at most `most` entries whose life is over, and the table itself when it has become far too large.
size_t RouteCache::expire(Shard& shard, uint64_t now_ms, size_t most) const {
  const auto now = static_cast<int64_t>(now_ms);
  size_t freed = 0;
  const auto free = [&](Queue& queue, int64_t before) {
    for (; freed < most && queue.oldest && queue.oldest->second.until <= before; ++freed)
      erase(shard, queue, *queue.oldest);
  };
  free(shard.known, now - stale_ms_.load());
  free(shard.unknown, now);
  if (freed != 0 && shard.map.bucket_count() > 1024 && shard.map.size() < shard.map.bucket_count() / 8)
    shard.map.rehash(0);
  return freed;
}

void RouteCache::clear() {
  const std::lock_guard old(forgotten_mutex_);
  const bool aside = best_effort([this] { forgotten_.reserve(forgotten_.size() + shards_.size()); });
  for (const auto& shard : shards_) {
    const std::lock_guard lock(shard->mutex);
    if (aside)
      forgotten_.push_back(std::exchange(shard->map, Map()));
    else
      shard->map.clear();  // that takes longer, and no memory
    shard->known = shard->unknown = Queue();
  }
}

size_t RouteCache::age(uint64_t now_ms, const size_t budget) {
  size_t left = budget;
  {
    const std::lock_guard old(forgotten_mutex_);
    while (!forgotten_.empty() && left > 0) {
      Map& map = forgotten_.back();
      for (; !map.empty() && left > 0; --left) map.erase(map.begin());
      if (map.empty()) forgotten_.pop_back();
    }
  }
  for (size_t quiet = 0; quiet < shards_.size() && left > 0;) {
    Shard& in = *shards_[next_];
    size_t freed = 0;
    {
      const std::lock_guard lock(in.mutex);
      freed = expire(in, now_ms, std::min(at_once, left));
    }
    left -= freed;
    if (freed == at_once) continue;
    quiet = freed == 0 ? quiet + 1 : 0;
    next_ = (next_ + 1) % shards_.size();
  }
  return budget - left;
}

size_t RouteCache::entries() const {
  size_t all = 0;
  for (const auto& shard : shards_) {
    const std::lock_guard lock(shard->mutex);
    all += shard->map.size();
  }
  return all;
}

const std::string* RouteCache::intern(const std::string& name) {
  const std::lock_guard lock(names_mutex_);
  return &*names_.insert(name).first;
}

}  // namespace postern::proxy
