// SPDX-License-Identifier: GPL-3.0-or-later
// Known answers on disk: what comes back after a restart, and what a damaged or foreign file is worth.
#include <doctest/doctest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "proxy/routing/answers_file.hpp"

using namespace postern;
using namespace postern::proxy;

namespace {

constexpr int64_t wall = 1'700'000'000'000;

class Folder {
 public:
  Folder() { REQUIRE(::mkdtemp(path.data())); }
  ~Folder() { REQUIRE(::system(("rm -rf " + path).c_str()) == 0); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string path = "/tmp/postern-unit-XXXXXX";
};

conf::Config config_with(std::initializer_list<const char*> destinations) {
  conf::Config config;
  config.mapping.source = conf::MappingSource::redis;
  config.mapping.redis.emplace().url = conf::Secret("redis://user:secret@h/0");
  config.mapping.positive_ttl = std::chrono::seconds(600);
  for (const char* name : destinations) config.destinations.emplace_back().name = name;
  return config;
}

struct World {
  conf::Config config = config_with({"old", "new"});
  uint64_t print = answers_fingerprint(config.mapping);
  RouteCache cache{config.mapping};
  World() { cache.keep_stale(std::chrono::hours(1)); }
  void know(std::string_view account, const std::string& destination, uint64_t now) {
    cache.put(account, &destination, now);
  }
  [[nodiscard]] std::string text(uint64_t now) const { return answers_of(cache, print, now, wall); }
};

std::string refusal(std::string_view text) {
  const auto file = parse_answers(text);
  return file ? "" : file.error().text;
}

}  // namespace

TEST_CASE("what was known before a restart is known after it, with its age") {
  World before;
  before.know("alice@example.com", "new", 100'000);
  before.know("bob@example.com", "old", 200'000);
  before.cache.put("nobody@example.com", nullptr, 200'000);
  const std::string text = before.text(250'000);

  World after;
  const auto file = parse_answers(text);
  REQUIRE(file);
  CHECK(file->fingerprint == after.print);
  CHECK(file->written == wall);
  CHECK(file->lines.size() == 2);
  // 400 s later, shortly after the machine has started.
  CHECK(restore_answers(*file, after.config, after.cache, 7'000, wall + 400'000) == 2);
  const auto bob = after.cache.look("bob@example.com", 7'000);
  REQUIRE(bob);
  CHECK(*bob->destination == "old");
  CHECK(bob->left_ms == 150'000);
  CHECK(bob->from_disk);
  const auto alice = after.cache.look("alice@example.com", 57'001);
  REQUIRE(alice);
  CHECK(alice->left_ms == -1);
  CHECK_FALSE(after.cache.find("alice@example.com", 57'001));
  CHECK_FALSE(after.cache.look("nobody@example.com", 7'000));
  // An hour past its life it is of no use any more.
  CHECK_FALSE(after.cache.look("alice@example.com", 57'000 + 3'600'000));
  CHECK(after.cache.age(57'000 + 3'600'000, 10) == 1);
}

TEST_CASE("what the store says counts more than what was on disk") {
  World world;
  world.know("alice", "new", 1000);
  const std::string text = world.text(1000);
  World after;
  after.know("alice", "old", 1000);
  CHECK(restore_answers(*parse_answers(text), after.config, after.cache, 1000, wall) == 0);
  CHECK(**after.cache.find("alice", 1000) == "old");
  World later;
  CHECK(restore_answers(*parse_answers(text), later.config, later.cache, 1000, wall) == 1);
  later.know("alice", "old", 1000);
  CHECK_FALSE(later.cache.look("alice", 1000)->from_disk);
}

TEST_CASE("only what is of use comes back") {
  World world;
  world.know("alice", "new", 1000);
  world.know("bob", "gone", 1000);
  world.know("carol", "old", 1000);
  const std::string text = world.text(1000);
  World after;
  CHECK(restore_answers(*parse_answers(text), after.config, after.cache, 1000, wall) == 2);
  CHECK_FALSE(after.cache.look("bob", 1000));  // its destination is not declared any more
  World late;
  CHECK(restore_answers(*parse_answers(text), late.config, late.cache, 1000, wall + 4'200'000) == 0);
  World ahead;  // a clock that was wrong gives no longer life
  CHECK(restore_answers(*parse_answers(text), ahead.config, ahead.cache, 1000, wall - 86'400'000) == 2);
  CHECK(ahead.cache.look("alice", 1000)->left_ms == 600'000);
  World small;
  small.config.mapping.cache_max_entries = 2;
  CHECK(restore_answers(*parse_answers(text), small.config, small.cache, 1000, wall) <= 2);
}

TEST_CASE("a file with anything wrong is refused as a whole") {
  World world;
  for (int i = 0; i < 40; ++i) world.know("account" + std::to_string(i) + "@example.com", "new", 1000);
  const std::string text = world.text(1000);
  REQUIRE(refusal(text).empty());
  for (size_t end = 0; end < text.size(); ++end) CHECK_FALSE(parse_answers(text.substr(0, end)));
  for (size_t at = 0; at < text.size(); ++at) {
    std::string damaged = text;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    CHECK_FALSE(parse_answers(damaged));
  }
  CHECK_FALSE(parse_answers(text + text));
  CHECK_FALSE(parse_answers(text + "\n"));
  CHECK(refusal("").size() > 0);
  CHECK(refusal("\n\n").size() > 0);
}

TEST_CASE("an answer belongs to its store, query and normalisation, not to a password") {
  const conf::Config one = config_with({});
  conf::Config other = one;
  other.mapping.redis->url = conf::Secret("redis://user:changed@h/0");
  CHECK(answers_fingerprint(one.mapping) == answers_fingerprint(other.mapping));
  other.mapping.redis->url = conf::Secret("redis://user:secret@h/1");
  CHECK(answers_fingerprint(one.mapping) != answers_fingerprint(other.mapping));
  other = one;
  other.mapping.redis->key_prefix = "x:";
  CHECK(answers_fingerprint(one.mapping) != answers_fingerprint(other.mapping));
  other = one;
  other.mapping.normalize = conf::Normalize::lowercase;
  CHECK(answers_fingerprint(one.mapping) != answers_fingerprint(other.mapping));
}

TEST_CASE("the file is replaced as a whole, and only we can have written it") {
  const Folder folder;
  const std::string path = folder.path + "/answers";
  CHECK(read_answers(path).value().empty());
  REQUIRE(write_answers(path, "first"));
  struct stat found {};
  REQUIRE(::stat(path.c_str(), &found) == 0);
  CHECK((found.st_mode & 0777) == 0600);
  std::ofstream(path + ".tmp") << "left behind by a crash";
  REQUIRE(write_answers(path, "second"));
  CHECK(read_answers(path).value() == "second");
  CHECK(::access((path + ".tmp").c_str(), F_OK) != 0);

  REQUIRE(::chmod(path.c_str(), 0620) == 0);
  CHECK(read_answers(path).error().text == "others may have written it");
  REQUIRE(::chmod(path.c_str(), 0600) == 0);
  CHECK_FALSE(write_answers(folder.path + "/nowhere/answers", "x"));
  CHECK_FALSE(read_answers(folder.path));  // a directory
}
