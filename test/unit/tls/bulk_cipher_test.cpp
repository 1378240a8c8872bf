// SPDX-License-Identifier: GPL-3.0-or-later
// The other library does exactly what wolfSSL does, bit by bit; where it is not used, there is nothing to
// test.
#include "tls/bulk_cipher.hpp"

#include <doctest/doctest.h>

#include <numeric>
#include <vector>

#include "test/unit/tls/pair.hpp"
#include "tls/context.hpp"

namespace postern::tls {
namespace {

using Bytes = std::vector<uint8_t>;

Bytes bytes(size_t size, unsigned seed) {
  Bytes result(size);
  for (uint8_t& byte : result) byte = static_cast<uint8_t>((seed = seed * 1103515245 + 12345) >> 16);
  return result;
}

class Key {
 public:
  Key(const Bytes& raw, int device) {
    REQUIRE(wc_AesInit(&aes_, nullptr, device) == 0);
    REQUIRE(wc_AesGcmSetKey(&aes_, raw.data(), static_cast<word32>(raw.size())) == 0);
  }
  ~Key() { wc_AesFree(&aes_); }
  Key(const Key&) = delete;
  Key& operator=(const Key&) = delete;

  /// The ciphertext with the tag behind it.
  Bytes seal(Bytes plain, const Bytes& nonce, const Bytes& header) {
    const BulkKeys scope;
    const size_t size = plain.size();
    plain.resize(size + 16);
    REQUIRE(wc_AesGcmEncrypt(&aes_, plain.data(), plain.data(), static_cast<word32>(size), nonce.data(),
                             static_cast<word32>(nonce.size()), plain.data() + size, 16, header.data(),
                             static_cast<word32>(header.size())) == 0);
    return plain;
  }
  /// In place; the tag stays behind it.
  int open(Bytes& sealed, const Bytes& nonce, const Bytes& header) {
    const BulkKeys scope;
    const size_t size = sealed.size() - 16;
    return wc_AesGcmDecrypt(&aes_, sealed.data(), sealed.data(), static_cast<word32>(size), nonce.data(),
                            static_cast<word32>(nonce.size()), sealed.data() + size, 16, header.data(),
                            static_cast<word32>(header.size()));
  }

 private:
  Aes aes_{};
};

void start() { init(); }

TEST_CASE("both libraries make the same of every length") {
  start();
  if (bulk_cipher().empty()) return;
  std::vector<size_t> sizes(1300);
  std::iota(sizes.begin(), sizes.end(), size_t{1000});
  for (const size_t size : {1, 15, 16, 17, 255, 999, 4096, 8191, 16383, 16384, 16385, 16401})
    sizes.push_back(size);
  for (const size_t key_size : {16, 32})
    for (const size_t size : sizes) {
      CAPTURE(key_size);
      CAPTURE(size);
      const auto seed = static_cast<unsigned>(size * key_size);
      const Bytes raw = bytes(key_size, seed), nonce = bytes(12, seed + 1), plain = bytes(size, seed + 2);
      const Bytes header = bytes(size % 3 == 0 ? 5 : 13, seed + 3);  // as in TLS 1.3 and 1.2
      Key ours(raw, bulk_device), theirs(raw, INVALID_DEVID);
      Bytes sealed = ours.seal(plain, nonce, header), other = theirs.seal(plain, nonce, header);
      REQUIRE(sealed == other);
      REQUIRE(theirs.open(sealed, nonce, header) == 0);
      REQUIRE(ours.open(other, nonce, header) == 0);
      REQUIRE(std::equal(plain.begin(), plain.end(), sealed.begin()));
      REQUIRE(std::equal(plain.begin(), plain.end(), other.begin()));
    }
}

TEST_CASE("a changed bit is found wherever it is, and what was decrypted is not shown") {
  start();
  if (bulk_cipher().empty()) return;
  const Bytes raw = bytes(32, 1), nonce = bytes(12, 2), header = bytes(5, 3), plain = bytes(3000, 4);
  Key key(raw, bulk_device);
  const Bytes sealed = key.seal(plain, nonce, header);
  for (size_t at = 0; at < sealed.size(); ++at) {
    CAPTURE(at);
    Bytes changed = sealed;
    changed[at] ^= static_cast<uint8_t>(1U << (at % 8));
    REQUIRE(key.open(changed, nonce, header) == AES_GCM_AUTH_E);
    REQUIRE(std::all_of(changed.begin(), changed.end() - 16, [](uint8_t byte) { return byte == 0; }));
  }
  Bytes whole = sealed, other_header = header, other_nonce = nonce;
  other_header[0] ^= 1;
  other_nonce[11] ^= 1;
  CHECK(key.open(whole, nonce, other_header) == AES_GCM_AUTH_E);
  whole = sealed;
  CHECK(key.open(whole, other_nonce, header) == AES_GCM_AUTH_E);
}

TEST_CASE("two keys in turns do not get into each other's way") {
  start();
  if (bulk_cipher().empty()) return;
  const Bytes nonce = bytes(12, 2), header = bytes(5, 3), plain = bytes(2000, 4);
  const Bytes short_key = bytes(16, 7);
  Bytes long_key = short_key;  // begins like the other
  long_key.resize(32);
  Key a(short_key, bulk_device), b(long_key, bulk_device);
  Key plain_a(short_key, INVALID_DEVID), plain_b(long_key, INVALID_DEVID);
  const BulkKeys scope;
  for (int turn = 0; turn < 3; ++turn) {
    CHECK(a.seal(plain, nonce, header) == plain_a.seal(plain, nonce, header));
    CHECK(b.seal(plain, nonce, header) == plain_b.seal(plain, nonce, header));
  }
}

}  // namespace
}  // namespace postern::tls
