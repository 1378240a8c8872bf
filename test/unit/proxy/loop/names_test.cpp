// SPDX-License-Identifier: GPL-3.0-or-later
// What is known of a name and what follows from it; one lookup a name, threads that are bounded and shared
// out, and answers that reach the loop they are for; addresses that lead back to this process.
#include <doctest/doctest.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "proxy/backend/own_address.hpp"
#include "proxy/loop/name_service.hpp"
#include "proxy/loop/resolver.hpp"

using namespace postern;
using namespace postern::proxy;
using What = NameRecord::What;

namespace {

constexpr uint64_t hour = 3'600'000;
const NameTimes times;

NameAnswer found(const char* address = "192.0.2.1") {
  return {NameResult::found, std::make_shared<const std::vector<conf::Ip>>(1, *conf::Ip::parse(address)), {}};
}
NameAnswer absent() { return {NameResult::absent, nullptr, "no such name"}; }
NameAnswer silent() { return {NameResult::silent, nullptr, "no answer"}; }

struct Told {
  What what;
  bool look_up;
  uint64_t patience = 0;
  bool operator==(const Told&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Told& t) {
  return out << static_cast<int>(t.what) << (t.look_up ? " look up " : " ") << t.patience;
}
Told ask(const NameRecord& record, uint64_t now, uint64_t stale = hour, bool retry = false) {
  const auto advice = record.ask(now, stale, retry, times);
  return {advice.what, advice.look_up, advice.patience};
}

/// Names that are looked up when the test says so.
class Hand {
 public:
  Hand() = default;
  Hand(const Hand&) = delete;
  Hand& operator=(const Hand&) = delete;
  /// A service that has gone leaves its threads to themselves: they may still be in here.
  ~Hand() {
    std::unique_lock lock(mutex_);
    over_ = true;
    changed_.notify_all();
    changed_.wait(lock, [&] { return inside_ == 0; });
  }
  NameAnswer operator()(const std::string& name) {
    std::unique_lock lock(mutex_);
    ++inside_;
    ++begun_[name];
    changed_.notify_all();
    changed_.wait(lock, [&] { return over_ || answers_.contains(name); });
    NameAnswer answer = answers_.contains(name) ? answers_.at(name) : NameAnswer{};
    --inside_;
    changed_.notify_all();
    return answer;
  }
  void answer(const std::string& name, NameAnswer answer) {
    const std::lock_guard lock(mutex_);
    answers_.insert_or_assign(name, std::move(answer));
    changed_.notify_all();
  }
  void hold(const std::string& name) {
    const std::lock_guard lock(mutex_);
    answers_.erase(name);
  }
  bool await_begun(const std::string& name, int count = 1) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), [&] { return begun_[name] >= count; });
  }
  int begun(const std::string& name) {
    const std::lock_guard lock(mutex_);
    return begun_[name];
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, NameAnswer> answers_;
  std::map<std::string, int> begun_;
  int inside_ = 0;  // lookups under way
  bool over_ = false;
};

struct Ear final : NameService::Asker {
  std::mutex mutex;
  std::vector<std::string> heard;
  void learned(const std::string& name) noexcept override {
    const std::lock_guard lock(mutex);
    heard.push_back(name);
  }
  size_t count() {
    const std::lock_guard lock(mutex);
    return heard.size();
  }
};

