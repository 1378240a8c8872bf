// SPDX-License-Identifier: GPL-3.0-or-later
// Who gets a place, who loses one, and that nothing is left behind: tables, and threads that all want the
// same.
#include "proxy/limits/admission.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <deque>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "proxy/loop/loop.hpp"
#include "proxy/observe/counters.hpp"

using namespace postern;
using namespace postern::proxy;

namespace {

conf::Ip ip(const std::string& text) { return *conf::Ip::parse(text); }

/// A listener whose guests belong to one loop that never runs: what they would be told stays in its inbox,
/// and established() says it as well.
struct Place {
  Counters counters{1};
  NameService names;
  Loop loop{0, counters.workers[0], names};
  std::shared_ptr<PreauthMemory> memory = std::make_shared<PreauthMemory>();
  std::shared_ptr<Occupancy> listener = Occupancy::make(memory);
  Occupancy::Limits limits{8, 4};
  uint64_t now = 0;
  Rejected refused = Rejected::limit;
  ~Place() {
    loop.stop();
    uv_run(loop.uv(), UV_RUN_DEFAULT);  // once more, so that its handles close
  }

  std::optional<Admission> come(const std::string& from) {
    auto answer = listener->admit(from.empty() ? std::nullopt : std::optional(ip(from)), limits, ++now);
    refused = answer.refused;
    if (answer.admission) answer.admission->belongs_to(loop, this, [](void*, Fault) noexcept {});
    return std::move(answer.admission);
  }
};

}  // namespace

TEST_CASE("a client is one IPv4 address, or 64 bits of an IPv6 address") {
  CHECK(client_prefix(ip("192.0.2.1")) != client_prefix(ip("192.0.2.2")));
  CHECK(client_prefix(ip("2001:db8::1")) == client_prefix(ip("2001:db8::ffff:0:0:2")));
  CHECK(client_prefix(ip("2001:db8::1")) != client_prefix(ip("2001:db8:0:1::1")));
  CHECK(client_prefix(ip("::1")) != client_prefix(ip("0.0.0.1")));
  CHECK(client_prefix(ip("::ffff:192.0.2.1")) == client_prefix(ip("192.0.2.1")));
}

TEST_CASE("a client gets its share and no more, and gets it back") {
  Place place;
  std::deque<Admission> held;
  for (int i = 0; i < 4; ++i) held.push_back(*place.come("192.0.2.1"));
  CHECK_FALSE(place.come("192.0.2.1"));
  CHECK(place.refused == Rejected::client_limit);
  CHECK(place.come("192.0.2.2"));
  CHECK(held[0].established() == Fault::none);
  CHECK_FALSE(place.come("192.0.2.1"));  // logged in counts as well
  held.pop_back();
  held.push_back(*place.come("192.0.2.1"));
  held.pop_front();
  CHECK(place.come("192.0.2.1"));
  CHECK(place.listener->clients() == 1);
  held.clear();
  CHECK(place.listener->clients() == 0);
  CHECK(place.listener->live() == 0);
}

TEST_CASE("whom a header will name counts from then on") {
  Place place;
  std::vector<Admission> held;
  for (int i = 0; i < 5; ++i) held.push_back(*place.come(""));
  CHECK(place.listener->clients() == 0);
  for (int i = 0; i < 4; ++i) CHECK(held[i].identify(ip("2001:db8::1"), 4));
  CHECK_FALSE(held[4].identify(ip("2001:db8::2"), 4));
  CHECK(place.listener->live() == 5);
  held.pop_back();
  CHECK_FALSE(place.come("2001:db8::3"));
  held.pop_back();
  CHECK(place.come("2001:db8::3"));
  held.clear();
  CHECK(place.listener->clients() == 0);
  CHECK(place.listener->live() == 0);
}

TEST_CASE("the oldest without a login makes room for another client, a session never does") {
  Place place;
  std::vector<Admission> a, b;
  for (int i = 0; i < 4; ++i) a.push_back(*place.come("192.0.2.1"));
  for (int i = 0; i < 4; ++i) b.push_back(*place.come("192.0.2.2"));
  CHECK(a[0].established() == Fault::none);
  auto c = place.come("192.0.2.3");
  REQUIRE(c);
  CHECK(place.listener->live() == 8);
  CHECK(a[1].established() == Fault::made_room);
  auto d = place.come("192.0.2.3");
  REQUIRE(d);
  CHECK(a[2].established() == Fault::made_room);
  CHECK(place.listener->live() == 8);
  for (auto& session : b) CHECK(session.established() == Fault::none);
  CHECK(a[3].established() == Fault::none);
  CHECK(c->established() == Fault::none);
  CHECK_FALSE(place.come("192.0.2.3"));  // its own does not make room for it
  CHECK(place.refused == Rejected::limit);
  CHECK(d->established() == Fault::none);
  CHECK_FALSE(place.come("192.0.2.4"));
  CHECK(place.refused == Rejected::limit);
  CHECK(place.listener->live() == 8);
}

