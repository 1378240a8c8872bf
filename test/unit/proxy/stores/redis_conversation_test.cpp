// SPDX-License-Identifier: GPL-3.0-or-later
// Transcripts of the talk with Redis and with a sentinel: each is played whole, byte by byte and at every
// split in two, and must come to the same.
#include "proxy/stores/redis_conversation.hpp"

#include <doctest/doctest.h>

#include <functional>

#include "proxy/stores/redis_words.hpp"
#include "proxy/stores/sentinel_conversation.hpp"

using namespace postern;
using namespace postern::proxy;

namespace {

std::span<const uint8_t> bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

/// One command as it stands on the wire.
std::string wire(std::initializer_list<std::string_view> words) {
  std::string out = "*" + std::to_string(words.size()) + "\r\n";
  for (const auto word : words)
    out += "$" + std::to_string(word.size()) + "\r\n" + std::string(word) + "\r\n";
  return out;
}

const std::string prefix = "route:";
constexpr const char* kinds[] = {"found:", "absent", "failed:", "timeout:"};

/// What came of a talk: the answers by question, and how it ended.
std::string outcome(const RedisLogin& login, const std::vector<std::string>& names, size_t forgotten,
                    const std::vector<std::string_view>& pieces) {
  RedisConversation talk(prefix);
  std::string out;
  std::vector<RedisConversation::Outcome> done;
  talk.open(login, out);
  size_t next = 0;
  std::vector<RedisConversation::Ticket> tickets;
  const auto ask = [&] {
    if (!tickets.empty() || talk.state() != RedisConversation::State::ready) return;
    for (const auto& name : names) tickets.push_back(talk.get(name, false, out));
    if (forgotten < tickets.size()) talk.forget(tickets[forgotten]);
  };
  ask();
  for (; next < pieces.size(); ++next) {
    talk.receive(bytes(pieces[next]), done);
    ask();
  }
  std::string told;
  for (const auto& one : done) {
    size_t i = 0;
    while (i < tickets.size() && tickets[i] != one.ticket) ++i;
    told += std::to_string(i) + "=" + kinds[static_cast<size_t>(one.answer.kind)] + one.answer.text;
    if (one.refusal == RedisRefusal::moved || one.refusal == RedisRefusal::ask)
      told += " to " + one.place.host + ":" + std::to_string(one.place.port);
    told += "; ";
  }
  if (talk.late()) told += "late; ";
  if (talk.state() == RedisConversation::State::broken)
    return told + (talk.not_master() ? "not master: " : "broken: ") + talk.error();
  return told + (talk.state() == RedisConversation::State::ready ? "ready " : "opening ") +
         std::to_string(talk.outstanding());
}

struct Row {
  const char* title;
  RedisLogin login;
  std::vector<std::string> names;
  size_t forgotten;              // of names; beyond them: none
  std::string opening, answers;  // what the server says before and after the questions
  std::string expected;
};

RedisLogin login(std::string user, std::string password, uint32_t database = 0, bool master = false) {
  return {std::move(user), conf::Secret(std::move(password)), database, master};
}

}  // namespace

