// SPDX-License-Identifier: GPL-3.0-or-later
// What the store said lately, with a life per answer (management.md 6). Shared by all workers, sharded;
// bounded whatever strangers ask for. No call walks more than a few entries.
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
#include "proxy/base/keyed_hash.hpp"

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
  /// Nothing is remembered any more. The memory comes back by age().
  void clear();

  /// Frees at most `budget` entries whose life is over, a few at a time under each lock, and says how many.
  /// As many as that: there may be more, call again soon.
  size_t age(uint64_t now_ms, size_t budget);
  /// How many entries are remembered. Those whose life is over are among them until age() or a later put()
  /// has freed them.
  [[nodiscard]] size_t entries() const;

 private:
  struct Entry;
  using Map = std::unordered_map<std::string, Entry, KeyedHash, std::equal_to<>>;
  using Node = Map::value_type;
  struct Entry {
    const std::string* destination = nullptr;  // interned, or null
    uint64_t until = 0;
    Node* newer = nullptr;
    Node* older = nullptr;
    bool used = false;  // found since it came, or since the hand passed it
  };
  /// Answers with the same life, in the order they came: those at the old end expire first. At the bound a
  /// hand goes from old to new and takes the first that nobody used since it last came by.
  struct Queue {
    Node* newest = nullptr;
    Node* oldest = nullptr;
    Node* hand = nullptr;
    size_t size = 0;

    void push(Node& node);
    void take(Node& node);
    Node& victim();
  };
  struct Shard {
    mutable std::mutex mutex;
    Map map;
    Queue known, unknown;  // mapped accounts; names the store does not know
  };
  Shard& shard(std::string_view identifier) { return *shards_[keyed_hash(identifier) % shards_.size()]; }
  const std::string* intern(const std::string& name);
  static void erase(Shard& shard, Queue& queue, Node& node);
  static size_t expire(Shard& shard, uint64_t now_ms, size_t most);

  const uint64_t positive_ms_, negative_ms_;
  size_t most_known_ = 0, most_unknown_ = 0;  // of one shard
  std::atomic<uint64_t> era_{0};
  std::vector<std::unique_ptr<Shard>> shards_;
  size_t next_ = 0;             // the shard age() looks at next
  std::vector<Map> forgotten_;  // by clear(), not yet freed; only for clear() and age()
  std::mutex forgotten_mutex_;
  std::mutex names_mutex_;
  std::set<std::string, std::less<>> names_;
};

}  // namespace postern::proxy