bool await(const std::function<bool()>& what) {
  for (int i = 0; i < 20'000; ++i) {
    if (what()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

}  // namespace

TEST_CASE("a name nobody has asked for is looked up once, and whoever comes meanwhile waits") {
  NameRecord record;
  CHECK(ask(record, 1000) == Told{What::wait, true});
  record.begin(1000);
  CHECK(ask(record, 1001) == Told{What::wait, false});
  CHECK(ask(record, 1000 + hour) == Told{What::wait, false});
  record.learn(found(), 1010);
  CHECK(ask(record, 1010) == Told{What::use, false});
  CHECK(ask(record, 6009) == Told{What::use, false});
  CHECK(record.addresses()->front().text() == "192.0.2.1");
}

TEST_CASE("an answer that has aged is asked for again, and waited for with patience") {
  NameRecord record;
  record.begin(0);
  record.learn(found(), 0);
  CHECK(ask(record, 5000) == Told{What::wait, true, 500});
  record.begin(5000);
  CHECK(ask(record, 5200) == Told{What::wait, false, 300});
  CHECK(ask(record, 5500) == Told{What::use_last, false});
  record.learn(found("192.0.2.2"), 6000);
  CHECK(ask(record, 6000) == Told{What::use, false});
  CHECK(record.addresses()->front().text() == "192.0.2.2");
}

TEST_CASE("who retries wants a younger answer, but no more than one lookup a second") {
  NameRecord record;
  record.begin(0);
  record.learn(found(), 0);
  CHECK(ask(record, 999, hour, true) == Told{What::use, false});
  CHECK(ask(record, 1000, hour, true) == Told{What::wait, true, 500});
  CHECK(ask(record, 1000) == Told{What::use, false});
}

TEST_CASE("with a silent name server the last good addresses are used at once, until they are too old") {
  NameRecord record;
  record.begin(0);
  record.learn(found(), 0);
  record.begin(5000);
  record.learn(silent(), 15'000);
  CHECK(ask(record, 15'000) == Told{What::use_last, false});  // and not asked again for a second
  CHECK(ask(record, 16'000) == Told{What::use_last, true});
  CHECK(record.age(16'000) == 16'000);
  CHECK(ask(record, 45'000) == Told{What::wait, true, 500});  // it may be well again: half a second for it
  CHECK(ask(record, hour - 1) == Told{What::wait, true, 500});
  CHECK(ask(record, hour) == Told{What::wait, true});  // nothing to fall back on
  CHECK(ask(record, 16'000, 0) == Told{What::wait, true});
  CHECK(ask(record, 15'500, 0) == Told{What::give_up, false});
}

TEST_CASE("a name that brought nothing is not asked for again for a second") {
  for (const auto& nothing : {absent(), silent()}) {
    NameRecord record;
    record.begin(0);
    record.learn(nothing, 100);
    CHECK(ask(record, 1099) == Told{What::give_up, false});
    CHECK(record.last() == nothing.result);
    CHECK(ask(record, 1100) == Told{What::wait, true});
  }
}

TEST_CASE("a name that vanishes is given up after the second answer that says so") {
  NameRecord record;
  record.begin(0);
  record.learn(found(), 0);
  record.learn(absent(), 6000);
  CHECK(ask(record, 6500) == Told{What::use_last, false});
  CHECK(ask(record, 7000) == Told{What::wait, true, 500});  // the second one is waited for
  record.learn(absent(), 7100);
  CHECK(record.addresses() == nullptr);
  CHECK(ask(record, 7200) == Told{What::give_up, false});
  record.learn(found(), 9000);
  record.learn(absent(), 15'000);
  CHECK(record.addresses() != nullptr);  // counted anew
}

TEST_CASE("a clock that seems to go back does no harm") {
  NameRecord record;
  record.begin(1000);
  record.learn(found(), 2000);
  CHECK(ask(record, 1999) == Told{What::use, false});
  record.begin(5000);
  CHECK(record.age(1000) == 0);
  CHECK_FALSE(record.forgettable(0, hour));
}

TEST_CASE("one lookup a name at a time, whoever asks, and all of them hear of it") {
  Hand hand;
  NameService names(std::ref(hand));
  Ear one, other;
  for (int i = 0; i < 100; ++i) {
    CHECK(names.ask("a.test", hour, false, one).what == What::wait);
    CHECK(names.ask("a.test", hour, false, other).what == What::wait);
  }
  REQUIRE(hand.await_begun("a.test"));
  CHECK(names.in_flight() == 1);
  hand.answer("a.test", found());
  CHECK(await([&] { return one.count() == 1 && other.count() == 1 && names.in_flight() == 0; }));
  CHECK(hand.begun("a.test") == 1);
  const auto reply = names.ask("a.test", hour, false, one);
  REQUIRE(reply.what == What::use);
  CHECK(reply.addresses->front().text() == "192.0.2.1");
  CHECK(names.counts().lookups[static_cast<size_t>(NameResult::found)] == 1);
}

TEST_CASE("who has gone hears nothing, and a service that goes does not wait") {
  Hand hand;
  auto names = std::make_unique<NameService>(std::ref(hand));
  Ear stays;
  {
    Ear goes;
    CHECK(names->ask("a.test", hour, false, goes).what == What::wait);
    CHECK(names->ask("a.test", hour, false, stays).what == What::wait);
    names->forget(goes);
  }
  REQUIRE(hand.await_begun("a.test"));
  hand.answer("a.test", silent());
  CHECK(await([&] { return stays.count() == 1; }));
  hand.hold("b.test");
  CHECK(names->ask("b.test", hour, false, stays).what == What::wait);
  REQUIRE(hand.await_begun("b.test"));
  names->forget(stays);
  const auto began = std::chrono::steady_clock::now();
  names.reset();
  CHECK(std::chrono::steady_clock::now() - began < std::chrono::seconds(5));
  hand.answer("b.test", found());  // the thread ends by itself
}

TEST_CASE("threads are bounded, and names that hang leave half of them to those that are answered") {
  Hand hand;
  NameTimes quick;
  quick.fresh = quick.again = 0;
  NameService names(std::ref(hand), 4, quick);
  Ear ear;
  const auto name = [](int i) { return "hung" + std::to_string(i); };
  const auto found_so_far = [&] { return names.counts().lookups[static_cast<size_t>(NameResult::found)]; };
  hand.answer("fine.test", found());
  names.ask("fine.test", hour, false, ear);
  CHECK(await([&] { return found_so_far() == 1 && names.in_flight() == 0; }));
  // Neither the first time nor later do they get more.
  for (int round = 1; round <= 2; ++round) {
    for (int i = 0; i < 8; ++i) CHECK(names.ask(name(i), hour, false, ear).what == What::wait);
    CHECK(await([&] { return hand.begun(name(0)) == round && hand.begun(name(1)) == round; }));
    const uint64_t before = found_so_far();
    names.ask("fine.test", hour, false, ear);
    CHECK(await([&] { return found_so_far() == before + 1; }));
    int hanging = 0;
    for (int i = 0; i < 8; ++i) hanging += hand.begun(name(i)) == round;
    CHECK(hanging == 2);
    for (int i = 0; i < 8; ++i) hand.answer(name(i), silent());
    CHECK(await([&] { return names.in_flight() == 0; }));  // those that were queued had their turn
    for (int i = 0; i < 8; ++i) CHECK(hand.begun(name(i)) == round);
    for (int i = 0; i < 8; ++i) hand.hold(name(i));
  }
}

TEST_CASE("a lookup that throws is one without an answer") {
  NameService names([](const std::string&) -> NameAnswer { throw std::bad_alloc(); });
  Ear ear;
  CHECK(names.ask("a.test", hour, false, ear).what == What::wait);
  CHECK(await([&] { return ear.count() == 1; }));
  const auto reply = names.ask("a.test", hour, false, ear);
  CHECK(reply.what == What::give_up);
  CHECK(reply.why == NameResult::silent);
}

TEST_CASE("the use of last good addresses is told once, and once when it is over") {
  Hand hand;
  NameTimes quick;
  quick.fresh = quick.again = 0;
  NameService names(std::ref(hand), 4, quick);
  Ear ear;
  const auto learn = [&](NameAnswer answer) {
    const size_t before = names.counts().lookups[0] + names.counts().lookups[2];
    hand.answer("a.test", std::move(answer));
    names.ask("a.test", hour, false, ear);
    CHECK(await([&] {
      return names.counts().lookups[0] + names.counts().lookups[2] > before && names.in_flight() == 0;
    }));
  };
  learn(found());
  learn(silent());
  hand.hold("a.test");
  int told = 0;
  for (int i = 0; i < 10; ++i) {
    const auto reply = names.ask("a.test", hour, false, ear);
    REQUIRE(reply.what == What::use_last);
    told += reply.tell;
  }
  CHECK(told == 1);
  CHECK(names.counts().last_good_uses >= 10);
  hand.answer("a.test", found());
  CHECK(await([&] { return names.in_flight() == 0; }));
}

TEST_CASE("those who wait on a loop may leave, ask again and end others while they are told") {
  Hand hand;
  NameService names(std::ref(hand));
  std::mutex mutex;
  std::vector<std::string> posted;
  auto resolver = std::make_unique<Resolver>(names, [&](const std::string& name) {
    const std::lock_guard lock(mutex);
    posted.push_back(name);
  });
  struct Waiter final : Resolver::Waiter {
    int told = 0;
    std::function<void()> then;
    void name_learned() noexcept override {
      ++told;
      if (then) then();
    }
  };
  std::vector<std::unique_ptr<Waiter>> all;
  for (int i = 0; i < 6; ++i) {
    all.push_back(std::make_unique<Waiter>());
    CHECK(resolver->ask("a.test", hour, false, *all.back()).what == What::wait);
  }
  resolver->ask("a.test", hour, false, *all[5]);  // asked twice, told once
  all[5]->then = [&] {
    all[4].reset();
    CHECK(resolver->ask("b.test", hour, false, *all[5]).what == What::wait);
  };
  all[3]->cancel();
  REQUIRE(hand.await_begun("a.test"));
  hand.answer("a.test", found());
  CHECK(await([&] {
    const std::lock_guard lock(mutex);
    return posted.size() == 1;
  }));
  resolver->tell("a.test");
  resolver->tell("a.test");
  resolver->tell("never heard of");
  CHECK((all[0]->told == 1 && all[1]->told == 1 && all[2]->told == 1 && all[3]->told == 0));
  CHECK(all[5]->told == 1);
  resolver.reset();  // all[5] still waits for b.test
  REQUIRE(hand.await_begun("b.test"));
  hand.answer("b.test", found());
  CHECK(await([&] { return names.in_flight() == 0; }));
  CHECK(posted.size() == 1);
  all.clear();
}

TEST_CASE("numbers and this machine's own names need no name server") {
  for (const char* name : {"127.0.0.1", "127.1", "localhost"}) {
    const NameAnswer answer = NameService::system_lookup(name);
    CAPTURE(name);
    REQUIRE(answer.result == NameResult::found);
    CHECK(answer.addresses->front().is_loopback());
  }
  CHECK(NameService::system_lookup("::ffff:0.0.0.0").addresses->front().is_any());
}

TEST_CASE("without a descriptor to be had, nothing is said about a name") {
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  const rlimit none{3, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  const NameAnswer answer = NameService::system_lookup("localhost");
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
  CHECK(answer.result == NameResult::silent);
  CHECK(answer.error == "Too many open files");
}

TEST_CASE("what would come back to this process") {
  const auto at = [](const char* text) { return *conf::SocketAddress::parse(text); };
  struct Row {
    const char* own;
    const char* target;
    bool is_own;
  };
  const Row rows[] = {
      {"127.0.0.1:25", "127.0.0.1:25", true},
      {"127.0.0.1:25", "127.0.0.1:26", false},
      {"127.0.0.1:25", "0.0.0.0:25", true},
      {"127.0.0.1:25", "[::ffff:0.0.0.0]:25", true},
      {"127.0.0.1:25", "[::ffff:7f00:1]:25", true},
      {"127.0.0.1:25", "[::]:25", false},
      {"[::1]:25", "[::]:25", true},
      {"[::1]:25", "[0:0:0:0:0:0:0:0]:25", true},
      {"[::1]:25", "0.0.0.0:25", false},
      {"0.0.0.0:25", "0.0.0.0:25", true},
      {"0.0.0.0:25", "127.9.9.9:25", true},
      {"[::]:25", "0.0.0.0:25", true},
      {"[::]:25", "[::1]:25", true},
      {"0.0.0.0:25", "192.0.2.77:25", false},
      {"192.0.2.1:25", "0.0.0.0:25", false},
      {"192.0.2.1:25", "192.0.2.1:25", true},
  };
  for (const Row& row : rows) {
    CAPTURE(row.own);
    CAPTURE(row.target);
    conf::SocketAddress target = at(row.target);
    target.ip = reached(target.ip);
    CHECK_FALSE(target.ip.is_any());
    CHECK(is_own({at(row.own)}, target) == row.is_own);
  }
}
