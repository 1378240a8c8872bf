// SPDX-License-Identifier: GPL-3.0-or-later
// Rules of a conversation that the library itself does not keep: how many key updates a peer may send.
#include "test/unit/tls/raw_client.hpp"

namespace postern::tls {
namespace {

#ifdef POSTERN_WOLFSSL_BUNDLED

/// An engine of a server and a bare client that shook hands; what the server says arrives at once.
struct Talk {
  RawClient client{RawOffer{.tls12 = false}};
  std::unique_ptr<Engine> server;
  Outbox out;

  Talk() {
    static const auto store = store_of({entry("alpha")});
    server = Engine::server(server_context(default_policy(), store));
    REQUIRE(client.shake(*server));
    client.up.clear();
  }
  /// A key update that wants an answer.
  void update() {
    client.read();
    REQUIRE(wolfSSL_update_keys(client.ssl.get()) == WOLFSSL_SUCCESS);
  }
  /// What is on the way in one call after another, as long as output should leave first; how many calls.
  size_t hear(Moment moment, ReadEnd& end) {
    uint8_t plain[100];
    Input in{client.up.data(), client.up.size()};
    size_t calls = 0;
    do {
      const ReadResult got = server->read(in, plain, out, moment);
      end = got.end;
      client.down.insert(client.down.end(), out.bytes().begin(), out.bytes().end());
      out.clear();
      ++calls;
    } while (end == ReadEnd::full);
    client.up.clear();
    return calls;
  }
  ReadEnd hear(Moment moment) {
    ReadEnd end = ReadEnd::failed;
    hear(moment, end);
    return end;
  }
};

TEST_CASE("32 key updates in a second are served, the next ends the conversation with an alert") {
  Talk talk;
  for (uint32_t i = 0; i < 32; ++i) {
    talk.update();
    CHECK(talk.hear({1000 + i * 31}) == ReadEnd::want_input);
  }
  talk.update();
  CHECK(talk.hear({1999}) == ReadEnd::failed);
  CHECK(talk.server->failure() == Failure::key_updates);
  CHECK(talk.server->error() == std::string("too many key updates in a second"));
  talk.client.read();
  CHECK(talk.client.alert() == 10);
}

TEST_CASE("a new second allows as many again, also across the clock's end") {
  Talk talk;
  uint32_t now = UINT32_MAX - 1500;
  for (int second = 0; second < 5; ++second, now += 1000)
    for (int i = 0; i < 32; ++i) {
      talk.update();
      REQUIRE(talk.hear({now}) == ReadEnd::want_input);
    }
}

TEST_CASE("the second begins with its first key update, not with the conversation") {
  Talk talk;
  talk.update();
  CHECK(talk.hear({100}) == ReadEnd::want_input);
  for (int i = 0; i < 31; ++i) {
    talk.update();
    REQUIRE(talk.hear({1050}) == ReadEnd::want_input);
  }
  talk.update();
  CHECK(talk.hear({1099}) == ReadEnd::failed);
}

TEST_CASE("answers leave three at a time; a fourth request while none can leave ends the conversation") {
  Talk talk;
  ReadEnd end = ReadEnd::failed;
  // The library asks for an answer in the first and then in every other one: four requests.
  const auto seven = [&] {
    for (int i = 0; i < 7; ++i) REQUIRE(wolfSSL_update_keys(talk.client.ssl.get()) == WOLFSSL_SUCCESS);
  };
  seven();
  CHECK(talk.hear({5000, false}, end) == 2);
  CHECK(end == ReadEnd::want_input);
  seven();
  talk.hear({7000, true}, end);
  CHECK(end == ReadEnd::failed);
  CHECK(talk.server->failure() == Failure::key_updates);
  CHECK(talk.server->error() == std::string("key updates whose answers it does not take"));
}

TEST_CASE("a backlog is no reproach to a peer that asks for little") {
  Talk talk;
  for (int i = 0; i < 3; ++i) {
    talk.update();
    CHECK(talk.hear({5000, true}) == ReadEnd::want_input);
  }
  CHECK(talk.hear({5000, false}) == ReadEnd::want_input);
  talk.update();
  CHECK(talk.hear({5000, true}) == ReadEnd::want_input);
}

#endif

}  // namespace
}  // namespace postern::tls
