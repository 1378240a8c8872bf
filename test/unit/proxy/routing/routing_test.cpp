// SPDX-License-Identifier: GPL-3.0-or-later
// From a login name to a destination: the table, the cache in front of it, and the rules around both.
#include <doctest/doctest.h>
#include <fmt/core.h>
#include <stdlib.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <string>
#include <thread>

#include "conf/load.hpp"
#include "proxy/routing/router.hpp"
#include "proxy/server/make_snapshot.hpp"

using namespace postern;
using namespace postern::proxy;

namespace {

/// A mapping file that can be rewritten, gone with the test.
class MappingFile {
 public:
  explicit MappingFile(const std::string& text) {
    ::close(::mkstemp(path.data()));
    write(text);
  }
  ~MappingFile() { ::unlink(path.c_str()); }
  MappingFile(const MappingFile&) = delete;
  MappingFile& operator=(const MappingFile&) = delete;
  void write(const std::string& text) const { std::ofstream(path, std::ios::trunc) << text; }

  std::string path = "/tmp/postern-unit-XXXXXX";
};

conf::Config config_for(const MappingFile& file, const std::string& normalize = "lowercase") {
  const std::string text = "mapping.source = \"file\"\nmapping.normalize = \"" + normalize +
                           "\"\nmapping.file.path = \"" + file.path + "\"\n" + R"(
mapping.positive_ttl = "2s"
mapping.negative_ttl = "1s"
[routing]
default_destination = "old"
master_user_separators = ["%", "*"]
[destination.old]
host = "127.0.0.1"
forwarding = "none"
allow_plaintext_auth = true
protocol.imap = { port = 143, tls = "plain" }
[destination.new]
host = "127.0.0.2"
forwarding = "none"
allow_plaintext_auth = true
protocol.imap = { port = 143, tls = "plain" }
[listener.imap]
protocol = "imap"
bind = ["127.0.0.1:2143"]
tls = "plain"
)";
  conf::LoadOptions options;
  options.touch_files = false;
  conf::Loaded loaded = conf::load_text("test.toml", text, {}, options);
  for (const conf::Problem& problem : loaded.problems.all()) MESSAGE(problem.line());
  REQUIRE(loaded.ok());
  return std::move(loaded.config);
}

std::shared_ptr<const MappingStore> table(const conf::Config& config,
                                          const std::shared_ptr<const MappingStore>& previous = nullptr,
                                          size_t errors = 0) {
  conf::Problems problems("test.toml");
  auto made = FileMapping::load(config, previous, problems);
  CHECK(problems.errors() == errors);
  return made;
}

std::string found(const MappingStore& store, std::string_view identifier) {
  const std::string* name = store.find(identifier);
  return name ? *name : "-";
}

struct World {
  Counters counters{1};
  ProcessState state;
  std::shared_ptr<const Snapshot> snapshot;

  explicit World(const MappingFile& file) {
    conf::Config config = config_for(file);
    state.counters = &counters;
    state.tickets = std::make_shared<tls::TicketKeys>();
    state.own = std::make_shared<std::vector<conf::SocketAddress>>();
    state.cache = std::make_shared<RouteCache>(config.mapping);
    conf::Problems problems("test.toml");
    std::vector<std::string> restart;
    snapshot = make_snapshot(std::move(config), state, nullptr, Rotation::strict, problems, restart);
    REQUIRE(snapshot);
  }
  Route route(std::string_view name, uint64_t now = 0) {
    return find_route(snapshot->routes, name, now, counters.workers[0]);
  }
  std::string leads_to(std::string_view name, uint64_t now = 0) {
    const Route found = route(name, now);
    return found.destination ? found.destination->conf.name : "-";
  }
};

}  // namespace

