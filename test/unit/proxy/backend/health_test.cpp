// SPDX-License-Identifier: GPL-3.0-or-later
// The circuit breaker, by the rules and examples of the specification (health model).
#include <doctest/doctest.h>

#include "proxy/backend/health.hpp"

using namespace postern;
using proxy::Health;
using proxy::HealthPolicy;
using proxy::Stage;
using Admission = proxy::Health::Admission;
using Change = proxy::Health::Change;
using Finding = proxy::Health::Finding;

namespace {

conf::Ip client(int n) { return *conf::Ip::parse("192.0.2." + std::to_string(n)); }

struct Breaker {
  Health health;
  HealthPolicy policy{3, 2, 2000};
  uint64_t now = 1'000'000;

  /// A login that fails. True: a trial is due.
  bool fail(Stage stage, const conf::Ip& from) { return health.failure(policy, stage, from); }
  bool fail(Stage stage, int from = 1) { return fail(stage, client(from)); }
  Admission admit() { return health.admit(policy, now); }
  Change tried(Finding finding) { return health.tried(policy, finding, now); }
  /// Suspected by its logins and found dead.
  void take_down() {
    for (int i = 0; i < 2; ++i) CHECK_FALSE(fail(Stage::connect));
    CHECK(fail(Stage::connect));
    CHECK(tried(Finding::down) == Change::went_down);
  }
  [[nodiscard]] bool down() const { return health.view(now).down; }
};

}  // namespace

TEST_CASE("connect failures of one client bring about a trial, and only its failure takes the host down") {
  Breaker b;
  CHECK_FALSE(b.fail(Stage::connect));
  CHECK_FALSE(b.fail(Stage::connect));
  CHECK(b.fail(Stage::connect));
  const auto view = b.health.view(b.now);
  CHECK(view.consecutive_failures == 3);
  CHECK(view.failure_sources == 1);
  CHECK(view.host_level_failure);
  CHECK(view.trying);
  CHECK_FALSE(view.down);
  CHECK(b.admit() == Admission::pass);  // nobody is refused until the trial has failed

  SUBCASE("it fails") {
    CHECK(b.tried(Finding::down) == Change::went_down);
    CHECK(b.down());
    CHECK(b.admit() == Admission::refuse);
    CHECK(b.health.view(b.now).consecutive_failures == 3);
  }
  SUBCASE("it succeeds") {
    CHECK(b.tried(Finding::up) == Change::none);
    CHECK(b.admit() == Admission::pass);
    CHECK(b.health.view(b.now).consecutive_failures == 0);
    CHECK_FALSE(b.health.view(b.now).host_level_failure);
  }
  SUBCASE("it could not be made: the suspicion stays, and the next failure asks again") {
    CHECK(b.tried(Finding::unknown) == Change::none);
    CHECK_FALSE(b.down());
    CHECK(b.health.view(b.now).consecutive_failures == 3);
    CHECK(b.fail(Stage::connect));
  }
}

TEST_CASE("whatever number of strangers fails behind the connect, a host that passes its trial stays up") {
  Breaker b;
  int trials = 0;
  for (int i = 0; i < 600; ++i) {
    CHECK(b.admit() == Admission::pass);
    if (!b.fail(Stage::later, i % 250)) continue;
    ++trials;
    b.tried(Finding::up);
  }
  CHECK(trials == 200);
}

TEST_CASE("one trial at a time, however many fail meanwhile") {
  Breaker b;
  for (int i = 0; i < 3; ++i) b.fail(Stage::connect);
  for (int i = 0; i < 50; ++i) CHECK_FALSE(b.fail(Stage::connect, i));
  CHECK(b.health.view(b.now).trying);
}

TEST_CASE("a login that is answered while the trial runs weighs more than its failure") {
  Breaker b;
  for (int i = 0; i < 3; ++i) b.fail(Stage::connect);
  CHECK_FALSE(b.health.success());
  CHECK(b.tried(Finding::down) == Change::none);
  CHECK_FALSE(b.down());
  CHECK(b.admit() == Admission::pass);
}

TEST_CASE("later failures of one client raise no suspicion, a second client's do") {
  Breaker b;
  for (int i = 0; i < 12; ++i) CHECK_FALSE(b.fail(Stage::later));
  const auto view = b.health.view(b.now);
  CHECK(view.consecutive_failures == 12);
  CHECK(view.failure_sources == 1);
  CHECK_FALSE(view.host_level_failure);
  CHECK_FALSE(view.trying);
  CHECK(b.fail(Stage::later, 2));
}

