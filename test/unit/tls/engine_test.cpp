// SPDX-License-Identifier: GPL-3.0-or-later
// Conversations of two engines: data, ends, splits, and bytes that should not be there.
#include <malloc.h>

#include <random>

#include "test/unit/tls/raw_client.hpp"

namespace postern::tls {
namespace {

std::shared_ptr<const ServerContext> alpha(bool tls13 = true, const Tickets& tickets = {}) {
  static const auto store = store_of({entry("alpha")});
  conf::TlsPolicy policy = default_policy();
  policy.tls13 = tls13;
  return server_context(policy, store, tickets);
}

TEST_CASE("two engines with default settings agree on TLS 1.3 with the best group and talk") {
  Joined pair(client_context(), alpha());
  REQUIRE_MESSAGE(pair.shake(), pair.client->error(), " / ", pair.server->error());
  for (const Engine* engine : {pair.client.get(), pair.server.get()}) {
    const Facts facts = engine->facts();
    CHECK(facts.version == "TLSv1.3");
    CHECK(facts.suite == "TLS13_AES_256_GCM_SHA384");
    CHECK(facts.group == conf::name(library().groups.front()));
    CHECK_FALSE(facts.resumed);
    CHECK(engine->failure() == Failure::none);
    CHECK(engine->error() == std::string());
  }
  CHECK(pair.server->server_name() == "alpha.test");
  CHECK(pair.server->certificate_id() == "alpha");
  CHECK(pair.client->server_name().empty());
  CHECK(pair.client_writes("a1 NOOP\r\n"));
  CHECK(pair.server_reads().text == "a1 NOOP\r\n");
  CHECK(pair.server_writes("a1 OK\r\n"));
  CHECK(pair.client_reads().text == "a1 OK\r\n");
}

TEST_CASE("a backend with TLS 1.2 alone is spoken to") {
  Joined pair(client_context(), alpha(false));
  REQUIRE(pair.shake());
  CHECK(pair.client->facts().version == "TLSv1.2");
  CHECK(pair.client->facts().suite == "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384");
  CHECK(pair.client->facts().group == "X25519");
}

TEST_CASE("the handshake takes one flight each way, whether or not the backend has the hybrid group") {
  static const auto store = store_of({entry("alpha")});
  for (const conf::Group group : {library().groups.front(), conf::Group::x25519}) {
    conf::TlsPolicy policy = default_policy();
    policy.groups = {group};
    Joined pair(client_context(), server_context(policy, store));
    Input nothing;
    CHECK(pair.client->handshake(nothing, pair.up.box) == Progress::want_input);
    pair.up.flush();
    CHECK(Joined::step(*pair.server, pair.up, pair.down, SIZE_MAX) == Progress::want_input);
    CHECK(Joined::step(*pair.client, pair.down, pair.up, SIZE_MAX) == Progress::established);
    CHECK(pair.client_writes("early"));
    pair.up.flush();
    CHECK(Joined::step(*pair.server, pair.up, pair.down, SIZE_MAX) == Progress::established);
    CHECK(pair.server_reads().text == "early");  // what came behind the Finished was left in the input
    CHECK(pair.server->facts().group == conf::name(group));
  }
}

TEST_CASE("handshake and data survive every split, also of single bytes, in both versions") {
  for (const bool tls13 : {true, false})
    for (const size_t piece : {1, 2, 3, 5, 7, 64, 1000}) {
      CAPTURE(piece);
      Joined pair(client_context(), alpha(tls13));
      REQUIRE(pair.shake(piece));
      CHECK(pair.client_writes("one"));
      CHECK(pair.client_writes("two"));
      CHECK(pair.server_reads(piece).text == "onetwo");
      CHECK(pair.server_writes("three"));
      pair.server->close(pair.down.box);
      const auto got = pair.client_reads(piece, 2);
      CHECK(got.text == "three");
      CHECK(got.end == ReadEnd::closed);
    }
}

TEST_CASE("data of every size arrives whole, into small buffers and large") {
  Joined pair(client_context(), alpha());
  REQUIRE(pair.shake());
  for (const size_t size :
       {size_t{1}, size_t{16383}, size_t{16384}, size_t{16385}, size_t{70000}, size_t{1000000}}) {
    std::string text(size, '\0');
    for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 31 >> 3);
    for (const size_t room : {size_t{100}, size_t{16384}, size_t{65536}}) {
      if (size / room > 1000) continue;
      REQUIRE(pair.client_writes(text));
      CHECK(pair.server_reads(SIZE_MAX, room).text == text);
      REQUIRE(pair.server_writes(text));
      CHECK(pair.client_reads(4096, room).text == text);
    }
  }
  CHECK(pair.client_writes(""));  // nothing to say is no failure
  CHECK(pair.server_reads().text.empty());
}

TEST_CASE("close_notify ends one direction and leaves the other open") {
  for (const bool tls13 : {true, false}) {
    Joined pair(client_context(), alpha(tls13));
    REQUIRE(pair.shake());
    REQUIRE(pair.client_writes("last words"));
    pair.client->close(pair.up.box);
    const auto got = pair.server_reads();
    CHECK(got.text == "last words");
    CHECK(got.end == ReadEnd::closed);
    CHECK(pair.server->failure() == Failure::none);
    CHECK_FALSE(pair.client_writes("more"));  // it has said goodbye
    CHECK(pair.client->failure() == Failure::none);
    for (int i = 0; i < 3; ++i) {
      REQUIRE(pair.server_writes("answer"));        // writing after the peer's end
      CHECK(pair.client_reads().text == "answer");  // reading after one's own
    }
    pair.server->close(pair.down.box);
    CHECK(pair.client_reads().end == ReadEnd::closed);
    // Nothing comes of closing again, or of bytes behind the end.
    pair.server->close(pair.down.box);
    CHECK(pair.down.box.empty());
    pair.down.bytes = {1, 2, 3};
    CHECK(pair.client_reads().end == ReadEnd::closed);
  }
}

TEST_CASE("a stream cut anywhere in a record only ever waits for more") {
  Joined pair(client_context(), alpha());
  REQUIRE(pair.shake());
  REQUIRE(pair.client_writes("cut short"));
  pair.up.flush();
  const auto whole = pair.up.bytes;
  pair.up.bytes.pop_back();
  CHECK(pair.server_reads().text.empty());
  CHECK(pair.server_reads().end == ReadEnd::want_input);
  pair.up.bytes = {whole.back()};
  CHECK(pair.server_reads().text == "cut short");
}

TEST_CASE("a changed byte in a record is fatal, with an alert, and stays so") {
  for (const bool tls13 : {true, false}) {
    Joined pair(client_context(), alpha(tls13));
    REQUIRE(pair.shake());
    REQUIRE(pair.client_writes("tampered"));
    pair.up.flush();
    pair.up.bytes.back() ^= 1;
    CHECK(pair.server_reads().end == ReadEnd::failed);
    CHECK(pair.server->failure() == Failure::protocol);
    CHECK(pair.server->error() == std::string("a record that does not decrypt"));
    CHECK_FALSE(pair.server_writes("x"));
    CHECK(pair.server_reads().end == ReadEnd::failed);
    CHECK(pair.client_reads().end == ReadEnd::failed);
    CHECK(pair.client->failure() == Failure::alert);
    CHECK(pair.client->error() == std::string("peer alert: bad_record_mac"));
  }
}

TEST_CASE("plain text, noise and endless hellos fail with an alert, and stay failed") {
  struct Row {
    std::string bytes;
    Failure failure;
  };
  const Row rows[] = {
      {"a NOOP\r\n", Failure::not_tls},
      {std::string("\x16\x03\x01\x00\x00", 5), Failure::protocol},
      {std::string("\x16\x03\x01\x7f\xff", 5), Failure::hello_too_large},
      {std::string("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03", 10), Failure::protocol},
  };
  for (const Row& row : rows) {
    const auto server = Engine::server(alpha());
    Outbox out;
    Input in{reinterpret_cast<const uint8_t*>(row.bytes.data()), row.bytes.size()};
    CHECK(server->handshake(in, out) == Progress::failed);
    CHECK(server->failure() == row.failure);
    REQUIRE(out.size() == 7);
    CHECK(out.bytes()[0] == 21);
    CHECK(server->handshake(in, out) == Progress::failed);
    CHECK(out.size() == 7);
    uint8_t plain[16];
    CHECK(server->read(in, plain, out).end == ReadEnd::failed);
    CHECK_FALSE(server->write(plain, out));
    server->close(out);
    CHECK(out.size() == 7);
  }
}

TEST_CASE("hostile bytes at each stage end the handshake with an alert or leave it waiting") {
  std::mt19937 random(7);
  size_t failures = 0, alerts = 0;
  for (const bool tls13 : {true, false})
    for (int round = 0; round < 400; ++round) {
      Joined pair(client_context(), alpha(tls13));
      // Let the handshake run for some calls, then change one byte on one of the wires.
      const unsigned after = static_cast<unsigned>(round) % 4;
      for (unsigned call = 0; call < 8; ++call) {
        Wire& wire = call % 2 ? pair.up : pair.down;
        if (call >= after && !wire.bytes.empty()) {
          auto& byte = wire.bytes[random() % wire.bytes.size()];
          byte = static_cast<uint8_t>(byte ^ (1u << random() % 8));
        }
        auto& progress = call % 2 ? pair.server_progress : pair.client_progress;
        if (progress != Progress::want_input) continue;
        progress = call % 2 ? Joined::step(*pair.server, pair.up, pair.down, SIZE_MAX)
                            : Joined::step(*pair.client, pair.down, pair.up, SIZE_MAX);
        if (progress != Progress::failed) continue;
        ++failures;
        const Engine& engine = call % 2 ? *pair.server : *pair.client;
        CHECK(engine.failure() != Failure::none);
        CHECK(*engine.error() != '\0');
        alerts += engine.failure() == Failure::alert || !(call % 2 ? pair.down : pair.up).bytes.empty();
      }
    }
  CHECK(failures > 300);
  CHECK(alerts > failures * 9 / 10);  // a record header that makes no sense gets none
}

TEST_CASE("a client that talks in clear in the middle of a handshake is refused") {
  Joined pair(client_context(), alpha());
  Joined::step(*pair.client, pair.down, pair.up, SIZE_MAX);
  Joined::step(*pair.server, pair.up, pair.down, SIZE_MAX);
  const std::string_view noise = "a LOGIN alice secret\r\n";
  pair.up.bytes.assign(noise.begin(), noise.end());
  CHECK(Joined::step(*pair.server, pair.up, pair.down, SIZE_MAX) == Progress::failed);
  CHECK(pair.server->failure() == Failure::protocol);
}

TEST_CASE("key updates are answered, one after the other") {
  const auto server = Engine::server(alpha());
  RawClient client({.tls12 = false});
  REQUIRE(client.shake(*server));
  for (int i = 0; i < 30; ++i) REQUIRE(wolfSSL_update_keys(client.ssl.get()) == WOLFSSL_SUCCESS);
  REQUIRE(wolfSSL_write(client.ssl.get(), "after", 5) == 5);
  uint8_t plain[100];
  Outbox out;
  Input in{client.up.data(), client.up.size()};
  ReadResult got = server->read(in, plain, out);
  while (got.end == ReadEnd::full) got = server->read(in, plain, out);
  CHECK(std::string(plain, plain + got.bytes) == "after");
  CHECK(got.end == ReadEnd::want_input);
  CHECK(out.size() <= client.up.size());  // no amplification
  REQUIRE(server->write({plain, got.bytes}, out));
  client.down.insert(client.down.end(), out.bytes().begin(), out.bytes().end());
  std::string text;
  for (int i = 0; i < 100 && text.empty(); ++i) text = client.read();
  CHECK(text == "after");
  // Long records, which another library may encrypt, know of the new keys as well.
  const std::string much(9000, 'm');
  client.up.clear();
  REQUIRE(wolfSSL_write(client.ssl.get(), much.data(), 9000) == 9000);
  std::vector<uint8_t> room(10000);
  Outbox answer;
  in = {client.up.data(), client.up.size()};
  REQUIRE(server->read(in, room, answer).bytes == much.size());
  CHECK(std::equal(much.begin(), much.end(), room.begin()));
  REQUIRE(server->write({room.data(), much.size()}, answer));
  client.down.insert(client.down.end(), answer.bytes().begin(), answer.bytes().end());
  text = client.read();
  CHECK(text == much);
}

TEST_CASE("renegotiation in TLS 1.2 ends the conversation") {
  Joined pair(client_context(), alpha(false));
  REQUIRE(pair.shake());
  // A ClientHello in the clear where encrypted records belong.
  RawClient other({.tls13 = false});
  (void)wolfSSL_connect(other.ssl.get());
  pair.up.bytes = other.up;
  CHECK(pair.server_reads().end == ReadEnd::failed);
}

TEST_CASE("an idle conversation on the server costs at most 3.2 KB of heap") {
  const size_t nothing = mallinfo2().uordblks;
  const std::vector<char> something(50000);
  const bool counts = mallinfo2().uordblks > nothing;  // not under a sanitizer's allocator
  if (!counts || !library().bundled) return;
  for (const bool tls13 : {true, false}) {
    const auto context = alpha(tls13, ticket_keys());
    const auto client_side = client_context();
    constexpr size_t count = 200;
    std::vector<std::unique_ptr<Engine>> idle;
    idle.reserve(count);
    const auto serve = [&] {
      Joined pair(client_side, context);
      REQUIRE(pair.shake());
      REQUIRE(pair.client_writes(std::string(16000, 'x')));
      REQUIRE(pair.server_reads().text.size() == 16000);
      REQUIRE(pair.server_writes(std::string(16000, 'x')));
      return std::move(pair.server);
    };
    for (int i = 0; i < 20; ++i) serve();
    const size_t before = mallinfo2().uordblks;
    for (size_t i = 0; i < count; ++i) idle.push_back(serve());
    const size_t each = (mallinfo2().uordblks - before) / count;
    MESSAGE((tls13 ? "TLS 1.3: " : "TLS 1.2: "), each, " bytes");
    CHECK(each <= 3200);
    CHECK(each >= 2200);  // or the measurement is broken
  }
}

}  // namespace
}  // namespace postern::tls
