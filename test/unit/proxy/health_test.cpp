// SPDX-License-Identifier: GPL-3.0-or-later
// The circuit breaker, by the rules and examples of the specification (health model).
#include <doctest/doctest.h>

#include "proxy/health.hpp"

using namespace postern;
using proxy::Health;
using proxy::HealthPolicy;
using proxy::Stage;
using Admission = proxy::Health::Admission;

namespace {

conf::Ip client(int n) { return *conf::Ip::parse("192.0.2." + std::to_string(n)); }

struct Breaker {
  Health health;
  HealthPolicy policy{3, 2, 2000};
  uint64_t now = 1'000'000;
  /// One attempt that fails; returns how it was admitted.
  Admission fail(Stage stage, int from = 1) {
    const Admission admission = health.admit(policy, now);
    if (admission != Admission::refuse) health.failure(policy, admission, stage, client(from), now);
    return admission;
  }
};

}  // namespace

TEST_CASE("connect failures of one client trip the breaker") {
  Breaker b;
  for (int i = 0; i < 3; ++i) CHECK(b.fail(Stage::connect) == Admission::pass);
  const auto view = b.health.view(b.now);
  CHECK(view.consecutive_failures == 3);
  CHECK(view.failure_sources == 1);
  CHECK(view.host_level_failure);
  CHECK(view.down);
  CHECK(b.fail(Stage::connect) == Admission::refuse);
  CHECK(b.health.view(b.now).consecutive_failures == 3);
}

TEST_CASE("later failures of one client never mark the destination down") {
  Breaker b;
  for (int i = 0; i < 12; ++i) CHECK(b.fail(Stage::later) == Admission::pass);
  auto view = b.health.view(b.now);
  CHECK(view.consecutive_failures == 12);
  CHECK(view.failure_sources == 1);
  CHECK_FALSE(view.host_level_failure);
  CHECK_FALSE(view.down);
  CHECK(b.fail(Stage::later, 2) == Admission::pass);
  CHECK(b.health.view(b.now).down);
}

TEST_CASE("min_clients 0 lets the number of failures decide alone") {
  Breaker b;
  b.policy.min_clients = 0;
  for (int i = 0; i < 3; ++i) b.fail(Stage::later);
  CHECK(b.health.view(b.now).down);
}

TEST_CASE("after the cooldown exactly one probe passes until it ends") {
  Breaker b;
  for (int i = 0; i < 3; ++i) b.fail(Stage::connect);
  b.now += 1999;
  CHECK(b.health.admit(b.policy, b.now) == Admission::refuse);
  b.now += 1;
  CHECK_FALSE(b.health.view(b.now).down);
  CHECK(b.health.view(b.now).tripped);
  CHECK(b.health.admit(b.policy, b.now) == Admission::probe);
  CHECK(b.health.admit(b.policy, b.now) == Admission::refuse);

  SUBCASE("a probe that fails starts another cooldown") {
    CHECK_FALSE(b.health.failure(b.policy, Admission::probe, Stage::later, client(1), b.now));
    CHECK(b.health.view(b.now).down);
    CHECK(b.health.admit(b.policy, b.now + 1999) == Admission::refuse);
    CHECK(b.health.admit(b.policy, b.now + 2000) == Admission::probe);
  }
  SUBCASE("a probe that succeeds clears everything") {
    CHECK(b.health.success());
    CHECK(b.health.admit(b.policy, b.now) == Admission::pass);
    CHECK(b.health.view(b.now).consecutive_failures == 0);
    CHECK_FALSE(b.health.view(b.now).tripped);
    CHECK_FALSE(b.health.success());
  }
  SUBCASE("a probe whose client left makes room for the next") {
    b.health.abandon(Admission::probe);
    CHECK(b.health.admit(b.policy, b.now) == Admission::probe);
  }
}

TEST_CASE("a success in between starts the count anew") {
  Breaker b;
  b.fail(Stage::connect);
  b.fail(Stage::connect);
  b.health.success();
  b.fail(Stage::connect);
  b.fail(Stage::connect);
  CHECK(b.health.view(b.now).consecutive_failures == 2);
  CHECK_FALSE(b.health.view(b.now).down);
}

TEST_CASE("threshold 0 turns the breaker off, also while it is open") {
  Breaker b;
  for (int i = 0; i < 3; ++i) b.fail(Stage::connect);
  b.policy.threshold = 0;
  CHECK(b.health.admit(b.policy, b.now) == Admission::pass);
  Breaker never;
  never.policy.threshold = 0;
  for (int i = 0; i < 50; ++i) CHECK(never.fail(Stage::connect, i) == Admission::pass);
  CHECK_FALSE(never.health.view(never.now).down);
}

TEST_CASE("the set of clients is bounded") {
  Breaker b;
  b.policy.threshold = 1000;
  for (int i = 0; i < 200; ++i) b.fail(Stage::later, i);
  CHECK(b.health.view(b.now).failure_sources == 64);
  CHECK(b.health.view(b.now).consecutive_failures == 200);
}
