// SPDX-License-Identifier: GPL-3.0-or-later
// The way of a lookup, with a store that does what the test says and a clock that the test turns.
#include <doctest/doctest.h>

#include <deque>
#include <string>
#include <vector>

#include "proxy/routing/lookups.hpp"

using namespace postern;
using namespace postern::proxy;

namespace {

/// Keeps what it is asked until the test answers.
struct FakeStore final : Store {
  struct Asked {
    Question question;
    uint64_t deadline;
  };
  explicit FakeStore(std::deque<Asked>& open, std::vector<size_t>& batches) : asked(open), sizes(batches) {}
  ~FakeStore() override {
    for (Asked& one : std::exchange(asked, {}))
      one.question.answered({StoreAnswer::Kind::failed, "the store is closed"});
  }
  void find(std::vector<Question> questions, uint64_t deadline_ms) override {
    sizes.push_back(questions.size());
    for (Question& question : questions) asked.push_back({std::move(question), deadline_ms});
  }
  void put(std::string, std::string, uint64_t, Answered) override {}
  void erase(std::string, uint64_t, Answered) override {}
  [[nodiscard]] StoreState state() const override { return {}; }

  std::deque<Asked>& asked;
  std::vector<size_t>& sizes;
};

struct Heard {
  std::vector<LookupAnswer> answers;
  Lookups::Answered here() {
    return [this](LookupAnswer answer) { answers.push_back(std::move(answer)); };
  }
  [[nodiscard]] std::string text() const {
    if (answers.empty()) return "nothing";
    REQUIRE(answers.size() == 1);
    const LookupAnswer& answer = answers[0];
    const std::string from = origin_names[static_cast<size_t>(answer.origin)];
    switch (answer.kind) {
      case LookupAnswer::Kind::mapped:
        return answer.destination + " from " + from;
      case LookupAnswer::Kind::unmapped:
        return "default from " + from;
      case LookupAnswer::Kind::again:
        return "again";
      case LookupAnswer::Kind::failed:
        break;
    }
    return "failed: " + answer.why;
  }
};

conf::MappingConf usual() {
  conf::MappingConf conf;
  conf.source = conf::MappingSource::redis;
  conf.positive_ttl = std::chrono::seconds(60);
  conf.negative_ttl = std::chrono::seconds(10);
  return conf;
}

struct World final : LookupEvents {
  explicit World(conf::OnError on_error = conf::OnError::stale) : cache(usual()) {
    cache.keep_stale(std::chrono::hours(1));
    rules.on_error = on_error;
    rules.positive_ms = 60'000;
    rules.destinations = {"old", "new"};
    open();
  }
  void open() { lookups.use(std::make_unique<FakeStore>(asked, batches), rules); }

  void store_lost(const Outage& outage) override { log += "lost (" + outage.why + "); "; }
  void store_back(const Outage& outage, uint64_t) override {
    log += "back, " + std::to_string(outage.refused) + " refused, " + std::to_string(outage.served_stale) +
           " stale; ";
  }
  void undeclared(const std::string& destination) override { log += "undeclared " + destination + "; "; }

  Heard& ask(std::string_view name, bool may_be_stale = true) {
    Heard& heard = all.emplace_back();
    lookups.ask(name, now + 5000, may_be_stale, heard.here());
    return heard;
  }
  Heard& asked_at_once(std::string_view name) {
    Heard& heard = ask(name);
    lookups.flush();
    return heard;
  }
  void pass(uint64_t ms) {
    for (const uint64_t end = now + ms; now < end;) {
      now = std::min(end, std::max(now + 1, lookups.due()));
      lookups.tick();
      lookups.flush();
    }
  }
  void answer(StoreAnswer::Kind kind, std::string text = {}) {
    REQUIRE_FALSE(asked.empty());
    const FakeStore::Asked one = std::move(asked.front());
    asked.pop_front();
    one.question.answered({kind, std::move(text)});
    lookups.flush();
  }
  void found(std::string text) { answer(StoreAnswer::Kind::found, std::move(text)); }
  void absent() { answer(StoreAnswer::Kind::absent); }
  void failure(std::string why) { answer(StoreAnswer::Kind::failed, std::move(why)); }
  /// The first attempt has its answer.
  void reach() {
    pass(1);
    REQUIRE(asked.size() == 1);
    CHECK(asked[0].question.name == Lookups::trial_name);
    absent();
  }
  /// Five lookups fail.
  void break_store() {
    if (!lookups.reached()) reach();
    for (int i = 0; i < 5; ++i) asked_at_once("stranger" + std::to_string(i));
    for (int i = 0; i < 5; ++i) failure("connection refused");
    REQUIRE(lookups.down());
    log.clear();
  }
  [[nodiscard]] uint64_t counted(Lookup result) const {
    return cells.lookups[static_cast<size_t>(result)].get();
  }

