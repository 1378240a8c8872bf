// SPDX-License-Identifier: GPL-3.0-or-later
// The store loop's thread, with a store that answers by its own rules: the way of a question to it and back.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "proxy/server/store_loop.hpp"

using namespace postern;
using namespace postern::proxy;

namespace {

/// Names that begin with "new" are at the destination of that name; "broken" ones fail; "mute" ones get no
/// answer.
struct RuleStore final : Store {
  explicit RuleStore(std::atomic<int>& alive) : living(alive) { ++living; }
  ~RuleStore() override {
    for (Question& question : open) question.answered({StoreAnswer::Kind::failed, "closed"});
    --living;
  }
  void find(std::vector<Question> questions, uint64_t) override {
    for (Question& question : questions) {
      if (question.name.starts_with("mute"))
        open.push_back(std::move(question));
      else if (question.name.starts_with("broken"))
        question.answered({StoreAnswer::Kind::failed, "broken"});
      else if (question.name.starts_with("new"))
        question.answered({StoreAnswer::Kind::found, "new"});
      else
        question.answered({StoreAnswer::Kind::absent, {}});
    }
  }
  void put(std::string, std::string, uint64_t, Answered) override {}
  void erase(std::string, uint64_t, Answered) override {}
  [[nodiscard]] StoreState state() const override { return {true, 3, {}}; }

  std::atomic<int>& living;
  std::vector<Question> open;
};

struct World {
  conf::Config config;
  Counters counters{2};
  NameService names;
  std::shared_ptr<RouteCache> cache;
  std::atomic<int> living{0};
  std::mutex mutex;
  std::condition_variable arrived;
  std::map<uint64_t, std::pair<size_t, LookupAnswer>> answers;  // by number, with the worker
  std::optional<StoreLoop> loop;

  World() {
    config.mapping.source = conf::MappingSource::redis;
    config.mapping.lookup_timeout = std::chrono::milliseconds(300);
    config.destinations.emplace_back().name = "new";
    cache = std::make_shared<RouteCache>(config.mapping);
    cache->keep_stale(std::chrono::hours(1));
    loop.emplace(counters, names, cache, [this](size_t worker, std::vector<LookupDesk::Answer> given) {
      const std::lock_guard lock(mutex);
      for (LookupDesk::Answer& one : given) answers[one.number] = {worker, std::move(one.answer)};
      arrived.notify_all();
    });
    use();
  }
  void use() {
    auto plan = std::make_shared<StorePlan>();
    plan->name = "rules";
    plan->make = [this](Loop&) { return std::make_unique<RuleStore>(living); };
    loop->use(std::move(plan), LookupRules::of(config, 0));
  }
  static uint64_t now() { return uv_hrtime() / 1'000'000; }
  LookupAnswer heard(uint64_t number, size_t worker) {
    std::unique_lock lock(mutex);
    REQUIRE(arrived.wait_for(lock, std::chrono::seconds(20), [&] { return answers.contains(number); }));
    CHECK(answers[number].first == worker);
    return answers[number].second;
  }
};

}  // namespace

TEST_CASE("questions of every mail loop come back to the loop that asked") {
  World world;
  world.loop->ask(0, {{1, "new1", World::now() + 5000}, {2, "other", World::now() + 5000}});
  world.loop->ask(1, {{3, "new2", World::now() + 5000}});
  CHECK(world.heard(1, 0).destination == "new");
  CHECK(world.heard(2, 0).kind == LookupAnswer::Kind::unmapped);
  CHECK(world.heard(3, 1).kind == LookupAnswer::Kind::mapped);
  CHECK(world.cache->find("new2", World::now()));
  const StoreLoop::Facts facts = world.loop->facts();
  CHECK(facts.name == "rules");
  CHECK(facts.reached);
  CHECK(facts.up);
  CHECK(world.counters.store.lookups[static_cast<size_t>(Lookup::found)].get() == 2);
}

TEST_CASE("a store that fails or says nothing ends in an answer in time") {
  World world;
  const uint64_t began = World::now();
  world.loop->ask(0, {{1, "broken", began + 5000}, {2, "mute", began + 300}});
  CHECK(world.heard(1, 0).why == "broken");
  CHECK(world.heard(2, 0).kind == LookupAnswer::Kind::failed);
  CHECK(World::now() - began >= 300);
}

TEST_CASE("another store takes over, and whoever waits asks again") {
  World world;
  world.loop->ask(0, {{1, "mute", World::now() + 60'000}});
  world.use();
  CHECK(world.heard(1, 0).kind == LookupAnswer::Kind::again);
  CHECK(world.loop->ask_and_wait("new", 1000).destination == "new");
  CHECK(world.living == 1);
  world.loop->use(nullptr, {});
  CHECK(world.loop->ask_and_wait("new", 1000).kind == LookupAnswer::Kind::again);
  CHECK(world.living == 0);
}

TEST_CASE("a store loop that ends takes its store with it, whatever is open") {
  World world;
  world.loop->ask(0, {{1, "mute", World::now() + 60'000}});
  CHECK(world.loop->ask_and_wait("new", 1000).destination == "new");
  world.loop.reset();
  CHECK(world.living == 0);
}

TEST_CASE("what has changed is asked anew") {
  World world;
  CHECK(world.loop->ask_and_wait("new", 1000).destination == "new");
  CHECK(world.cache->find("new", World::now()));
  world.loop->drop("new");
  CHECK(world.loop->ask_and_wait("other", 1000).kind == LookupAnswer::Kind::unmapped);  // drop() has run
  CHECK_FALSE(world.cache->find("new", World::now()));
}
