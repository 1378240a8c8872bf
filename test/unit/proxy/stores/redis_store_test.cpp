// SPDX-License-Identifier: GPL-3.0-or-later
// The store against a real Redis: what it finds, who may ask, and what it says when the server is frozen,
// killed, refusing or no Redis at all.
#include "test/unit/proxy/stores/redis_world.hpp"

using namespace postern::proxy;
using namespace postern::proxy::test;

namespace {

/// A server of the test's own making, which says what it is told to.
class FakeServer {
 public:
  explicit FakeServer(std::string answer, bool close_after = false) : port(free_port()) {
    listener_ = ::socket(AF_INET, SOCK_STREAM, 0);
    const int on = 1;
    ::setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(listener_, 16) == 0);
    thread_ = std::thread([this, answer = std::move(answer), close_after] {
      for (;;) {
        const int peer = ::accept(listener_, nullptr, nullptr);
        if (peer < 0) return;
        char buffer[4096];
        while (::recv(peer, buffer, sizeof buffer, 0) > 0) {
          ::send(peer, answer.data(), answer.size(), MSG_NOSIGNAL);
          if (close_after) break;
        }
        ::close(peer);
      }
    });
  }
  ~FakeServer() {
    ::shutdown(listener_, SHUT_RDWR);
    ::close(listener_);
    thread_.join();
  }
  const uint16_t port;

 private:
  int listener_ = -1;
  std::thread thread_;
};

}  // namespace

TEST_CASE("Redis: what is there is found, what is not is absent, and what is no text is neither") {
  RedisServer server;
  if (!server) return;
  server.command("SET route:alice new");
  server.command("SET route:empty ''");
  server.command("LPUSH route:list x");
  server.command("SELECT 3");
  server.command("SET route:alice third", "-n 3");
  Asking asking;
  asking.store = redis_store(asking, settings_of("redis://" + local(server.port)));
  const auto answers = asking.find({"alice", "bob", "empty", "list"});
  CHECK(text(answers[0]) == "found new");
  CHECK(text(answers[1]) == "absent ");
  CHECK(text(answers[2]) == "absent ");
  CHECK(text(answers[3]) == "failed the key holds no text (WRONGTYPE)");
  CHECK(asking.store->state().up);
  CHECK(asking.store->state().connections == 1);
  asking.store = redis_store(asking, settings_of("redis://" + local(server.port) + "/3"));
  CHECK(text(asking.find("alice")) == "found third");
  asking.store = redis_store(asking, settings_of("redis+unix://" + (server.folder / "redis.sock") + "?db=3"));
  CHECK(text(asking.find("alice")) == "found third");
  auto settings = settings_of("redis://localhost:" + std::to_string(server.port));
  settings.key_prefix = "";
  asking.store = redis_store(asking, settings);
  CHECK(text(asking.find("route:alice")) == "found new");
  CHECK(text(asking.put("carol", "new")) == "found ");
  CHECK(server.command("GET carol") == "new");
  CHECK(text(asking.erase("carol")) == "found ");
  CHECK(text(asking.erase("carol")) == "absent ");
  settings.writable = false;
  asking.store = redis_store(asking, settings);
  CHECK(text(asking.put("carol", "new")) == "failed the store is read-only");
}

TEST_CASE("Redis: thousands of questions in one turn, over one connection") {
  RedisServer server;
  if (!server) return;
  Asking asking;
  asking.store = redis_store(asking, settings_of("redis://" + local(server.port)));
  std::vector<std::string> names;
  for (int i = 0; i < 3000; ++i) {
    names.push_back("user" + std::to_string(i));
    if (i % 3 == 0) CHECK(text(asking.put(names.back(), "d" + std::to_string(i))) == "found ");
  }
  const auto answers = asking.find(names);
  size_t wrong = 0;
  for (size_t i = 0; i < names.size(); ++i)
    wrong += text(answers[i]) != (i % 3 == 0 ? "found d" + std::to_string(i) : "absent ");
  CHECK(wrong == 0);
}

