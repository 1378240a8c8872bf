// SPDX-License-Identifier: GPL-3.0-or-later
// Ticket keys: files, rotation, and what an error leaves as it was.
#include "test/unit/tls/key_file.hpp"

#include <sys/stat.h>

#include <cstdio>

namespace postern::tls {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::system_clock;

const std::string base64_zeros(64, 'A');

TEST_CASE("a key file: hexadecimal and base64, comments, blank lines, and everything else refused by line") {
  struct Row {
    std::string text;
    size_t keys;
    std::string says;
  };
  std::string many;
  for (int i = 0; i < 65; ++i) {
    char name[33];
    std::snprintf(name, sizeof name, "%032d", i);
    many += name + hex('a', 'b').substr(32) + "\n";
  }
  const Row rows[] = {
      {hex('a', 'b') + "\n", 1, ""},
      {hex('a', 'b'), 1, ""},
      {"# making\n\n  " + hex('a', 'b') + "\t\r\n" + base64_zeros + "\n#" + hex('c', 'c') + "\n", 2, ""},
      {"", 0, "no key in it"},
      {"# nothing\n", 0, "no key in it"},
      {"hello\n", 0, "line 1: not a key of 48 bytes"},
      {hex('a', 'b') + "\n" + hex('b', 'b').substr(1) + "\n", 0, "line 2: not a key of 48 bytes"},
      {hex('a', 'b').substr(2) + "zz", 0, "line 1: not a key of 48 bytes"},
      {hex('a', 'b') + "00", 0, "line 1: not a key of 48 bytes"},
      {base64_zeros.substr(4) + "AAA=", 0, "line 1: not a key of 48 bytes"},
      {hex('a', 'b') + "\n" + hex('a', 'c') + "\n", 0, "line 2: two keys of one name"},
      {many, 0, "line 65: more than 64 keys"},
      {std::string(100000, 'A'), 0, "line 1: not a key of 48 bytes"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.says);
    const auto keys = parse_ticket_keys(row.text);
    CHECK((keys ? keys->size() : 0) == row.keys);
    if (!keys) CHECK_MESSAGE(keys.error().text.find(row.says) == 0, keys.error().text);
  }
  const auto keys = parse_ticket_keys(hex('a', 'd'));
  REQUIRE(keys);
  CHECK(keys->front().name == std::array<uint8_t, 16>{0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa,
                                                      0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa});
  CHECK(keys->front().key[31] == 0x0d);
}

TEST_CASE("own keys: made at once, renewed by `rotate`, forgotten `lifetime` after their last ticket") {
  conf::TicketConf conf;
  conf.rotate = 1h;
  conf.lifetime = 3h;
  TicketKeys keys;
  TicketKey key;
  CHECK_FALSE(keys.making(key));
  const auto start = Clock::now();
  REQUIRE(configure(keys, conf));
  CHECK(keys.age(start) <= 1s);
  TicketKey first;
  REQUIRE(keys.making(first));
  CHECK(*keys.refresh(start + 59min) == false);
  std::vector<TicketKey> made = {first};
  for (int hour = 1; hour <= 6; ++hour) {
    CHECK(*keys.refresh(start + hour * 1h + 1min) == true);
    CHECK(keys.age(start + hour * 1h + 2min) == 1min);
    REQUIRE(keys.making(key));
    CHECK(key.name != made.back().name);
    CHECK(key.key != made.back().key);
    made.push_back(key);
  }
  // The newest made its first ticket at 6:01, so the one before it its last; what retired at 3:01 or before
  // is gone.
  bool newest = true;
  for (size_t i = 0; i < made.size(); ++i) {
    CAPTURE(i);
    CHECK(keys.named(made[i].name, key, newest) == (i >= 3));
    if (i >= 3) {
      CHECK(key.key == made[i].key);
      CHECK(newest == (i == 6));
    }
  }
  CHECK(*keys.refresh(start + 100h) == true);  // after a long sleep
  CHECK_FALSE(keys.named(made[5].name, key, newest));
  CHECK(*keys.refresh(start) == false);  // the clock was set back: no key is made, none stays for ever
  CHECK(*keys.refresh(start + 1h) == true);
  conf.enable = false;
  REQUIRE(configure(keys, conf));
  CHECK_FALSE(keys.making(key));
}

TEST_CASE("own keys stay over a reload") {
  TicketKeys keys;
  conf::TicketConf conf;
  REQUIRE(configure(keys, conf));
  TicketKey before, after;
  REQUIRE(keys.making(before));
  conf.lifetime = 1h;
  REQUIRE(configure(keys, conf));
  REQUIRE(keys.making(after));
  CHECK(before.name == after.name);
}

TEST_CASE("rotation far faster than the lifetime keeps a bounded number of keys") {
  conf::TicketConf conf;
  conf.rotate = 1s;
  conf.lifetime = 24h;
  TicketKeys keys;
  REQUIRE(configure(keys, conf));
  std::vector<TicketKey> made(1);
  REQUIRE(keys.making(made[0]));
  for (int i = 1; i <= 200; ++i) {
    REQUIRE(keys.refresh(Clock::now() + i * 1s));
    REQUIRE(keys.making(made.emplace_back()));
  }
  TicketKey key;
  bool newest = false;
  size_t found = 0;
  for (const TicketKey& one : made) found += keys.named(one.name, key, newest);
  CHECK(found == TicketKeys::max_keys);
}

TEST_CASE(
    "a bad key file is an error and changes nothing; a good one takes over; a missing one keeps the keys") {
  const KeyFile file(hex('a', 'a') + "\n");
  ::chmod(file.path.c_str(), 0600);
  TicketKeys keys;
  REQUIRE(configure(keys, file.conf()));
  CHECK(keys.warning().empty());
  TicketKey key;
  REQUIRE(keys.making(key));
  CHECK(key.name[0] == 0xaa);
  CHECK(*keys.refresh(Clock::now()) == false);

  file.write("nonsense\n");
  const auto bad = keys.refresh(Clock::now());
  REQUIRE_FALSE(bad);
  CHECK(bad.error().text.find("line 1") != std::string::npos);
  CHECK_FALSE(configure(keys, file.conf()));
  REQUIRE(keys.making(key));
  CHECK(key.name[0] == 0xaa);

  file.write(hex('b', 'b') + "\n" + hex('a', 'a') + "\n");
  CHECK(*keys.refresh(Clock::now()) == true);
  REQUIRE(keys.making(key));
  CHECK(key.name[0] == 0xbb);
  bool newest = true;
  key.name.fill(0xaa);
  CHECK(keys.named(key.name, key, newest));
  CHECK_FALSE(newest);

  ::chmod(file.path.c_str(), 0644);
  CHECK(*keys.refresh(Clock::now()) == false);
  CHECK(keys.warning().find("can be read by every user") != std::string::npos);
  std::remove(file.path.c_str());
  CHECK_FALSE(keys.refresh(Clock::now()));
  CHECK(keys.making(key));
}

}  // namespace
}  // namespace postern::tls
