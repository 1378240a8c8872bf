// SPDX-License-Identifier: GPL-3.0-or-later
// The private power of RSA keys of 2048 bits by OpenSSL's libcrypto where the processor has AVX-512 IFMA:
// half the time wolfSSL needs. Internal to tls/. Without the library, on another processor or for another
// size of key wolfSSL goes on doing everything; padding and all else of a signature is wolfSSL's in any case.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "conf/secret.hpp"
#include "tls/wolfssl.hpp"

namespace postern::tls {

/// What wolfSSL knows it by.
inline constexpr int rsa_device = 2;

/// Who raises to these powers; empty: wolfSSL itself. The first call finds out, before there are threads.
std::string_view rsa_library();

/// One private key. Immutable: any thread may use it at any time.
class RsaPower {
 public:
  /// `key_pem`: a key that was found good (load_pair). Null: not for us.
  static std::unique_ptr<const RsaPower> make(const conf::Secret& key_pem);

  /// RFC 8017, 5.1.2 (RSADP), checked against faults by the public half. Both have the size of the modulus.
  [[nodiscard]] bool raise(std::span<const uint8_t> base, std::span<uint8_t> power) const;

  /// For a handshake under this key: wolfSSL will ask its device, and the device the key in use.
  static void offer(WOLFSSL* ssl);

  /// Whose key this thread's handshake is under, for the length of one call of an engine. Null: nobody's.
  class Use {
   public:
    explicit Use(const RsaPower* key);
    ~Use();
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
  };

  RsaPower(const RsaPower&) = delete;
  RsaPower& operator=(const RsaPower&) = delete;
  ~RsaPower();

 private:
  struct Key;
  explicit RsaPower(std::unique_ptr<const Key> key);
  std::unique_ptr<const Key> key_;
};

}  // namespace postern::tls