TEST_CASE("an account goes to its own destination, however many there are") {
  for (const size_t count : {1, 255, 256, 257, 65'535, 65'536, 65'537, 65'540}) {
    CAPTURE(count);
    std::vector<size_t> asked = {0, count - 1};
    for (const size_t edge : {3, 254, 255, 256, 257, 65'534, 65'535, 65'536, 65'539})
      if (edge < count) asked.push_back(edge);
    std::string text = "again@example.com d0\n";
    for (const size_t i : asked) text += fmt::format("a{}@example.com d{}\n", i, i);
    text += fmt::format("again@example.com d{}\n", count - 1);
    const MappingFile file(text);
    conf::Config config;
    config.mapping.file_path = file.path;
    for (size_t i = 0; i < count; ++i) config.destinations.emplace_back().name = fmt::format("d{}", i);
    const auto store = table(config);
    REQUIRE(store);
    for (const size_t i : asked)
      CHECK(found(*store, fmt::format("a{}@example.com", i)) == fmt::format("d{}", i));
    CHECK(found(*store, "again@example.com") == fmt::format("d{}", count - 1));
  }
}

TEST_CASE("a table finds every line of its file and nothing else") {
  std::string text = "# accounts\n";
  for (int i = 0; i < 5000; ++i)
    text += "user" + std::to_string(i) + "@example.com " + (i % 2 ? "new" : "old") + "\n";
  const MappingFile file(text);
  const auto store = table(config_for(file));
  REQUIRE(store);
  CHECK(store->size() == 5000);
  for (int i = 0; i < 5000; ++i)
    REQUIRE(found(*store, "user" + std::to_string(i) + "@example.com") == (i % 2 ? "new" : "old"));
  for (const char* other : {"", "user", "user5000@example.com", "USER1@example.com", "# accounts"})
    CHECK(found(*store, other) == "-");
}

TEST_CASE("lines are normalised as accounts are, and the last one for an account wins") {
  const MappingFile file("Alice@Example.COM old\nbob@example.com old\nALICE@example.com new\n");
  const auto store = table(config_for(file));
  REQUIRE(store);
  CHECK(store->size() == 2);
  CHECK(found(*store, "alice@example.com") == "new");
  const auto exact = table(config_for(file, "none"));
  REQUIRE(exact);
  CHECK(exact->size() == 3);
  CHECK(found(*exact, "Alice@Example.COM") == "old");
}

TEST_CASE("a file with anything wrong makes no table and says each wrong line") {
  const MappingFile file("a@x old\nb@x ghost\njunk\nc@x new\n");
  CHECK(table(config_for(file), nullptr, 2) == nullptr);
}

TEST_CASE("an unchanged file is not read again") {
  const MappingFile file("a@x old\n");
  const auto config = config_for(file);
  CHECK(table(config, table(config)));
  const auto young = table(config);
  file.write("a@x new\n");  // at once and of the same size: its times may be what they were
  CHECK(found(*table(config, young), "a@x") == "new");
  std::this_thread::sleep_for(std::chrono::milliseconds(150));
  const auto first = table(config, young);
  CHECK(table(config, first) == first);
  file.write("a@x new\nb@x old\n");
  const auto second = table(config, first);
  REQUIRE(second != first);
  CHECK(found(*second, "a@x") == "new");
  CHECK(table(config_for(file, "none"), second) != second);
}

TEST_CASE("a cached answer has its life, and one of an absence a shorter one") {
  conf::MappingConf conf;
  conf.positive_ttl = std::chrono::seconds(2);
  conf.negative_ttl = std::chrono::seconds(1);
  RouteCache cache(conf);
  const std::string name = "new";
  cache.put("a", &name, 100);
  cache.put("b", nullptr, 100);
  CHECK(**cache.find("a", 2099) == "new");
  CHECK(cache.find("b", 1099) == std::optional<const std::string*>(nullptr));
  CHECK(cache.age(1099, 10) == 0);
  CHECK(cache.entries() == 2);
  CHECK_FALSE(cache.find("a", 2100));
  CHECK_FALSE(cache.find("b", 1100));
  CHECK(cache.age(1100, 10) == 1);
  CHECK(cache.entries() == 1);
  CHECK_FALSE(cache.find("c", 0));
  cache.put("a", nullptr, 1200);  // the account is not mapped any more
  CHECK(cache.find("a", 1300) == std::optional<const std::string*>(nullptr));
  CHECK(cache.entries() == 1);
  cache.clear();
  CHECK(cache.entries() == 0);
  CHECK_FALSE(cache.find("a", 1300));
}