TEST_CASE("clients are IPv4 addresses and IPv6 networks of 64 bits") {
  struct Row {
    const char* one;
    const char* other;
    bool same;
  };
  for (const Row& row : {
           Row{"192.0.2.1", "192.0.2.1", true},
           Row{"192.0.2.1", "192.0.2.2", false},
           Row{"2001:db8:1:2::1", "2001:db8:1:2::2", true},
           Row{"2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", true},
           Row{"2001:db8:1:2::1", "2001:db8:1:3::1", false},
           Row{"192.0.2.1", "::ffff:192.0.2.1", true},
           Row{"192.0.2.1", "::ffff:192.0.2.2", false},
           Row{"192.0.2.1", "2001:db8::192.0.2.1", false},
       }) {
    CAPTURE(row.one);
    CAPTURE(row.other);
    Breaker b;
    for (int i = 0; i < 5; ++i) CHECK_FALSE(b.fail(Stage::later, *conf::Ip::parse(row.one)));
    CHECK(b.fail(Stage::later, *conf::Ip::parse(row.other)) != row.same);
    CHECK(b.health.view(b.now).failure_sources == (row.same ? 1 : 2));
  }
}

TEST_CASE("min_clients 0 lets the number of failures raise suspicion alone") {
  Breaker b;
  b.policy.min_clients = 0;
  CHECK_FALSE(b.fail(Stage::later));
  CHECK_FALSE(b.fail(Stage::later));
  CHECK(b.fail(Stage::later));
}

TEST_CASE("after the cooldown exactly one login makes the trial, and the others are refused until it ends") {
  Breaker b;
  b.take_down();
  b.now += 1999;
  CHECK(b.admit() == Admission::refuse);
  b.now += 1;
  CHECK_FALSE(b.down());
  CHECK(b.health.view(b.now).tripped);
  CHECK(b.admit() == Admission::trial);
  for (int i = 0; i < 20; ++i) CHECK(b.admit() == Admission::refuse);

  SUBCASE("a trial that fails starts another cooldown") {
    b.now += 500;
    CHECK(b.tried(Finding::down) == Change::none);
    CHECK(b.down());
    b.now += 1999;
    CHECK(b.admit() == Admission::refuse);
    b.now += 1;
    CHECK(b.admit() == Admission::trial);
  }
  SUBCASE("a trial that succeeds clears everything") {
    CHECK(b.tried(Finding::up) == Change::came_up);
    CHECK(b.admit() == Admission::pass);
    CHECK(b.health.view(b.now).consecutive_failures == 0);
    CHECK_FALSE(b.health.view(b.now).tripped);
    CHECK_FALSE(b.health.success());
  }
  SUBCASE("a trial that could not be made is made again a second later") {
    CHECK(b.tried(Finding::unknown) == Change::none);
    CHECK(b.admit() == Admission::refuse);
    b.now += 1000;
    CHECK(b.admit() == Admission::trial);
  }
  SUBCASE("failures of logins that were under way change nothing") {
    for (int i = 0; i < 9; ++i) CHECK_FALSE(b.fail(Stage::connect, i));
    CHECK(b.admit() == Admission::refuse);
  }
}

TEST_CASE("failures of logins under way do not prolong the cooldown") {
  Breaker b;
  b.take_down();
  b.now += 1900;
  CHECK_FALSE(b.fail(Stage::connect));
  b.now += 100;
  CHECK(b.admit() == Admission::trial);
}

TEST_CASE("a login under way that is answered brings the host back at once") {
  Breaker b;
  b.take_down();
  CHECK(b.health.success());
  CHECK_FALSE(b.down());
  CHECK(b.admit() == Admission::pass);
}

TEST_CASE("a success in between starts the count anew") {
  Breaker b;
  b.fail(Stage::connect);
  b.fail(Stage::connect);
  b.health.success();
  CHECK_FALSE(b.fail(Stage::connect));
  CHECK_FALSE(b.fail(Stage::connect));
  CHECK(b.health.view(b.now).consecutive_failures == 2);
}

TEST_CASE("threshold 0 turns the breaker off, also while it is open or a trial runs") {
  Breaker b;
  b.take_down();
  b.policy.threshold = 0;
  CHECK(b.admit() == Admission::pass);
  Breaker trying;
  for (int i = 0; i < 3; ++i) trying.fail(Stage::connect);
  trying.policy.threshold = 0;
  CHECK(trying.tried(Finding::down) == Change::none);
  CHECK_FALSE(trying.down());
  Breaker never;
  never.policy.threshold = 0;
  for (int i = 0; i < 50; ++i) CHECK_FALSE(never.fail(Stage::connect, i));
}

TEST_CASE("a reset clears all, and a trial under way decides nothing any more") {
  Breaker b;
  b.take_down();
  b.health.reset();
  CHECK(b.admit() == Admission::pass);
  for (int i = 0; i < 3; ++i) b.fail(Stage::connect);
  b.health.reset();
  CHECK(b.tried(Finding::down) == Change::none);
  CHECK_FALSE(b.down());
}

TEST_CASE("the set of clients is bounded") {
  Breaker b;
  b.policy.threshold = 1000;
  for (int i = 0; i < 200; ++i) b.fail(Stage::later, i);
  CHECK(b.health.view(b.now).failure_sources == 64);
  CHECK(b.health.view(b.now).consecutive_failures == 200);
}
