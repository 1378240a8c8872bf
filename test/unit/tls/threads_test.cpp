// SPDX-License-Identifier: GPL-3.0-or-later
// Several loops on one context while keys rotate: made for the thread sanitizer, and for counting.
#include <atomic>
#include <chrono>
#include <thread>

#include <sys/stat.h>

#include "test/unit/tls/key_file.hpp"
#include "test/unit/tls/pair.hpp"
#include "tls/key_ring.hpp"

namespace postern::tls {
namespace {

TEST_CASE("readers of a LeftRight see one whole value while a writer replaces it") {
  struct Value {
    int a = 0, b = 0;
  };
  LeftRight<Value> cell;
  std::atomic<bool> stop{false};
  std::atomic<int> torn{0}, backwards{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < 3; ++i)
    readers.emplace_back([&] {
      int last = 0;
      while (!stop) {
        const Value seen = cell.read([](const Value& value) { return value; });
        torn += seen.a != seen.b;
        backwards += seen.a < last;
        last = seen.a;
      }
    });
  // Where threads take turns, as under valgrind, each write may wait for three of them.
  const auto enough = std::chrono::steady_clock::now() + std::chrono::seconds(2);
  int written = 0;
  while (written < 20000 && std::chrono::steady_clock::now() < enough)
    cell.write([i = ++written](Value& value) {
      value.a = i;
      value.b = i;
    });
  stop = true;
  for (auto& reader : readers) reader.join();
  CHECK(torn == 0);
  CHECK(backwards == 0);
  CHECK(cell.read([](const Value& value) { return value.a; }) == written);
}

TEST_CASE(
    "threads share contexts, make and resume sessions, while keys rotate and certificates are swapped") {
  conf::TicketConf conf;
  conf.rotate = std::chrono::seconds(1);
  const auto keys = ticket_keys(conf);
  const auto trust = trust_in();
  const auto client = client_context({}, trust);
  const auto store = store_of({entry("alpha"), entry("both"), entry("both-rsa"), entry("default", true)});
  std::atomic<bool> stop{false};
  std::atomic<int> good{0}, bad{0}, resumed{0};
  std::vector<std::thread> loops;
  for (int i = 0; i < 3; ++i)
    loops.emplace_back([&, i] {
      const char* names[] = {"alpha.test", "both.test", "default.test"};
      std::unique_ptr<Resumption> saved[3];
      for (int round = 0; !stop; ++round) {
        const auto which = static_cast<size_t>(i + round) % 3;
        const auto server =
            server_context(default_policy(), store, keys);  // contexts are built and shared at once
        Joined pair(client, server, names[which], round % 3 == 0 ? nullptr : saved[which].get());
        if (!pair.shake() || !pair.server_writes("x") || pair.client_reads().text != "x") {
          ++bad;
          continue;
        }
        ++good;
        resumed += pair.server->facts().resumed;
        pair.client->renew(saved[which]);
      }
    });
  for (int i = 0; i < 40; ++i) {
    (void)keys->refresh(std::chrono::system_clock::now() + std::chrono::seconds(i * 2));
    std::this_thread::sleep_for(std::chrono::milliseconds(25));
  }
  stop = true;
  for (auto& loop : loops) loop.join();
  CHECK(bad == 0);
  CHECK(good > 10);
  CHECK(resumed > 0);
}

TEST_CASE("no handshake fails while tickets are turned off and on, rotate, and plans are made beside them") {
  const KeyFile file(hex('a', 'a') + "\n");
  ::chmod(file.path.c_str(), 0600);
  conf::TicketConf off;
  off.enable = false;
  const conf::TicketConf kinds[] = {{}, off, file.conf(), off};
  const auto keys = ticket_keys();
  const auto client = client_context();
  const auto store = store_of({entry("alpha")});
  const auto issuing = server_context(default_policy(), store, keys);
  std::atomic<bool> stop{false};
  std::atomic<int> good{0}, bad{0};
  std::vector<std::thread> loops;
  for (int i = 0; i < 2; ++i)
    loops.emplace_back([&] {
      std::unique_ptr<Resumption> saved;
      while (!stop) {
        Joined pair(client, issuing, "alpha.test", saved.get());
        if (!pair.shake() || !pair.server_writes("x") || pair.client_reads().text != "x") {
          ++bad;
          saved.reset();
          continue;
        }
        ++good;
        saved = left_by(*pair.client);
      }
    });
  loops.emplace_back([&] {  // as the pool does: most of what is prepared is never published
    for (size_t i = 0; !stop; ++i) (void)TicketPlan::make(kinds[i % std::size(kinds)]);
  });
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(2);
  for (size_t i = 0; std::chrono::steady_clock::now() < until; ++i) {
    file.write(hex(i % 2 ? 'a' : 'b', 'c') + "\n");
    REQUIRE(configure(*keys.keys, kinds[i % std::size(kinds)]));
    (void)keys->refresh(std::chrono::system_clock::now() + std::chrono::hours(9 * i));
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  stop = true;
  for (auto& loop : loops) loop.join();
  CHECK(bad == 0);
  CHECK(good > 10);
}

}  // namespace
}  // namespace postern::tls