TEST_CASE("a cache keeps its bound, and what is used outlives what is not") {
  for (const uint64_t bound : {4, 100, 5000}) {
    CAPTURE(bound);
    conf::MappingConf conf;
    conf.cache_max_entries = bound;
    RouteCache cache(conf);
    const std::string name = "new";
    cache.put("often", &name, 0);
    for (int i = 0; i < 20'000; ++i) {
      cache.put("seldom" + std::to_string(i), &name, 0);
      REQUIRE(cache.find("often", 0));
    }
    CHECK(cache.entries() <= bound);
  }
}

TEST_CASE("names that nobody has do not push accounts out of the cache") {
  conf::MappingConf conf;
  conf.cache_max_entries = 40'000;
  RouteCache cache(conf);
  const std::string name = "new";
  const auto account = [](int i) { return "account" + std::to_string(i) + "@example.com"; };
  for (int i = 0; i < 20'000; ++i) cache.put(account(i), &name, 0);
  for (int i = 0; i < 100'000; ++i) cache.put("stranger" + std::to_string(i), nullptr, 0);
  for (int i = 0; i < 20'000; ++i) REQUIRE(cache.find(account(i), 0));
  CHECK(cache.entries() <= 30'000);
}

TEST_CASE("expired entries are freed a few at a time, and nothing of them stays") {
  conf::MappingConf conf;
  conf.cache_max_entries = 100'000;
  conf.positive_ttl = std::chrono::seconds(2);
  conf.negative_ttl = std::chrono::seconds(1);
  RouteCache cache(conf);
  const std::string name = "new";
  for (int i = 0; i < 70'000; ++i) cache.put("account" + std::to_string(i), &name, 0);
  const size_t full = cache.entries();
  CHECK(full > 69'000);
  CHECK(cache.age(1999, 1000) == 0);
  size_t freed = 0;
  for (size_t calls = 0;; ++calls) {
    const size_t now = cache.age(2000, 1000);
    freed += now;
    if (now < 1000) break;
    REQUIRE(calls < 100);
  }
  CHECK(freed == full);
  CHECK(cache.entries() == 0);

  // What clear() forgot is freed in the same way.
  for (int i = 0; i < 5000; ++i) cache.put("account" + std::to_string(i), &name, 3000);
  cache.clear();
  CHECK(cache.entries() == 0);
  CHECK(cache.age(3000, 1000) == 1000);
  CHECK(cache.age(3000, 10'000) == 4000);
  CHECK(cache.age(3000, 10'000) == 0);
}

TEST_CASE("an answer that comes again has a new life and keeps its place among the used ones") {
  conf::MappingConf conf;
  conf.positive_ttl = std::chrono::seconds(2);
  conf.cache_max_entries = 4;
  RouteCache cache(conf);
  const std::string name = "new";
  cache.put("a", &name, 0);
  cache.put("b", &name, 0);
  CHECK(cache.find("a", 0));
  cache.put("a", &name, 1000);
  CHECK(cache.find("a", 2999));
  cache.put("c", &name, 1000);
  cache.put("d", &name, 1000);  // three are the bound: b goes, which nobody asked for
  CHECK(cache.find("a", 1000));
  CHECK_FALSE(cache.find("b", 1000));
}

TEST_CASE("a cache of none remembers nothing, and no cache a name that is no address") {
  const std::string name = "new";
  for (const uint64_t bound : {0, 1}) {
    conf::MappingConf conf;
    conf.cache_max_entries = bound;
    RouteCache cache(conf);
    cache.put("a", &name, 0);
    cache.put("b", nullptr, 0);
    CHECK(cache.entries() <= bound);
    if (bound == 0) CHECK_FALSE(cache.find("b", 0));
  }
  RouteCache cache(conf::MappingConf{});
  cache.put(std::string(RouteCache::longest_identifier, 'x'), nullptr, 0);
  cache.put(std::string(RouteCache::longest_identifier + 1, 'x'), nullptr, 0);
  cache.put(std::string(40'000, 'y'), &name, 0);
  CHECK(cache.entries() == 1);
}

TEST_CASE("what a store of the past says is not remembered") {
  const MappingFile file("alice@example.com old\n");
  World world(file);
  const auto past = world.snapshot;
  file.write("alice@example.com new\nbob@example.com new\n");
  conf::Problems problems("test.toml");
  std::vector<std::string> restart;
  world.snapshot =
      make_snapshot(past->config, world.state, past.get(), Rotation::keep_last_good, problems, restart);
  REQUIRE(world.snapshot);
  RouteCache& cache = *world.state.cache;
  cache.begin(world.snapshot->routes.era);
  // A connection keeps what it was accepted under.
  const Route late = find_route(past->routes, "alice@example.com", 0, world.counters.workers[0]);
  CHECK(late.destination->conf.name == "old");
  CHECK(cache.entries() == 0);
  CHECK(world.leads_to("alice@example.com") == "new");
  CHECK(cache.entries() == 1);
}

TEST_CASE("a login finds its destination by the mailbox it names") {
  const MappingFile file("alice@example.com new\no,ne@example.com new\nalice new\n");
  World world(file);
  const std::string umlaut = "j\xc3\xb6rg@example.com";
  struct Row {
    std::string name, destination;
    Route::How how;
  };
  using enum Route::How;
  for (const Row& row : {
           Row{"alice@example.com", "new", mapped},
           Row{"ALICE@Example.com", "new", mapped},
           Row{"bob@example.com", "old", fallback},
           Row{"alice@example.com%admin", "new", mapped},
           Row{"alice*root%x", "new", mapped},
           Row{"o,ne@example.com", "new", mapped},
           Row{umlaut, "old", fallback},
           Row{"", "old", nameless},
           Row{"%admin", "-", refused},
           Row{"alice smith", "-", refused},
           Row{"a\"b", "-", refused},
           Row{std::string("a\0b", 3), "-", refused},
           Row{"a\x7f", "-", refused},
           Row{"alice@example.com\r\n", "-", refused},
       }) {
    CAPTURE(row.name);
    CHECK(world.leads_to(row.name) == row.destination);
    CHECK(world.route(row.name).how == row.how);
  }
}

TEST_CASE("an answer is asked for once, and a nameless login not at all") {
  const MappingFile file("alice@example.com new\n");
  World world(file);
  const WorkerCells& cells = world.counters.workers[0];
  world.leads_to("alice@example.com");
  world.leads_to("Alice@example.com", 500);
  world.leads_to("bob@example.com");
  world.leads_to("");
  world.leads_to("a b");
  CHECK(cells.cache_hits.get() == 1);
  CHECK(cells.cache_misses.get() == 2);
  CHECK(cells.lookups[static_cast<size_t>(Lookup::found)].get() == 1);
  CHECK(cells.lookups[static_cast<size_t>(Lookup::absent)].get() == 1);
}

TEST_CASE("a redacted name shows two characters and a hash that stays") {
  CHECK(redacted("") == "<empty>");
  const std::string once = redacted("alice@example.com");
  CHECK(once.starts_with("al***#"));
  CHECK(once.size() == 10);
  CHECK(once == redacted("alice@example.com"));
  CHECK(redacted("x").starts_with("x***#"));
  CHECK(redacted("\xc3\xb6\xc3\xa4\xc3\xbc").starts_with("\xc3\xb6\xc3\xa4***#"));
}
