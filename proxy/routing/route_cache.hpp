// SPDX-License-Identifier: GPL-3.0-or-later
// What the store said lately, with a life per answer (management.md 6), and for a while past it, for when the
// store does not answer. Shared by all workers, sharded; bounded whatever strangers ask for.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
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
  /// The same, and what is past its life but may serve while the store fails. Nobody is served a "no mapping"
  /// past its life: the account may have got one.
  struct Kept {
    const std::string* destination;
    int64_t left_ms;  // of its life; not above 0: past it
    bool from_disk;   // nobody has asked the store about it since the start
  };
  [[nodiscard]] std::optional<Kept> look(std::string_view identifier, uint64_t now_ms);
  /// Remembers an answer; `destination` null is the default. `era` is that of the snapshot whose store was
  /// asked: what an earlier one says is not worth keeping.
  void put(std::string_view identifier, const std::string* destination, uint64_t now_ms, uint64_t era = 0);
  /// From now on only answers of this era are taken.
  void begin(uint64_t era) { era_.store(era); }
  /// How long answers past their life are kept; 0 at first.
  void keep_stale(std::chrono::milliseconds stale) { stale_ms_.store(stale.count()); }
  /// What the store says about this identifier has changed: the next who asks hears it from the store.
  void drop(std::string_view identifier);
  /// Nothing is remembered any more. The memory comes back by age().
  void clear();

  /// Frees at most `budget` entries whose life is over, a few at a time under each lock, and says how many.
  /// As many as that: there may be more, call again soon.
  size_t age(uint64_t now_ms, size_t budget);
  // For the copy on disk. A mapping with `left_ms` of its life to go, below 0 for one past it.
  using Visit =
      std::function<void(std::string_view identifier, const std::string& destination, int64_t left_ms)>;
  [[nodiscard]] size_t shards() const { return shards_.size(); }
  void each_mapping(size_t shard, uint64_t now_ms, const Visit& visit) const;
  /// Only what the cache does not have yet; the oldest first, so that they go first. False: no room or no
  /// use.
  bool restore(std::string_view identifier, const std::string& destination, int64_t left_ms, uint64_t now_ms);

  /// How many entries are remembered. Those whose life is over are among them until age() or a later put()
  /// has freed them.
  [[nodiscard]] size_t entries() const;

 private:
  struct Entry;
  using Map = std::unordered_map<std::string, Entry, KeyedHash, std::equal_to<>>;
  using Node = Map::value_type;
  struct Entry {
    const std::string* destination = nullptr;  // interned, or null
    int64_t until = 0;  // on the loops' clock; below zero if it was long before this machine started
    Node* newer = nullptr;
    Node* older = nullptr;
    bool used = false;  // found since it came, or since the hand passed it
    bool from_disk = false;
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
  size_t expire(Shard& shard, uint64_t now_ms, size_t most) const;
  void keep(Shard& shard, std::string_view identifier, const std::string* name, Entry entry);

  const int64_t positive_ms_, negative_ms_;
  std::atomic<int64_t> stale_ms_{0};
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
