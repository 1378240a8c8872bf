// SPDX-License-Identifier: GPL-3.0-or-later
// The other library raises to the same powers as wolfSSL, and only where it was asked to; where it is not
// used, wolfSSL signs.
#include "tls/rsa_power.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "test/unit/tls/pair.hpp"
#include "tls/context.hpp"
#include "tls/library.hpp"
#include "tls/pem.hpp"

namespace postern::tls {
namespace {

using Bytes = std::vector<uint8_t>;
constexpr size_t modulus_size = 256;

conf::Secret key_text(const std::string& file) { return conf::Secret(slurp(pki(file))); }

/// Less than any modulus of 2048 bits.
Bytes base(unsigned seed) {
  Bytes result(modulus_size);
  for (uint8_t& byte : result) byte = static_cast<uint8_t>((seed = seed * 1103515245 + 12345) >> 16);
  result.front() &= 0x7f;
  return result;
}

/// The key as wolfSSL holds it.
class Key {
 public:
  Key(const std::string& file, int device) {
    const auto text = key_text(file);
    const auto der = pem_bytes(pem_blocks(text.reveal()).front());
    word32 at = 0;
    REQUIRE(wc_InitRsaKey_ex(&key_, nullptr, device) == 0);
    REQUIRE(wc_InitRng(&random_) == 0);
    REQUIRE(wc_RsaPrivateKeyDecode(der->data(), &at, &key_, static_cast<word32>(der->size())) == 0);
    REQUIRE(wc_RsaSetRNG(&key_, &random_) == 0);
  }
  ~Key() {
    wc_FreeRsaKey(&key_);
    wc_FreeRng(&random_);
  }
  Key(const Key&) = delete;
  Key& operator=(const Key&) = delete;

  Bytes raise(const Bytes& from, int type = RSA_PRIVATE_ENCRYPT) {
    Bytes power(modulus_size);
    word32 size = modulus_size;
    const int result = wc_RsaFunction(from.data(), static_cast<word32>(from.size()), power.data(), &size,
                                      type, &key_, &random_);
    CHECK(result == 0);
    power.resize(result == 0 ? size : 0);
    return power;
  }

 private:
  RsaKey key_{};
  WC_RNG random_{};
};

TEST_CASE("both libraries raise to the same power, from either form of a key") {
  init();
  for (const char* file : {"both-rsa.key", "pkcs1.key"}) {
    CAPTURE(file);
    const auto ours = RsaPower::make(key_text(file));
    CHECK(bool(ours) == !rsa_library().empty());
    if (!ours) continue;
    Key theirs(file, INVALID_DEVID), asks(file, rsa_device);
    const RsaPower::Use use(ours.get());
    for (unsigned seed = 1; seed <= 20; ++seed) {
      const Bytes from = base(seed);
      Bytes power(modulus_size);
      REQUIRE(ours->raise(from, power));
      REQUIRE(power == theirs.raise(from));
      REQUIRE(power == asks.raise(from));
      REQUIRE(asks.raise(power, RSA_PUBLIC_DECRYPT) == from);  // which is not for the device
    }
  }
}

TEST_CASE("what is no number of the key's, or has no room, is refused and leaves the thread as it was") {
  init();
  const auto ours = RsaPower::make(key_text("both-rsa.key"));
  if (!ours) return;
  Bytes power(modulus_size), from = base(1);
  CHECK_FALSE(ours->raise(Bytes(modulus_size, 0xff), power));  // no less than the modulus
  CHECK_FALSE(ours->raise(Bytes(modulus_size - 1, 1), power));
  CHECK_FALSE(ours->raise(Bytes(modulus_size + 1, 1), power));
  CHECK_FALSE(ours->raise({}, power));
  CHECK_FALSE(ours->raise(from, std::span(power).first(modulus_size - 1)));
  CHECK(ours->raise(from, power));
}

TEST_CASE("keys of other kinds and sizes, and what is no key, are left to wolfSSL") {
  init();
  for (const char* file :
       {"rsa3072.key", "rsa1024.key", "alpha.key", "sec1.key", "ed25519.key", "both-rsa.crt"})
    CHECK_MESSAGE(!RsaPower::make(key_text(file)), file);
  CHECK_FALSE(RsaPower::make(conf::Secret()));
  const std::string good(key_text("both-rsa.key").reveal());
  const auto der = pem_bytes(pem_blocks(good).front());
  for (size_t size = 0; size < der->size(); size += 7)
    CHECK_FALSE(RsaPower::make(conf::Secret(pem_text("PRIVATE KEY", std::span(*der).first(size)))));
}

TEST_CASE("wolfSSL signs itself when no key is in use, or another kind of operation is asked for") {
  init();
  Key asks("both-rsa.key", rsa_device), theirs("both-rsa.key", INVALID_DEVID);
  const Bytes from = base(3);
  const Bytes expected = theirs.raise(from);
  CHECK(asks.raise(from) == expected);
  {
    const RsaPower::Use nobody(nullptr);
    CHECK(asks.raise(from) == expected);
  }
  const auto ours = RsaPower::make(key_text("both-rsa.key"));
  const RsaPower::Use use(ours.get());
  CHECK(asks.raise(from, RSA_PRIVATE_DECRYPT) == expected);
}

TEST_CASE(
    "handshakes under an RSA key, with every version and group, in turns with others, and what follows") {
  const auto store = store_of({entry("both-rsa", true), entry("alpha")});
  const auto keys = ticket_keys();
  const auto client = client_context();
  const std::string chat = "hello", bulk(40000, 'x');
  for (const bool tls13 : {true, false})
    for (const conf::Group group : default_policy().groups) {
      if (!tls13 && group == conf::Group::x25519mlkem768) continue;
      auto policy = default_policy();
      policy.tls13 = tls13;
      policy.tls12 = !tls13;
      policy.groups = {group};
      if (known_groups(policy.groups).empty()) continue;  // an old library has no hybrid
      const auto server = server_context(policy, store, keys);
      std::unique_ptr<Resumption> saved;
      for (int turn = 0; turn < 3; ++turn)
        for (const char* name : {"both.test", "alpha.test"}) {
          CAPTURE(name);
          Joined pair(client, server, name, turn == 2 && name[0] == 'b' ? saved.get() : nullptr);
          REQUIRE(pair.shake());
          CHECK(pair.server->facts().version == (tls13 ? "TLSv1.3" : "TLSv1.2"));
          for (const std::string& text : {chat, bulk, chat}) {
            REQUIRE(pair.server_writes(text));
            CHECK(pair.client_reads().text == text);
            REQUIRE(pair.client_writes(text));
            CHECK(pair.server_reads().text == text);
          }
          if (name[0] == 'b') saved = left_by(*pair.client);
        }
    }
}

TEST_CASE("threads share a key") {
  init();
  const auto ours = RsaPower::make(key_text("both-rsa.key"));
  if (!ours) return;
  Key theirs("both-rsa.key", INVALID_DEVID);
  std::vector<Bytes> expected;
  for (unsigned seed = 0; seed < 16; ++seed) expected.push_back(theirs.raise(base(seed)));
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < 3; ++i)
    threads.emplace_back([&, i] {
      for (unsigned n = 0; n < 64; ++n) {
        const unsigned seed = (n + i) % 16;
        Bytes power(modulus_size);
        wrong += !ours->raise(base(seed), power) || power != expected[seed];
      }
    });
  for (auto& thread : threads) thread.join();
  CHECK(wrong == 0);
}

}  // namespace
}  // namespace postern::tls