TEST_CASE("Redis: passwords and users, from the URL and from a file that changes") {
  RedisServer server({"--requirepass", "top secret"});
  if (!server) return;
  const std::string cli = "--no-auth-warning -a 'top secret'";
  server.command("SET route:alice new", cli);
  CHECK(server.command("ACL SETUSER postern on '>p@ss/w:rd' '~route:*' +get", cli) == "OK");
  Asking asking;
  const auto ask = [&](RedisSettings settings) {
    asking.store = redis_store(asking, std::move(settings));
    return text(asking.find("alice"));
  };
  CHECK(ask(settings_of("redis://" + local(server.port))) ==
        "failed the server asks for a password (NOAUTH)");
  CHECK(ask(settings_of("redis://:wrong@" + local(server.port))) ==
        "failed the server refused the user or the password (WRONGPASS)");
  CHECK(asking.store->state().last_error == "the server refused the user or the password (WRONGPASS)");
  CHECK_FALSE(asking.store->state().up);
  CHECK(ask(settings_of("redis://:top%20secret@" + local(server.port))) == "found new");
  CHECK(ask(settings_of("redis://postern:p%40ss%2Fw%3Ard@" + local(server.port))) == "found new");
  CHECK(text(asking.put("alice", "old")) == "failed the user may not do this (NOPERM)");
  auto settings = settings_of("redis://postern@" + local(server.port));
  settings.password_file = server.folder.write("password", "not this one\n");
  CHECK(ask(settings) == "failed the server refused the user or the password (WRONGPASS)");
  server.folder.write("password", "p@ss/w:rd\n");
  asking.rest(200);
  CHECK(text(asking.find("alice")) == "found new");
  settings.password_file = server.folder / "missing";
  CHECK(ask(settings) == "failed password_file: No such file or directory");
}

TEST_CASE("Redis: frozen, it costs its questions their time and nothing else; late answers go nowhere") {
  RedisServer server;
  if (!server) return;
  server.command("SET route:alice new");
  server.command("SET route:bob other");
  Asking asking;
  asking.store = redis_store(asking, settings_of("redis://" + local(server.port)));
  CHECK(text(asking.find("alice")) == "found new");
  server.process->signal(SIGSTOP);
  for (int i = 0; i < 3; ++i) CHECK(text(asking.find("alice", 100)) == "timeout no answer in time");
  CHECK_FALSE(asking.store->state().up);
  server.process->signal(SIGCONT);
  CHECK(text(asking.find("bob", 1000)) == "found other");
  CHECK(asking.store->state().connections == 1);
  // Frozen before there is a connection.
  server.process->signal(SIGSTOP);
  asking.store = redis_store(asking, settings_of("redis://:x@" + local(server.port)));
  CHECK(text(asking.find("alice", 100)) == "timeout no answer in time");
  server.process->signal(SIGCONT);
}