TEST_CASE("nobody loses a place to a client that waits with more") {
  Place place;
  auto good = place.come("192.0.2.1");
  std::vector<Admission> crowd;
  for (int i = 0; i < 7; ++i) crowd.push_back(*place.come("2001:db8:0:" + std::to_string(i / 4) + "::1"));
  for (int i = 0; i < 20; ++i) {
    auto more = place.come("2001:db8:0:1::1");
    if (more) crowd.push_back(std::move(*more));
  }
  CHECK(place.listener->live() == 8);
  CHECK(good->established() == Fault::none);
}

TEST_CASE("a lowered limit is reached as others come") {
  Place place;
  std::vector<Admission> held;
  for (int i = 0; i < 8; ++i) held.push_back(*place.come("192.0.2." + std::to_string(i)));
  place.limits = {4, 4};
  for (int i = 0; i < 4; ++i) held.push_back(*place.come("198.51.100." + std::to_string(i)));
  CHECK(place.listener->live() == 4);
}

TEST_CASE("above the budget the oldest that hold much go, on whichever listener, and it is free") {
  Place place;
  auto other = Occupancy::make(place.memory);
  place.limits = {100, 100};
  place.memory->limit(1000);
  auto first = place.come("192.0.2.1");
  auto answer = other->admit(ip("192.0.2.9"), {10, 10}, ++place.now);
  Admission second = std::move(*answer.admission);
  second.belongs_to(place.loop, &place, [](void*, Fault) noexcept {});
  auto third = place.come("192.0.2.1");
  first->holds(400, 0);
  second.holds(400, 0);
  third->holds(200, 0);
  CHECK(place.memory->held() == 1000);
  third->holds(300, 0);
  CHECK(place.memory->held() == 700);
  CHECK(first->established() == Fault::preauth_memory);
  first->holds(5000, 0);  // means nothing any more
  CHECK(place.memory->held() == 700);
  third->holds(900, 0);  // more than the average, which the older one is not
  CHECK(place.memory->held() == 400);
  CHECK(third->established() == Fault::preauth_memory);
  CHECK(second.established() == Fault::none);
  CHECK(place.memory->held() == 0);
  CHECK(place.listener->live() == 0);
  CHECK(other->live() == 1);
}

TEST_CASE("threads that come, log in and go at once leave nothing and get no place twice") {
  constexpr int threads = 4, rounds = 3000;
  Place place;
  place.limits = {32, 12};
  place.memory->limit(20'000);
  std::atomic<int> sessions = 0, most = 0, put_out = 0, admitted = 0;
  std::vector<std::thread> crowd;
  for (int n = 0; n < threads; ++n)
    crowd.emplace_back([&, n] {
      std::minstd_rand dice(static_cast<unsigned>(n) + 1);
      std::vector<Admission> waiting, in;
      for (int i = 0; i < rounds; ++i) {
        const std::string from = "2001:db8:0:" + std::to_string(dice() % 9) + "::1";
        const bool header = dice() % 4 == 0;
        auto answer = place.listener->admit(header ? std::nullopt : std::optional(ip(from)), place.limits,
                                            static_cast<uint64_t>(i));
        if (answer.admission) {
          ++admitted;
          answer.admission->belongs_to(place.loop, &place, [](void*, Fault) noexcept {});
          if (!header || answer.admission->identify(ip(from), place.limits.per_client))
            waiting.push_back(std::move(*answer.admission));
        }
        if (!waiting.empty() && dice() % 2 == 0) waiting.back().holds(dice() % 3000, 0);
        if (!waiting.empty() && dice() % 3 == 0) {
          if (waiting.back().established() == Fault::none) {
            const int now = ++sessions;
            int seen = most;
            while (now > seen && !most.compare_exchange_weak(seen, now)) {
            }
            in.push_back(std::move(waiting.back()));
          } else {
            ++put_out;
          }
          waiting.pop_back();
        }
        if (waiting.size() > 10) waiting.clear();
        if (!in.empty() && dice() % 3 == 0) {
          --sessions;
          in.pop_back();
        }
      }
      sessions -= static_cast<int>(in.size());
    });
  for (std::thread& thread : crowd) thread.join();
  CHECK(place.listener->live() == 0);
  CHECK(place.listener->clients() == 0);
  CHECK(place.memory->held() == 0);
  CHECK(most <= 32);
  CHECK(admitted > rounds);
  CHECK(put_out > 0);
}
