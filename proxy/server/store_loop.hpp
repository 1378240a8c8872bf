// SPDX-License-Identifier: GPL-3.0-or-later
// The thread on which the account store is asked: a loop of its own, the lookups on it, and the post between
// it and the mail loops.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "proxy/loop/loop.hpp"
#include "proxy/routing/lookup_desk.hpp"
#include "proxy/routing/lookups.hpp"
#include "proxy/stores/make_store.hpp"

namespace postern::proxy {

class StoreLoop final : LookupEvents, Errand {
 public:
  /// Takes answers to a mail loop. Called on the store loop.
  using Deliver = std::function<void(size_t worker, std::vector<LookupDesk::Answer> answers)>;

  StoreLoop(Counters& counters, NameService& names, std::shared_ptr<RouteCache> cache, Deliver deliver);
  ~StoreLoop();  // ends the thread; the store is gone, too
  StoreLoop(const StoreLoop&) = delete;
  StoreLoop& operator=(const StoreLoop&) = delete;

  // Any thread.
  /// Another store, or none for a null plan: whoever waits hears `again`.
  void use(std::shared_ptr<const StorePlan> plan, LookupRules rules) noexcept;
  /// The store stays, with other rules.
  void use(LookupRules rules) noexcept;
  void ask(size_t worker, std::vector<LookupDesk::Question> questions);
  void drop(std::string name);
  /// For commands and the start: blocks for the answer of the store itself, `timeout_ms` at most.
  LookupAnswer ask_and_wait(std::string name, uint64_t timeout_ms);

  struct Facts {
    std::string name;
    bool up = false;
    bool reached = false;  // since this store was made
    uint64_t connections = 0;
    std::string error;  // while it is not up
  };
  [[nodiscard]] Facts facts() const;

 private:
  void store_lost(const Outage& outage) override;
  void store_back(const Outage& outage, uint64_t now_ms) override;
  void undeclared(const std::string& destination) override;
  /// What is to be used. Without memory for a store it is tried again, and until then no account can be
  /// located.
  struct Wanted {
    bool store = false;  // another one, as `plan` says
    std::shared_ptr<const StorePlan> plan;
    LookupRules rules;
  };
  void want(Wanted wanted) noexcept;
  void perform() noexcept override;
  void make_store() noexcept;
  void turn_over();
  void look_at_store();

  const std::shared_ptr<RouteCache> cache_;
  const Deliver deliver_;
  Loop loop_;
  Lookups lookups_;
  std::string name_;
  Timer timer_;
  std::vector<std::vector<LookupDesk::Answer>> answers_;  // of this turn, by worker
  uint64_t looked_at_ = 0;
  Throttle undeclared_{1};
  std::optional<Wanted> pending_;  // a store that could not be made
  uint64_t try_again_at_ = 0;
  std::thread thread_;

  std::mutex orders_mutex_;  // of these
  std::optional<Wanted> wanted_;
  bool to_stop_ = false;

  mutable std::mutex facts_mutex_;
  Facts facts_;
};

}  // namespace postern::proxy
