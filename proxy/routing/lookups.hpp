// SPDX-License-Identifier: GPL-3.0-or-later
// Between logins and an account store that may be slow, broken or gone (stores.md 3): one question a name at
// a time, what came in one turn asked together, last known answers while the store fails, and one attempt
// after another in the background until it answers again. Lives on the store loop; clock and store are
// handed in.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "conf/config.hpp"
#include "proxy/base/keyed_hash.hpp"
#include "proxy/observe/counters.hpp"
#include "proxy/routing/route_cache.hpp"
#include "proxy/stores/store.hpp"

namespace postern::proxy {

/// Where an answer came from (management.md 4.4).
enum class Origin : uint8_t { store, cache, stale, snapshot, fallback };
inline constexpr std::array<const char*, 5> origin_names = {"store", "cache", "stale", "snapshot", "default"};

struct LookupAnswer {
  enum class Kind : uint8_t {
    mapped,    // to `destination`, which is declared
    unmapped,  // the default destination
    failed,    // nobody knows: a temporary failure; `why` is for the record
    again,     // the configuration has changed meanwhile: ask anew under the present one
  };
  Kind kind = Kind::failed;
  Origin origin = Origin::store;
  std::string destination;
  std::string why;      // of failed, and of what is served for want of an answer
  int64_t age_ms = 0;   // since the store said it
  int64_t left_ms = 0;  // of its life, below 0 past it; unless it comes from the store
};

struct LookupRules {
  uint64_t timeout_ms = 5000;
  conf::OnError on_error = conf::OnError::stale;
  uint64_t era = 0;  // of what is put into the cache
  int64_t positive_ms = 600'000;
  std::set<std::string, std::less<>> destinations;  // that are declared

  static LookupRules of(const conf::Config& config, uint64_t era);
};

/// What the last known answers and the rules give an account about which the store says nothing.
LookupAnswer without_store(RouteCache& cache, const LookupRules& rules, std::string_view name,
                           uint64_t now_ms, bool may_be_stale, std::string why);

/// A time in which the store did not answer, for the record of its end.
struct Outage {
  std::string why;
  uint64_t began_ms = 0;
  uint64_t refused = 0;       // lookups
  uint64_t served_stale = 0;  // the same
};

class LookupEvents {
 public:
  virtual void store_lost(const Outage& outage) = 0;
  virtual void store_back(const Outage& outage, uint64_t now_ms) = 0;
  /// `destination` is not declared; the account is treated as unmapped.
  virtual void undeclared(const std::string& destination) = 0;

 protected:
  ~LookupEvents() = default;
};

class Lookups {
 public:
  static constexpr unsigned failures_to_break = 5;  // in a row
  static constexpr uint64_t silence_ms = 1000;      // nothing heard: those with a known answer wait no longer
  static constexpr uint64_t shortest_pause_ms = 100, longest_pause_ms = 1000;  // between attempts
  static constexpr size_t most_flights = 65'536;
  /// Asked where nobody has asked for a name yet. No login can have it.
  static constexpr std::string_view trial_name = "postern trial";

  using Answered = std::function<void(LookupAnswer)>;
  using Clock = std::function<uint64_t()>;  // milliseconds, as those of every deadline
  using Random = std::function<uint64_t()>;

  Lookups(RouteCache& cache, WorkerCells& cells, LookupEvents& events, Clock clock, Random random);
  ~Lookups();
  Lookups(const Lookups&) = delete;
  Lookups& operator=(const Lookups&) = delete;

  /// From now on this store is asked, by these rules. Whoever waits hears `again`. Null: none is.
  void use(std::unique_ptr<Store> store, LookupRules rules);
  /// The store stays; what a reload changed around it holds from now on.
  void use(LookupRules rules) { rules_ = std::move(rules); }

  /// `answered` is called once, by `deadline_ms` at the latest, maybe before this returns. Names are
  /// normalised and at most 320 bytes.
  void ask(std::string_view name, uint64_t deadline_ms, bool may_be_stale, Answered answered);
  /// The turn is over: what came in it goes to the store.
  void flush();
  /// What the store said about this name before now counts no more.
  void drop(std::string_view name);

  /// When tick() is due; UINT64_MAX: not at all.
  [[nodiscard]] uint64_t due() const;
  void tick();

  [[nodiscard]] bool down() const { return down_; }
  [[nodiscard]] bool reached() const { return reached_; }
  [[nodiscard]] const Store* store() const { return store_.get(); }
  [[nodiscard]] size_t waiting() const { return waiters_.size(); }
  [[nodiscard]] size_t in_flight() const { return flights_.size(); }

 private:
  enum class Purpose : uint8_t { logins, attempt };
  struct Flight {
    uint64_t number = 0;
    Purpose purpose = Purpose::logins;
    bool sent = false;
    bool outdated = false;  // drop() came while it was under way
    uint64_t sent_us = 0;
    std::vector<uint64_t> waiters;
  };
  struct Waiter {
    std::string_view name;  // of its flight
    uint64_t deadline = 0;
    bool may_be_stale = true;
    Answered answered;
  };
  using Flights = std::unordered_map<std::string, Flight, KeyedHash, std::equal_to<>>;

  Flights::iterator begin_flight(std::string_view name, Purpose purpose);
  Store::Question question(Flights::value_type& flight);
  void heard(const std::string& name, uint64_t number, StoreAnswer answer);
  void succeeded(Flights::iterator at, StoreAnswer answer);
  void failed(Flights::iterator at, const StoreAnswer& answer);
  void give(uint64_t waiter, LookupAnswer answer) noexcept;
  void serve_without(uint64_t waiter, std::string_view why) noexcept;
  void abandon(Flights::iterator at, std::string_view why) noexcept;
  LookupAnswer refuse(std::string_view name, bool may_be_stale);
  void serve_those_with_a_known_answer();
  [[nodiscard]] bool silent() const;
  void want_attempt(std::string_view name);
  void attempt();
  void land(Flights::iterator at);

  RouteCache& cache_;
  WorkerCells& cells_;
  LookupEvents& events_;
  const Clock clock_;
  const Random random_;
  std::unique_ptr<Store> store_;
  LookupRules rules_;

  uint64_t now_ = 0;  // of the call under way
  Flights flights_;
  std::vector<std::string> unsent_;
  std::unordered_map<uint64_t, Waiter> waiters_;
  std::set<std::pair<uint64_t, uint64_t>> deadlines_;  // with the waiter's number
  uint64_t next_ = 1;
  size_t outstanding_ = 0;
  uint64_t heard_ms_ = 0;  // the last sign of life while questions are outstanding, or when the first went
  bool silence_served_ = false;  // of this silence

  unsigned failures_ = 0;  // in a row
  bool down_ = false;
  bool reached_ = false;
  Outage outage_;
  std::string attempt_name_;
  uint64_t attempt_at_ = UINT64_MAX;
  bool attempting_ = false;
  uint64_t pause_ms_ = shortest_pause_ms;
  uint64_t patience_ms_ = silence_ms;  // of an attempt
};

}  // namespace postern::proxy