TEST_CASE("Redis: killed, it fails at once, and serves again as soon as it is back") {
  RedisServer server;
  if (!server) return;
  server.command("SET route:alice new");
  Asking asking;
  asking.store = redis_store(asking, settings_of("redis://" + local(server.port)));
  CHECK(text(asking.find("alice")) == "found new");
  server.process->end(SIGKILL);
  const uint64_t before = uv_hrtime();
  for (int i = 0; i < 20; ++i) {
    const auto answer = asking.find("alice", 5000);
    CHECK(answer.kind == StoreAnswer::Kind::failed);
    asking.rest(10);
  }
  CHECK((uv_hrtime() - before) / 1'000'000 < 3000);
  CHECK(asking.store->state().last_error.find("refused") != std::string::npos);
  server.start();
  server.command("SET route:alice new");
  uint64_t took = uv_hrtime();
  while (asking.find("alice", 1000).kind == StoreAnswer::Kind::failed && uv_hrtime() - took < 5'000'000'000)
    asking.rest(20);
  took = (uv_hrtime() - took) / 1'000'000;
  CHECK(took < 1000);
  CHECK(text(asking.find("alice")) == "found new");
  // A server that is only restarted between two questions is not even noticed.
  server.process->end(SIGKILL);
  server.start();
  asking.rest(50);
  CHECK(text(asking.find("alice")) == "absent ");
}

TEST_CASE("Redis: whatever a server answers, no question is answered by what is no answer") {
  for (const char* nonsense : {"HTTP/1.1 400 Bad Request\r\n\r\n", "+OK\r\n", ":5\r\n", "*1\r\n$1\r\nx\r\n",
                               "\r\n", "garbage", "$5\r\nab\r\n", "-\r\n", "*-1\r\n*-1\r\n*-1\r\n"}) {
    CAPTURE(nonsense);
    FakeServer server(nonsense);
    Asking asking;
    asking.store = redis_store(asking, settings_of("redis://" + local(server.port)));
    for (int i = 0; i < 3; ++i) {
      const auto answer = asking.find("alice", 300);
      const bool nil = std::string_view(nonsense).starts_with("*-1");
      CHECK((answer.kind == StoreAnswer::Kind::failed || answer.kind == StoreAnswer::Kind::timeout ||
             (nil && answer.kind == StoreAnswer::Kind::absent)));
    }
    asking.store.reset();
  }
  FakeServer server("$1\r\n", true);  // and goes in the middle of an answer
  Asking asking;
  asking.store = redis_store(asking, settings_of("redis://" + local(server.port)));
  CHECK(text(asking.find("alice", 2000)) == "failed the server closed the connection");
  asking.store.reset();
}

TEST_CASE("Redis: a server that is full says so") {
  RedisServer server({"--maxclients", "1"});
  if (!server) return;
  Asking first, second;
  first.store = redis_store(first, settings_of("redis://" + local(server.port)));
  // The test's own look at the port may still count.
  for (int i = 0; i < 50 && first.find("alice").kind != StoreAnswer::Kind::absent; ++i) first.rest(20);
  CHECK(text(first.find("alice")) == "absent ");
  second.store = redis_store(second, settings_of("redis://" + local(server.port)));
  const auto answer = second.find("alice", 2000);
  CHECK(answer.kind == StoreAnswer::Kind::failed);
}

TEST_CASE("Redis: questions that are still open when the store goes are answered") {
  RedisServer server;
  if (!server) return;
  server.process->signal(SIGSTOP);
  Asking asking;
  asking.store = redis_store(asking, settings_of("redis://" + local(server.port)));
  size_t failed = 0;
  std::vector<Store::Question> questions;
  for (int i = 0; i < 5; ++i)
    questions.push_back(
        {"a", [&failed](const StoreAnswer& answer) { failed += answer.kind == StoreAnswer::Kind::failed; }});
  asking.store->find(std::move(questions), asking.loop.now() + 60'000);
  asking.store.reset();
  CHECK(failed == 5);
  server.process->signal(SIGCONT);
}

TEST_CASE("Redis: every byte of a name arrives as a part of one key, and as nothing else") {
  RedisServer server;
  if (!server) return;
  Asking asking;
  asking.store = redis_store(asking, settings_of("redis://" + local(server.port)));
  const auto names = nasty_names();
  const std::string seen = server.folder / "monitor";
  Process monitor({"/usr/bin/redis-cli", "-s", server.folder / "redis.sock", "MONITOR"}, seen);
  REQUIRE(eventually([&] { return read_all(seen).find("OK") != std::string::npos; }));
  for (const auto& answer : asking.find(names)) CHECK(text(answer) == "absent ");
  CHECK(text(asking.find("the end")) == "absent ");
  REQUIRE(eventually([&] { return read_all(seen).find("the end") != std::string::npos; }));
  // The log quotes as C does; each line must be one GET of one key, and the keys must be the names.
  std::vector<std::string> asked;
  std::istringstream lines(read_all(seen));
  for (std::string line; std::getline(lines, line);) {
    if (line == "OK") continue;
    const size_t at = line.find("] \"GET\" \"");
    REQUIRE_MESSAGE(at != std::string::npos, line);
    std::string key;
    size_t i = at + 9;
    for (; i < line.size() && line[i] != '"'; ++i) {
      if (line[i] != '\\') {
        key += line[i];
        continue;
      }
      const char c = line[++i];
      if (c == 'x') {
        key += static_cast<char>(std::stoi(line.substr(i + 1, 2), nullptr, 16));
        i += 2;
      } else {
        constexpr std::string_view letters = "nrtab", meant = "\n\r\t\a\b";
        const size_t which = letters.find(c);
        key += which == std::string_view::npos ? c : meant[which];
      }
    }
    CHECK(i + 1 == line.size());
    asked.push_back(key);
  }
  REQUIRE(asked.size() == names.size() + 1);
  for (size_t i = 0; i < names.size(); ++i) CHECK(asked[i] == "route:" + names[i]);
}
