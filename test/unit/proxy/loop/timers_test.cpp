// SPDX-License-Identifier: GPL-3.0-or-later
// Deadlines fire once, in order, never early, and survive whatever their callbacks do.
#include <doctest/doctest.h>
#include <uv.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "proxy/loop/timers.hpp"

using postern::proxy::Timer;
using postern::proxy::Timers;

namespace {

struct World {
  uv_loop_t loop{};
  std::unique_ptr<Timers> timers;
  World() {
    uv_loop_init(&loop);
    timers = std::make_unique<Timers>(&loop);
  }
  ~World() {
    timers->close();
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
  }
};

struct Probe {
  Timer timer;
  uint64_t due = 0;
  uint64_t fired = 0;
  Timers& timers;
  std::function<void()> then;
  explicit Probe(Timers& all)
      : timer(
            all,
            [](void* self) noexcept {
              auto& probe = *static_cast<Probe*>(self);
              probe.fired = probe.timers.now();
              if (probe.then) probe.then();
            },
            this),
        timers(all) {}
  void at(uint64_t when) {
    due = when;
    timer.at(when);
  }
};

}  // namespace

TEST_CASE("timers fire in order of their due times and never early") {
  World world;
  std::mt19937 random(7);
  std::vector<std::unique_ptr<Probe>> probes;
  std::vector<uint64_t> order;
  const uint64_t start = world.timers->now();
  for (int i = 0; i < 500; ++i) {
    auto& probe = probes.emplace_back(std::make_unique<Probe>(*world.timers));
    probe->then = [&order, p = probe.get()] { order.push_back(p->due); };
    probe->at(start + random() % 60);
  }
  for (int i = 0; i < 200; ++i) probes[random() % 500]->at(start + random() % 60);  // moved
  for (int i = 0; i < 50; ++i) probes[static_cast<size_t>(i)]->timer.stop();
  uv_run(&world.loop, UV_RUN_DEFAULT);
  CHECK(std::is_sorted(order.begin(), order.end()));
  for (size_t i = 0; i < probes.size(); ++i) {
    if (i < 50 && probes[i]->fired == 0) continue;  // stopped, unless moved again
    CHECK(probes[i]->fired >= probes[i]->due);
    CHECK_FALSE(probes[i]->timer.armed());
  }
  CHECK(world.timers->size() == 0);
}

TEST_CASE("a callback may arm itself, stop others and destroy others") {
  World world;
  const uint64_t start = world.timers->now();
  Probe again(*world.timers);
  int runs = 0;
  again.then = [&] {
    if (++runs < 5) again.at(world.timers->now());
  };
  auto victim = std::make_unique<Probe>(*world.timers);
  auto stopped = std::make_unique<Probe>(*world.timers);
  Probe killer(*world.timers);
  killer.then = [&] {
    victim.reset();
    stopped->timer.stop();
  };
  again.at(start + 1);
  killer.at(start + 2);
  victim->at(start + 2);
  stopped->at(start + 3);
  uv_run(&world.loop, UV_RUN_DEFAULT);
  CHECK(runs == 5);
  CHECK(victim == nullptr);
  CHECK(stopped->fired == 0);
}

TEST_CASE("an earlier deadline armed later still fires in time") {
  World world;
  const uint64_t start = world.timers->now();
  Probe late(*world.timers), early(*world.timers);
  late.then = [&] { CHECK(early.fired != 0); };
  late.at(start + 80);
  early.at(start + 10);
  uv_run(&world.loop, UV_RUN_DEFAULT);
  CHECK(early.fired < start + 70);
  CHECK(late.fired >= start + 80);
}

TEST_CASE("a deadline beyond all time does no harm and does not fire") {
  World world;
  const uint64_t start = world.timers->now();
  Probe never(*world.timers), soon(*world.timers);
  never.at(UINT64_MAX);
  soon.at(start + 5);
  soon.then = [&] { never.timer.stop(); };
  uv_run(&world.loop, UV_RUN_DEFAULT);
  CHECK(soon.fired >= start + 5);
  CHECK(never.fired == 0);
}

TEST_CASE("the loop ends when the last timer is disarmed, and goes on when one is armed again") {
  World world;
  Probe probe(*world.timers);
  probe.at(world.timers->now() + 100'000);
  CHECK(uv_loop_alive(&world.loop) != 0);
  probe.timer.stop();
  CHECK(uv_loop_alive(&world.loop) == 0);
  CHECK(uv_run(&world.loop, UV_RUN_DEFAULT) == 0);
  uv_update_time(&world.loop);
  probe.at(world.timers->now() + 2);
  uv_run(&world.loop, UV_RUN_DEFAULT);
  CHECK(probe.fired >= probe.due);
}
