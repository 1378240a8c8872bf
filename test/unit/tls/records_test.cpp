// SPDX-License-Identifier: GPL-3.0-or-later
// Records pass by the library's buffers, and nobody can tell: a bare library is the peer, and sends what only
// an odd or a hostile peer would.
#include "tls/records.hpp"

#include <doctest/doctest.h>

#include <cstdlib>

#include "test/unit/tls/raw_client.hpp"

namespace postern::tls {
namespace {

std::shared_ptr<const ServerContext> alpha() {
  static const auto context = server_context(default_policy(), store_of({entry("alpha", true)}));
  return context;
}

std::string noise(size_t size) {
  std::string text(size, '\0');
  auto seed = static_cast<unsigned>(size);
  for (char& byte : text) byte = static_cast<char>((seed = seed * 1103515245 + 12345) >> 16);
  return text;
}

/// A server's engine and a bare client that shook hands.
struct Talk {
  RawClient client;
  std::unique_ptr<Engine> server = Engine::server(alpha());
  Outbox out;

  explicit Talk(const char* suites = nullptr, bool tls13 = true)
      : client(tls13 ? RawOffer{.suites = suites, .tls12 = false}
                     : RawOffer{.suites = suites, .tls13 = false}) {
    REQUIRE(client.shake(*server));
    client.up.clear();
  }
  void say(const std::string& text) {
    REQUIRE(wolfSSL_write(client.ssl.get(), text.data(), static_cast<int>(text.size())) ==
            static_cast<int>(text.size()));
  }
  /// Everything on the way to the server, in pieces of `piece` bytes, into a buffer of `room`.
  std::string hear(ReadEnd& end, size_t piece = SIZE_MAX, size_t room = 150000) {
    std::string text;
    std::vector<uint8_t> plain(room);
    end = ReadEnd::want_input;
    for (size_t at = 0; at < client.up.size() && end == ReadEnd::want_input;) {
      Input in{client.up.data() + at, std::min(piece, client.up.size() - at)};
      at += in.size;
      do {
        const ReadResult got = server->read(in, plain, out);
        text.append(plain.data(), plain.data() + got.bytes);
        end = got.end;
      } while (end == ReadEnd::full);
    }
    client.up.clear();
    return text;
  }
  std::string hear() {
    ReadEnd end = ReadEnd::failed;
    std::string text = hear(end);
    CHECK(end == ReadEnd::want_input);
    return text;
  }
  void answer(const std::string& text) {
    REQUIRE(server->write({reinterpret_cast<const uint8_t*>(text.data()), text.size()}, out));
    client.down.insert(client.down.end(), out.bytes().begin(), out.bytes().end());
    out.clear();
  }
  std::string take(size_t size) {
    std::string text;
    while (text.size() < size) {
      const std::string more = client.read();
      REQUIRE(!more.empty());
      text += more;
    }
    return text;
  }
#ifdef POSTERN_WOLFSSL_BUNDLED
  /// A record of the client's whose inside, type of content and padding included, is the test's.
  void send_inside(const std::string& inside) {
    std::vector<uint8_t> record(inside.size() + 21);
    const auto as_it_is = [](Aes* key, const uint8_t* nonce, const uint8_t* plain, unsigned size,
                             uint8_t* to) {
      ++size;  // the inside's own last byte instead of the usual type
      return wc_AesGcmEncrypt(key, to + 5, plain, size, nonce, 12, to + 5 + size, 16, to, 5);
    };
    const auto size = static_cast<unsigned>(inside.size() - 1);
    REQUIRE(postern_seal_record(client.ssl.get(), reinterpret_cast<const uint8_t*>(inside.data()), size,
                                record.data(), as_it_is) == size);
    client.up.insert(client.up.end(), record.begin(), record.end());
  }
#endif
};

const char* const suites[] = {"TLS13-AES256-GCM-SHA384", "TLS13-AES128-GCM-SHA256",
                              "TLS13-CHACHA20-POLY1305-SHA256"};

TEST_CASE("every length arrives whole both ways, with each suite") {
  for (const char* suite : suites) {
    CAPTURE(suite);
    Talk talk(suite);
    for (const size_t size :
         {1, 1000, 1001, 1002, 1003, 1023, 1024, 1025, 4096, 16383, 16384, 16385, 17408, 40000, 131072}) {
      CAPTURE(size);
      const std::string text = noise(size);
      talk.say(text);
      REQUIRE(talk.hear() == text);
      talk.answer(text);
      REQUIRE(talk.take(size) == text);
    }
  }
}

TEST_CASE("records are taken alike wherever the stream is cut, and into whatever room") {
  Talk talk;
  for (const size_t piece : {1, 7, 1023, 1024, 1400, 16384, 16405, 16406, 16407, 50000})
    for (const size_t room : {100, 16384, 16385, 16405, 150000}) {
      CAPTURE(piece);
      CAPTURE(room);
      const std::string text = noise(piece < 1000 ? 2000 : 70000);
      ReadEnd end = ReadEnd::failed;
      talk.say(text);
      REQUIRE(talk.hear(end, piece, room) == text);
      REQUIRE(end == ReadEnd::want_input);
    }
}

TEST_CASE("a client's engine takes them behind the tickets, and resumes with what it was given") {
  Joined pair(client_context(), server_context(default_policy(), store_of({entry("alpha")}), ticket_keys()));
  REQUIRE(pair.shake(1));
  const std::string text = noise(70000);
  CHECK(pair.server_writes(text));
  CHECK(pair.client_reads(1400).text == text);
  CHECK(pair.client_writes(text));
  CHECK(pair.server_reads(1400).text == text);
  CHECK(left_by(*pair.client));
}

TEST_CASE("TLS 1.2 goes on as ever") {
  Talk talk("ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384", false);
  const std::string text = noise(70000);
  talk.say(text);
  CHECK(talk.hear() == text);
  talk.answer(text);
  CHECK(talk.take(text.size()) == text);
}

TEST_CASE("long and short records, and key updates of both sides between them, keep their order") {
  Talk talk;
  std::string all;
  for (int round = 0; round < 50; ++round) {
    const std::string text = noise(round % 3 == 0 ? 100 : 3000) + noise(static_cast<size_t>(round) * 100 + 1);
    talk.say(text);
    all += text;
    if (round % 7 == 3) REQUIRE(wolfSSL_update_keys(talk.client.ssl.get()) == WOLFSSL_SUCCESS);
  }
  CHECK(talk.hear() == all);
  talk.answer(all);  // behind the answers to the updates
  CHECK(talk.take(all.size()) == all);
}

#ifdef POSTERN_WOLFSSL_BUNDLED

TEST_CASE("padding is no part of the data") {
  Talk talk;
  const std::string text = noise(2000);
  for (const size_t padding : {0, 1, 15, 1000, 14000}) {
    CAPTURE(padding);
    talk.send_inside(text + '\x17' + std::string(padding, '\0'));
    CHECK(talk.hear() == text);
  }
  // Data may end in zeros, too.
  talk.send_inside(std::string(1500, '\0') + '\x17' + std::string(20, '\0'));
  CHECK(talk.hear() == std::string(1500, '\0'));
  talk.send_inside(std::string(16384, 'x') + '\x17');
  CHECK(talk.hear() == std::string(16384, 'x'));
}

TEST_CASE("what is not data is the library's to judge, padded as it may be") {
  const std::string padding(2000, '\0');
  ReadEnd end = ReadEnd::want_input;
  SUBCASE("a close_notify") {
    Talk talk;
    talk.send_inside(std::string("\x01\x00\x15", 3) + padding);
    CHECK(talk.hear(end).empty());
    CHECK(end == ReadEnd::closed);
  }
  SUBCASE("a fatal alert") {
    Talk talk;
    talk.send_inside(std::string("\x02\x28\x15", 3) + padding);
    CHECK(talk.hear(end).empty());
    CHECK(end == ReadEnd::failed);
    CHECK(talk.server->failure() == Failure::alert);
  }
  SUBCASE("a handshake message that has no place here") {
    Talk talk;
    talk.send_inside(noise(2000) + '\x16');
    CHECK(talk.hear(end).empty());
    CHECK(end == ReadEnd::failed);
    CHECK(!talk.out.empty());
  }
  SUBCASE("nothing but zeros") {
    Talk talk;
    talk.send_inside(padding);
    CHECK(talk.hear(end).empty());
    CHECK(end == ReadEnd::failed);
  }
  SUBCASE("an unknown type") {
    Talk talk;
    talk.send_inside(noise(2000) + '\x42');
    CHECK(talk.hear(end).empty());
    CHECK(end == ReadEnd::failed);
  }
  SUBCASE("no data in much padding, again and again") {
    Talk talk;
    for (int i = 0; i < 100; ++i) talk.send_inside('\x17' + padding);
    CHECK(talk.hear(end).empty());
    CHECK(end == ReadEnd::failed);  // nobody has a reason for that many
  }
  SUBCASE("no data in much padding now and then is nothing bad") {
    Talk talk;
    std::string all;
    for (int i = 0; i < 100; ++i) {
      talk.send_inside('\x17' + padding);
      talk.say(noise(1500));
      all += noise(1500);
    }
    CHECK(talk.hear() == all);
  }
  SUBCASE("more than a record may hold") {
    Talk talk;
    std::vector<uint8_t> record(5 + 16500, 'r');
    record[0] = 23, record[1] = 3, record[2] = 3, record[3] = 16500 >> 8, record[4] = 16500 & 0xff;
    talk.client.up = record;
    CHECK(talk.hear(end).empty());
    CHECK(end == ReadEnd::failed);
  }
}

#endif

void change_a_bit(size_t size, size_t at) {
  CAPTURE(size);
  CAPTURE(at);
  Talk talk;
  talk.say(noise(size));
  REQUIRE(talk.client.up.size() == size + 22);
  talk.client.up[at] ^= 0x10;
  ReadEnd end = ReadEnd::want_input;
  CHECK(talk.hear(end).empty());
  if (at == 3 || at == 4) return;  // a length: more is waited for, or less is judged
  CHECK(end == ReadEnd::failed);
  CHECK(!talk.out.empty());
  uint8_t byte = 'x';
  CHECK(!talk.server->write({&byte, 1}, talk.out));
}

TEST_CASE("a changed bit anywhere in a record, short or long, is fatal, with an alert, and shows nothing") {
  for (size_t at = 0; at < 24; ++at) change_a_bit(2, at);
  for (size_t at = 0; at < 1522; at += at < 8 ? 1 : 97) change_a_bit(1500, at);
}

TEST_CASE("a record that is too short for a tag is no data") {
  for (uint8_t length = 0; length < 18; ++length) {
    CAPTURE(length);
    Talk talk;
    talk.client.up = {23, 3, 3, 0, length};
    talk.client.up.resize(64, 'x');
    ReadEnd end = ReadEnd::want_input;
    CHECK(talk.hear(end).empty());
    CHECK(end == ReadEnd::failed);
  }
}

TEST_CASE("after a close_notify nothing is written, long or short") {
  Talk talk;
  talk.server->close(talk.out);
  const std::string text = noise(5000);
  CHECK(!talk.server->write({reinterpret_cast<const uint8_t*>(text.data()), text.size()}, talk.out));
}

TEST_CASE("many records under one key, and a change of keys behind them") {
  // With POSTERN_TEST_RECORDS=24500000, half a minute and more, past 2^24.5: then the keys were changed
  // before they had sealed too much.
  const char* asked = std::getenv("POSTERN_TEST_RECORDS");
  const unsigned long records = asked ? std::strtoul(asked, nullptr, 10) : 20'000;
  Talk talk;
  const std::string text = noise(1100);
  for (unsigned long record = 0; record < records; ++record) {
    talk.answer(text);
    REQUIRE(talk.take(text.size()) == text);
  }
  REQUIRE(wolfSSL_update_keys(talk.client.ssl.get()) == WOLFSSL_SUCCESS);
  talk.say(text);
  CHECK(talk.hear() == text);
}

}  // namespace
}  // namespace postern::tls
