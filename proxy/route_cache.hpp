// SPDX-License-Identifier: GPL-3.0-or-later
// What the store said lately, with a life per answer (management.md 6). Shared by all workers, sharded;
// bounded whatever strangers ask for.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "conf/config.hpp"
#include "proxy/siphash.hpp"

namespace postern::proxy {

class RouteCache {
 public:
  /// RFC 5321, 4.5.3.1: what is longer than an address can be is not remembered.
  static constexpr size_t longest_identifier = 64 + 1 + 255;

  explicit RouteCache(const conf::MappingConf& conf);

  /// What is remembered: a destination's name, or null for "no mapping, the default". Nothing: ask the store.
  [[nodiscard]] std::optional<const std::string*> find(std::string_view identifier, uint64_t now_ms);
  /// Remembers an answer; `destination` null is the default. `era` is that of the snapshot whose store was
  /// asked: what an earlier one says is not worth keeping.
  void put(std::string_view identifier, const std::string* destination, uint64_t now_ms, uint64_t era = 0);
  /// From now on only answers of this era are taken.
  void begin(uint64_t era) { era_.store(era); }
  void clear();
  /// Entries that could still be served.
  [[nodiscard]] size_t entries(uint64_t now_ms) const;

 private:
  struct Entry {
    const std::string* destination;  // interned, or null
    uint64_t until;
  };
  using Map = std::unordered_map<std::string, Entry, KeyedHash, std::equal_to<>>;
  /// Two generations: what nobody asked for while the younger one filled up is forgotten with the older one.
  struct Shard {
    mutable std::mutex mutex;
    Map young, old;
  };
  Shard& shard(std::string_view identifier) { return *shards_[keyed_hash(identifier) % shards_.size()]; }
  const std::string* intern(const std::string& name);
  void insert(Shard& shard, std::string key, Entry entry) const;

  const uint64_t positive_ms_, negative_ms_;
  size_t generation_;  // most entries of one generation of one shard; 0: no cache
  std::atomic<uint64_t> era_{0};
  std::vector<std::unique_ptr<Shard>> shards_;
  std::mutex names_mutex_;
  std::set<std::string, std::less<>> names_;
};

}  // namespace postern::proxy
