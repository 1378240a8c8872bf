// SPDX-License-Identifier: GPL-3.0-or-later
// Cells belong to names and outlive whoever asked for them.
#include "proxy/observe/counters.hpp"

#include <doctest/doctest.h>

using namespace postern;
using namespace postern::proxy;

TEST_CASE("the same name gives the same cells, with a block for every worker") {
  Counters counters(3);
  const auto a = counters.keep(counters.listener("imaps", conf::Protocol::imap));
  const auto b = counters.keep(counters.listener("imaps", conf::Protocol::imap));
  CHECK(a == b);
  CHECK(a->workers.size() == 3);
  CHECK(counters.keep(counters.destination("old")) == counters.keep(counters.destination("old")));
  CHECK(counters.keep(counters.destination("old")) != counters.keep(counters.destination("new")));
  CHECK(counters.keep(counters.destination("old"))->workers.size() == 3);
  CHECK(counters.listeners().size() == 1);
  CHECK(counters.destinations().size() == 2);
}

TEST_CASE("a listener that changes its protocol counts anew, and the old count stays") {
  Counters counters(1);
  counters.keep(counters.listener("l", conf::Protocol::imap))->workers[0].accepted.add(7);
  CHECK(counters.keep(counters.listener("l", conf::Protocol::pop3))->workers[0].accepted.get() == 0);
  CHECK(counters.keep(counters.listener("l", conf::Protocol::imap))->workers[0].accepted.get() == 7);
}

TEST_CASE("each worker's cells stand on cache lines of their own") {
  Counters counters(2);
  const auto l = counters.keep(counters.listener("l", conf::Protocol::imap));
  CHECK(reinterpret_cast<uintptr_t>(&l->workers[1]) % 64 == 0);
  CHECK(reinterpret_cast<uintptr_t>(&counters.workers[1]) % 64 == 0);
}

TEST_CASE("a histogram puts a value into the first bucket that holds it") {
  Histogram<connect_bounds.size()> h;
  h.observe(connect_bounds, 0);
  h.observe(connect_bounds, 500);
  h.observe(connect_bounds, 501);
  h.observe(connect_bounds, 10'000'001);
  CHECK(h.buckets[0].get() == 2);
  CHECK(h.buckets[1].get() == 1);
  CHECK(h.buckets.back().get() == 1);
  CHECK(h.sum_us.get() == 10'001'002);
}