TEST_CASE("a talk with Redis comes to the same wherever its bytes are split") {
  const std::string deep = "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n+x\r\n";
  const Row rows[] = {
      {"plain", {}, {"a", "b"}, 9, "", "$1\r\nx\r\n$2\r\nyz\r\n", "0=found:x; 1=found:yz; ready 0"},
      {"nothing there", {}, {"a", "b"}, 9, "", "$-1\r\n$0\r\n\r\n", "0=absent; 1=absent; ready 0"},
      {"password, database, role",
       login("", "pw", 3, true),
       {"a"},
       9,
       "+OK\r\n+OK\r\n*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n",
       "$1\r\nx\r\n",
       "0=found:x; ready 0"},
      {"no question before the login", login("u", "pw"), {"a"}, 9, "", "", "opening 1"},
      {"wrong password",
       login("u", "pw"),
       {"a"},
       9,
       "-WRONGPASS invalid username-password pair\r\n",
       "",
       "broken: the server refused the user or the password (WRONGPASS)"},
      {"a replica",
       login("", "", 0, true),
       {"a"},
       9,
       "*5\r\n$5\r\nslave\r\n$1\r\nh\r\n:1\r\n$9\r\nconnected\r\n:0\r\n",
       "",
       "not master: the server that Sentinel named is not a master"},
      {"no role",
       login("", "", 0, true),
       {"a"},
       9,
       "*0\r\n",
       "",
       "broken: what the server says is not Redis' protocol"},
      {"a late answer is dropped",
       {},
       {"a", "b"},
       0,
       "",
       "$1\r\nx\r\n$1\r\ny\r\n",
       "1=found:y; late; ready 0"},
      {"loading",
       {},
       {"a"},
       9,
       "",
       "-LOADING Redis is loading the dataset in memory\r\n",
       "0=failed:the server is loading its data (LOADING); ready 0"},
      {"master down",
       {},
       {"a"},
       9,
       "",
       "-MASTERDOWN Link with MASTER is down\r\n",
       "0=failed:the server has lost its master and does not answer (MASTERDOWN); ready 0"},
      {"no login",
       {},
       {"a", "b"},
       9,
       "",
       "-NOAUTH Authentication required.\r\n",
       "0=failed:the server asks for a password (NOAUTH); broken: the server asks for a password (NOAUTH)"},
      {"read-only",
       {},
       {"a"},
       9,
       "",
       "-READONLY You can't write against a read only replica.\r\n",
       "0=failed:the server is a replica and takes no writes (READONLY); not master: the server is a replica "
       "and "
       "takes no writes (READONLY)"},
      {"wrong type",
       {},
       {"a", "b"},
       9,
       "",
       "-WRONGTYPE Operation against a key\r\n$1\r\ny\r\n",
       "0=failed:the key holds no text (WRONGTYPE); 1=found:y; ready 0"},
      {"an error that repeats the name",
       {},
       {"a"},
       9,
       "",
       "-ERR unknown command `GET`, with args: `alice`\r\n",
       "0=failed:the server answered with an error (ERR); ready 0"},
      {"moved",
       {},
       {"a", "b"},
       9,
       "",
       "-MOVED 3999 127.0.0.1:6381\r\n-ASK 1 ::1:7000\r\n",
       "0=failed: to 127.0.0.1:6381; 1=failed: to ::1:7000; ready 0"},
      {"moved to the same host", {}, {"a"}, 9, "", "-MOVED 3999 :6381\r\n", "0=failed: to :6381; ready 0"},
      {"moved nowhere",
       {},
       {"a"},
       9,
       "",
       "-MOVED 99999 h:1\r\n",
       "0=failed:the cluster sends to a place that cannot be read; ready 0"},
      {"no text",
       {},
       {"a", "b", "c"},
       9,
       "",
       "$2\r\na\n\r\n$1\r\n\xff\r\n$1025\r\n" + std::string(1025, 'x') + "\r\n",
       "0=failed:the value is no text; 1=failed:the value is no text; 2=failed:the value is longer than any "
       "name of a "
       "destination; ready 0"},
      {"a number for a text",
       {},
       {"a", "b"},
       9,
       "",
       ":1\r\n$1\r\nx\r\n",
       "0=failed:the server answered something else than was asked; broken: the server answered something "
       "else than was asked"},
      {"a status for a text",
       {},
       {"a"},
       9,
       "",
       "+OK\r\n",
       "0=failed:the server answered something else than was asked; broken: the server answered something "
       "else than was asked"},
      {"more answers than questions",
       {},
       {"a"},
       9,
       "",
       "$1\r\nx\r\n$1\r\ny\r\n",
       "0=found:x; broken: the server said something unasked"},
      {"too many clients",
       {},
       {},
       9,
       "-ERR max number of clients reached\r\n",
       "",
       "broken: the server has too many clients"},
      {"HTTP",
       {},
       {"a"},
       9,
       "",
       "HTTP/1.1 400 Bad Request\r\n\r\n",
       "broken: what the server says is not Redis' protocol"},
      {"a list without end",
       {},
       {"a"},
       9,
       "",
       "*1000000\r\n",
       "broken: what the server says is not Redis' protocol"},
      {"lists within lists", {}, {"a"}, 9, "", deep, "broken: what the server says is not Redis' protocol"},
      {"a negative size", {}, {"a"}, 9, "", "$-2\r\n", "broken: what the server says is not Redis' protocol"},
      {"a newer protocol",
       {},
       {"a"},
       9,
       "",
       "%1\r\n+a\r\n+b\r\n",
       "broken: what the server says is not Redis' protocol"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.title);
    const std::string_view a = row.opening, b = row.answers;
    CHECK(outcome(row.login, row.names, row.forgotten, {a, b}) == row.expected);
    for (size_t i = 0; i <= a.size(); ++i)
      CHECK(outcome(row.login, row.names, row.forgotten, {a.substr(0, i), a.substr(i), b}) == row.expected);
    for (size_t i = 0; i <= b.size(); ++i)
      CHECK(outcome(row.login, row.names, row.forgotten, {a, b.substr(0, i), b.substr(i)}) == row.expected);
    std::vector<std::string_view> single;
    for (size_t i = 0; i < a.size(); ++i) single.push_back(a.substr(i, 1));
    for (size_t i = 0; i < b.size(); ++i) single.push_back(b.substr(i, 1));
    CHECK(outcome(row.login, row.names, row.forgotten, single) == row.expected);
  }
}