  uint64_t now = 1'000'000;
  RouteCache cache;
  WorkerCells cells;
  LookupRules rules;
  std::string log;
  std::deque<FakeStore::Asked> asked;
  std::vector<size_t> batches;
  std::deque<Heard> all;
  Lookups lookups{cache, cells, *this, [this] { return now; }, [] { return uint64_t{0}; }};
};

}  // namespace

TEST_CASE("whether a store can be reached is known before anybody logs in") {
  World world;
  CHECK_FALSE(world.lookups.reached());
  world.reach();
  CHECK(world.lookups.reached());
  CHECK(world.cache.entries() == 0);  // the trial is no account
}

TEST_CASE("an answer goes to whoever asked, and into the cache") {
  World world;
  world.reach();
  const Heard& alice = world.asked_at_once("alice");
  const Heard& bob = world.asked_at_once("bob");
  CHECK(alice.text() == "nothing");
  world.found("new");
  world.absent();
  CHECK(alice.text() == "new from store");
  CHECK(bob.text() == "default from store");
  CHECK(world.ask("alice").text() == "new from cache");
  CHECK(world.ask("bob").text() == "default from cache");
  CHECK(world.counted(Lookup::found) == 1);
  CHECK(world.counted(Lookup::absent) == 2);
  world.pass(10'000);
  CHECK(world.asked_at_once("bob").text() == "nothing");  // a shorter life
  world.absent();
  CHECK(world.ask("alice").text() == "new from cache");
  world.pass(50'000);
  CHECK(world.asked_at_once("alice").text() == "nothing");
}

TEST_CASE("one question a name, however many ask") {
  World world;
  world.reach();
  const Heard& first = world.asked_at_once("alice");
  world.pass(1);
  const Heard& second = world.asked_at_once("alice");
  const Heard& third = world.asked_at_once("alice");
  CHECK(world.asked.size() == 1);
  world.found("new");
  for (const Heard* heard : {&first, &second, &third}) CHECK(heard->text() == "new from store");
  CHECK(world.lookups.waiting() == 0);
  CHECK(world.lookups.in_flight() == 0);
}

TEST_CASE("what comes in one turn is asked together") {
  World world;
  world.reach();
  world.batches.clear();
  for (const char* name : {"a", "b", "c", "b"}) world.ask(name);
  CHECK(world.asked.empty());
  world.lookups.flush();
  world.asked_at_once("d");
  CHECK(world.batches == std::vector<size_t>{3, 1});
  CHECK(world.asked[0].deadline == world.now + 5000);
}

TEST_CASE("everybody has a deadline of his own, and the late answer is still worth keeping") {
  World world;
  world.reach();
  const Heard& first = world.asked_at_once("alice");
  world.pass(4000);
  const Heard& second = world.asked_at_once("alice");
  world.pass(999);
  CHECK(first.text() == "nothing");
  world.pass(1);
  CHECK(first.text() == "failed: it does not answer in time");
  CHECK(second.text() == "nothing");
  world.found("new");
  CHECK(second.text() == "new from store");
  CHECK(first.answers.size() == 1);
  CHECK(world.ask("alice").text() == "new from cache");
}

TEST_CASE("a destination that is not declared is no mapping, and is said") {
  World world;
  world.reach();
  const Heard& alice = world.asked_at_once("alice");
  world.found("elsewhere");
  CHECK(alice.text() == "default from store");
  CHECK(world.log == "undeclared elsewhere; ");
  world.pass(10'000);
  CHECK(world.asked_at_once("alice").text() == "nothing");  // with the short life of an absence
}

TEST_CASE("an empty text is no mapping") {
  World world;
  world.reach();
  const Heard& alice = world.asked_at_once("alice");
  world.found("");
  CHECK(alice.text() == "default from store");
}

TEST_CASE(
    "a failure is never an absence: a known account goes where it went, another is told to come later") {
  World world;
  world.reach();
  world.asked_at_once("alice");
  world.found("new");
  world.asked_at_once("bob");
  world.absent();
  world.pass(60'000);
  const Heard& alice = world.asked_at_once("alice");
  const Heard& bob = world.asked_at_once("bob");  // was unmapped, and may have moved since
  const Heard& carol = world.asked_at_once("carol");
  for (int i = 0; i < 3; ++i) world.failure("LOADING");
  CHECK(alice.text() == "new from stale");
  CHECK(alice.answers[0].age_ms == 60'000);
  CHECK(bob.text() == "failed: LOADING");
  CHECK(carol.text() == "failed: LOADING");
  CHECK(world.cells.served_stale.get() == 1);
  CHECK(world.counted(Lookup::error) == 3);
}

TEST_CASE("a last known answer has an end") {
  World world;
  world.reach();
  world.asked_at_once("alice");
  world.found("new");
  world.now += 60'000 + 3'600'000 - 1;
  const Heard& still = world.asked_at_once("alice");
  world.failure("gone");
  CHECK(still.text() == "new from stale");
  ++world.now;
  const Heard& over = world.asked_at_once("alice");
  world.failure("gone");
  CHECK(over.text() == "failed: gone");
}

TEST_CASE("with `refuse` only a fresh answer serves, with `default` everybody goes to the default") {
  for (const auto rule : {conf::OnError::refuse, conf::OnError::fallback}) {
    World world(rule);
    world.reach();
    world.asked_at_once("alice");
    world.found("new");
    world.pass(59'999);
    CHECK(world.ask("alice").text() == "new from cache");
    world.pass(1);
    const Heard& alice = world.asked_at_once("alice");
    world.failure("gone");
    const Heard& bob = world.asked_at_once("bob");
    while (!world.asked.empty()) world.failure("gone");
    const bool refuses = rule == conf::OnError::refuse;
    CHECK(alice.text() == (refuses ? "failed: gone" : "default from default"));
    CHECK(bob.text() == (refuses ? "failed: gone" : "default from default"));
  }
}

TEST_CASE("whoever must hear the present answer gets no other") {
  World world;
  world.reach();
  world.asked_at_once("alice");
  world.found("old");
  const Heard& held = world.ask("alice", false);
  world.lookups.flush();
  CHECK(held.text() == "nothing");  // not even a fresh one: the account was being moved
  world.failure("gone");
  CHECK(held.text() == "failed: gone");
  const Heard& later = world.ask("alice", false);
  world.lookups.flush();
  world.found("new");
  CHECK(later.text() == "new from store");
}

TEST_CASE("after five failures in a row nobody waits, and one answer ends it") {
  World world;
  world.reach();
  world.asked_at_once("alice");
  world.found("new");
  world.pass(60'000);
  for (int i = 0; i < 5; ++i) world.asked_at_once("stranger" + std::to_string(i));
  for (int i = 0; i < 4; ++i) world.failure("connection refused");
  CHECK_FALSE(world.lookups.down());
  CHECK(world.log.empty());
  world.failure("connection refused");
  CHECK(world.lookups.down());
  CHECK(world.log == "lost (connection refused); ");
  world.log.clear();

  const size_t before = world.batches.size();
  CHECK(world.ask("alice").text() == "new from stale");
  CHECK(world.ask("carol").text() == "failed: connection refused");
  world.lookups.flush();
  CHECK(world.batches.size() == before);
  CHECK(world.counted(Lookup::refused) == 1);

  world.pass(100);
  REQUIRE(world.asked.size() == 1);
  CHECK(world.asked[0].question.name == "carol");  // the last who had to be turned away
  world.found("new");
  CHECK_FALSE(world.lookups.down());
  CHECK(world.log == "back, 1 refused, 1 stale; ");
  CHECK(world.ask("carol").text() == "new from cache");
  CHECK(world.asked_at_once("dave").text() == "nothing");
}

TEST_CASE("an answer between failures starts the count anew") {
  World world;
  world.reach();
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 4; ++i) world.asked_at_once("x" + std::to_string(i));
    world.asked_at_once("good");
    for (int i = 0; i < 4; ++i) world.failure("odd");
    world.absent();
    world.pass(10'000);
  }
  CHECK_FALSE(world.lookups.down());
  CHECK(world.log.empty());
}

TEST_CASE("attempts come one at a time, less and less often, but every second") {
  World world;
  world.break_store();
  std::vector<uint64_t> at;
  for (int i = 0; i < 12; ++i) {
    for (int step = 0; step < 2000 && world.asked.empty(); ++step) world.pass(1);
    REQUIRE(world.asked.size() == 1);
    at.push_back(world.now);
    CHECK(world.ask("somebody").text() == "failed: connection refused");
    world.pass(3);
    CHECK(world.asked.size() == 1);
    world.failure("connection refused");
  }
  for (size_t i = 1; i < at.size(); ++i) CHECK(at[i] - at[i - 1] <= Lookups::longest_pause_ms + 5);
  CHECK(at[1] - at[0] < at.back() - at[at.size() - 2]);
}

TEST_CASE("without a single login a store that has gone is found out, and so is one that is back") {
  World world;
  world.reach();
  world.asked_at_once("alice");
  world.failure("reset");
  for (int i = 0; i < 4; ++i) {
    for (int step = 0; step < 2000 && world.asked.empty(); ++step) world.pass(1);
    world.failure("refused");
  }
  CHECK(world.lookups.down());
  for (int step = 0; step < 2000 && world.asked.empty(); ++step) world.pass(1);
  world.absent();
  CHECK_FALSE(world.lookups.down());
  CHECK(world.lookups.due() == UINT64_MAX);
}

TEST_CASE("a store that falls silent keeps nobody waiting who has a last known answer") {
  World world;
  world.reach();
  world.asked_at_once("alice");
  world.found("new");
  world.pass(60'000);
  const Heard& alice = world.asked_at_once("alice");
  const Heard& stranger = world.asked_at_once("stranger");
  world.pass(999);
  CHECK(alice.text() == "nothing");
  world.pass(1);
  CHECK(alice.text() == "new from stale");
  CHECK(stranger.text() == "nothing");
  CHECK(world.ask("alice").text() == "new from stale");  // and now at once
  CHECK(world.ask("stranger").text() == "nothing");
  world.found("old");  // it was only slow
  CHECK(world.ask("alice").text() == "old from cache");
  world.absent();
  CHECK(stranger.text() == "default from store");
  CHECK_FALSE(world.lookups.down());
}

TEST_CASE("a slow store is no silent one") {
  World world;
  world.reach();
  world.asked_at_once("alice");
  world.found("new");
  world.pass(60'000);
  const Heard& alice = world.asked_at_once("alice");
  for (int i = 0; i < 4; ++i) {
    world.asked_at_once("other" + std::to_string(i));
    world.asked.push_front(std::move(world.asked.back()));
    world.asked.pop_back();
    world.pass(900);
    world.absent();
  }
  CHECK(alice.text() == "nothing");
  world.found("old");
  CHECK(alice.text() == "old from store");
}

TEST_CASE("an attempt is given more time if it had too little, and logins that joined it have theirs") {
  World world;
  world.reach();
  world.asked_at_once("alice");
  world.failure("odd");
  for (int step = 0; step < 200 && world.asked.empty(); ++step) world.pass(1);
  REQUIRE(world.asked.size() == 1);
  CHECK(world.asked[0].deadline == world.now + 1000);
  const Heard& alice = world.asked_at_once("alice");
  CHECK(world.asked.size() == 1);
  world.pass(1000);
  world.answer(StoreAnswer::Kind::timeout);
  CHECK(alice.text() == "nothing");
  REQUIRE(world.asked.size() == 1);  // anew, with the time that a login has
  CHECK(world.asked[0].deadline == world.now + 5000);
  world.found("new");
  CHECK(alice.text() == "new from store");

  world.break_store();
  std::vector<uint64_t> patience;
  for (int i = 0; i < 5; ++i) {
    for (int step = 0; step < 2000 && world.asked.empty(); ++step) world.pass(1);
    patience.push_back(world.asked[0].deadline - world.now);
    world.pass(patience.back());
    world.answer(StoreAnswer::Kind::timeout);
  }
  CHECK(patience == std::vector<uint64_t>{1000, 2000, 4000, 5000, 5000});
}

TEST_CASE("a change drops what is known, also what is on its way") {
  World world;
  world.reach();
  world.asked_at_once("alice");
  world.found("old");
  world.lookups.drop("alice");
  const Heard& alice = world.asked_at_once("alice");
  CHECK(alice.text() == "nothing");
  world.lookups.drop("alice");
  world.found("old");  // asked before the change
  CHECK(alice.text() == "nothing");
  REQUIRE(world.asked.size() == 1);
  world.found("new");
  CHECK(alice.text() == "new from store");
  CHECK(world.ask("alice").text() == "new from cache");

  // Nobody waits any more: then it is not asked again, nor remembered.
  world.asked_at_once("bob");
  world.lookups.drop("bob");
  world.pass(5000);
  world.found("old");
  CHECK(world.asked.empty());
  CHECK(world.lookups.in_flight() == 0);
  CHECK(world.asked_at_once("bob").text() == "nothing");

  // Before it was sent it is the present answer that comes.
  const Heard& carol = world.ask("carol");
  world.lookups.drop("carol");
  world.lookups.flush();
  world.absent();
  world.found("new");
  CHECK(carol.text() == "new from store");
}

TEST_CASE("another store begins anew, and whoever waited for the old one asks again") {
  World world;
  world.break_store();
  CHECK(world.ask("alice").text() == "failed: connection refused");
  world.open();
  world.reach();
  const Heard& alice = world.asked_at_once("alice");
  const Heard& alice_too = world.asked_at_once("alice");
  world.open();
  CHECK(alice.text() == "again");
  CHECK(alice_too.text() == "again");
  CHECK(world.counted(Lookup::error) == 5);  // what a closed store says is no failure
  world.reach();
  const Heard& bob = world.asked_at_once("bob");
  world.lookups.use(nullptr, world.rules);
  CHECK(bob.text() == "again");
  CHECK(world.ask("carol").text() == "again");
  CHECK(world.lookups.due() == UINT64_MAX);
}

TEST_CASE("answers of an earlier configuration are not remembered") {
  World world;
  world.reach();
  world.asked_at_once("alice");
  world.cache.begin(1);
  world.found("new");
  CHECK(world.cache.entries() == 0);
  world.rules.era = 1;
  world.lookups.use(world.rules);
  world.asked_at_once("alice");
  world.found("new");
  CHECK(world.cache.entries() == 1);
}

TEST_CASE("there is an end to what may be under way") {
  World world;
  world.reach();
  for (size_t i = 0; i < Lookups::most_flights; ++i) world.ask("name" + std::to_string(i));
  CHECK(world.ask("one more").text() == "failed: too many lookups are under way");
  CHECK(world.counted(Lookup::refused) == 1);
  world.lookups.flush();
  world.absent();
  CHECK(world.asked_at_once("one more").text() == "nothing");
}