TEST_CASE("what is said to Redis") {
  RedisConversation talk(prefix);
  std::string out;
  talk.open(login("u", "p w", 7, true), out);
  CHECK(out == wire({"AUTH", "u", "p w"}) + wire({"SELECT", "7"}) + wire({"ROLE"}));
  RedisConversation plain(prefix);
  out.clear();
  plain.open(login("", "pw"), out);
  CHECK(out == wire({"AUTH", "pw"}));
  out.clear();
  const std::string name = std::string("a\r\n$1\0\xff", 7);
  RedisConversation third(prefix);
  third.open({}, out);
  third.get(name, false, out);
  CHECK(out == wire({"GET", prefix + name}));
  out.clear();
  third.put("n", "d", true, out);
  third.erase("n", false, out);
  CHECK(out == wire({"ASKING"}) + wire({"SET", "route:n", "d"}) + wire({"DEL", "route:n"}));
  std::vector<RedisConversation::Outcome> done;
  third.receive(bytes("$-1\r\n+OK\r\n+OK\r\n:0\r\n"), done);
  REQUIRE(done.size() == 3);
  CHECK(done[1].answer.kind == StoreAnswer::Kind::found);
  CHECK(done[2].answer.kind == StoreAnswer::Kind::absent);
}

TEST_CASE("an answer that never ends is bounded") {
  RedisConversation talk(prefix);
  std::string out;
  std::vector<RedisConversation::Outcome> done;
  talk.open({}, out);
  talk.get("a", false, out);
  talk.receive(bytes("$900000000\r\n"), done);
  const std::string much(100'000, 'x');
  size_t sent = 0;
  for (; talk.state() != RedisConversation::State::broken && sent < 100; ++sent)
    talk.receive(bytes(much), done);
  CHECK(sent <= RedisReader::most_bytes / much.size() + 1);
  CHECK(talk.error() == "the server sent an answer that is too large");
}

TEST_CASE("slots of keys are those of the documentation") {
  CHECK(slot_of("123456789") == 0x31c3);
  CHECK(slot_of("foo") == 12182);
  CHECK(slot_of("{user1000}.following") == slot_of("{user1000}.followers"));
  CHECK(slot_of("foo{}{bar}") != slot_of("bar"));
  CHECK(slot_of("foo{{bar}}zap") == slot_of("{bar"));
  CHECK(slot_of("foo{bar}{zap}") == slot_of("bar"));
}

TEST_CASE("without TLS a redirection is followed within one class of network only") {
  const auto follow = [](const char* from, const char* to) {
    return may_follow(*conf::Ip::parse(from), *conf::Ip::parse(to));
  };
  CHECK(follow("127.0.0.1", "127.0.0.2"));
  CHECK(follow("127.0.0.1", "::1"));
  CHECK(follow("10.0.0.1", "192.168.3.4"));
  CHECK(follow("10.0.0.1", "fd00::1"));
  CHECK(follow("203.0.113.1", "203.0.113.1"));
  CHECK_FALSE(follow("203.0.113.1", "203.0.113.2"));
  CHECK_FALSE(follow("10.0.0.1", "127.0.0.1"));
  CHECK_FALSE(follow("127.0.0.1", "10.0.0.1"));
  CHECK_FALSE(follow("10.0.0.1", "8.8.8.8"));
  CHECK_FALSE(follow("127.0.0.1", "169.254.169.254"));
}

TEST_CASE("a sentinel's words come to the same wherever they are split") {
  struct Said {
    const char* title;
    std::string bytes, expected;
  };
  const std::string subscribed = "*3\r\n$9\r\nsubscribe\r\n$14\r\n+switch-master\r\n:1\r\n";
  const auto message = [](std::string payload) {
    return "*3\r\n$7\r\nmessage\r\n$14\r\n+switch-master\r\n$" + std::to_string(payload.size()) + "\r\n" +
           payload + "\r\n";
  };
  const std::string address = "*2\r\n$9\r\n127.0.0.1\r\n$4\r\n6379\r\n";
  const Said rows[] = {
      {"a master", address + subscribed, "is 127.0.0.1:6379; idle"},
      {"no such service", "*-1\r\n" + subscribed, "none; idle"},
      {"a switch", address + subscribed + message("m 1.1.1.1 1 2.2.2.2 2"),
       "is 127.0.0.1:6379; now 2.2.2.2:2; idle"},
      {"another's switch", address + subscribed + message("n 1.1.1.1 1 2.2.2.2 2"),
       "is 127.0.0.1:6379; idle"},
      {"an odd message", address + subscribed + message("m 2.2.2.2 2") + message("m a b c d e"),
       "is 127.0.0.1:6379; idle"},
      {"no address", "*2\r\n$1\r\n!\r\n$4\r\n6379\r\n" + subscribed, "none; idle"},
      {"an error", "-NOAUTH x\r\n", "broken: the server asks for a password (NOAUTH)"},
      {"something else", ":1\r\n", "broken: what the sentinel says is not Redis' protocol"},
      {"unasked", address + subscribed + "+OK\r\n",
       "is 127.0.0.1:6379; broken: what the sentinel says is not Redis' protocol"},
  };
  for (const Said& row : rows) {
    CAPTURE(row.title);
    const auto play = [&](const std::vector<std::string_view>& pieces) {
      SentinelConversation talk("m");
      std::string out, told;
      std::vector<SentinelConversation::News> news;
      talk.open({}, out);
      for (const auto piece : pieces) talk.receive(bytes(piece), news);
      for (const auto& one : news)
        told += one.master ? (one.switched ? "now " : "is ") + one.master->host + ":" +
                                 std::to_string(one.master->port) + "; "
                           : "none; ";
      return told + (talk.broken() ? "broken: " + talk.error() : talk.asking() ? "asking" : "idle");
    };
    const std::string_view all = row.bytes;
    for (size_t i = 0; i <= all.size(); ++i) CHECK(play({all.substr(0, i), all.substr(i)}) == row.expected);
    std::vector<std::string_view> single;
    for (size_t i = 0; i < all.size(); ++i) single.push_back(all.substr(i, 1));
    CHECK(play(single) == row.expected);
  }
  SentinelConversation talk("m");
  std::string out;
  talk.open(conf::Secret("pw"), out);
  CHECK(out == wire({"AUTH", "pw"}) + wire({"SENTINEL", "get-master-addr-by-name", "m"}) +
                   wire({"SUBSCRIBE", "+switch-master"}));
}
