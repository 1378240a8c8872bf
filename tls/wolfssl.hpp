// SPDX-License-Identifier: GPL-3.0-or-later
// wolfSSL's headers with the settings the library was built with, and owners for what it hands out.
// Internal to tls/: no header outside this folder includes it.
#pragma once

#ifndef POSTERN_WOLFSSL_BUNDLED
#include <wolfssl/options.h>
#endif
#include <wolfssl/ssl.h>
#include <wolfssl/wolfcrypt/aes.h>
#include <wolfssl/wolfcrypt/asn_public.h>
#include <wolfssl/wolfcrypt/ecc.h>
#include <wolfssl/wolfcrypt/hash.h>
#include <wolfssl/wolfcrypt/poly1305.h>
#include <wolfssl/wolfcrypt/random.h>
#include <wolfssl/wolfcrypt/rsa.h>
#include <wolfssl/wolfcrypt/sha256.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#ifdef POSTERN_WOLFSSL_BUNDLED  // parts of our build of the library
#include <postern_conversation.h>

extern "C" void postern_forget_extensions(WOLFSSL* ssl);
extern "C" unsigned postern_signature(const WOLFSSL* ssl);
extern "C" void postern_use_device(WOLFSSL* ssl, int device);
extern "C" unsigned postern_open_record(WOLFSSL* ssl, const unsigned char* record, unsigned size,
                                        unsigned char* plain, unsigned room);
extern "C" unsigned postern_seal_record(WOLFSSL* ssl, const unsigned char* plain, unsigned size,
                                        unsigned char* record,
                                        int (*sealer)(Aes* key, const unsigned char* nonce,
                                                      const unsigned char* plain, unsigned size,
                                                      unsigned char* record));
#endif

namespace postern::tls {

#ifdef POSTERN_WOLFSSL_BUNDLED
using Conversation = ::postern_conversation;
#else
/// What a machine's own library has no use for: it sends the alerts it knows of, answers any number of key
/// updates, and ends a handshake with early data.
struct Conversation {
  unsigned early_left = 0;
  unsigned char updates = 0, unanswered = 0, flood = 0;
};
inline void postern_forget(Conversation* /*conversation*/) {}
inline void postern_alert(WOLFSSL* /*ssl*/, int /*alert*/) {}
inline unsigned postern_signature(const WOLFSSL* /*ssl*/) { return 0; }
enum { postern_no_flood, postern_too_often, postern_most_unanswered = 3 };
#endif

struct ContextFree {
  void operator()(WOLFSSL_CTX* context) const { wolfSSL_CTX_free(context); }
};
using ContextHandle = std::unique_ptr<WOLFSSL_CTX, ContextFree>;

struct SslFree {
  void operator()(WOLFSSL* ssl) const { wolfSSL_free(ssl); }
};
using SslHandle = std::unique_ptr<WOLFSSL, SslFree>;

inline std::array<uint8_t, 32> sha256(std::span<const uint8_t> bytes) {
  std::array<uint8_t, 32> digest{};
  wc_Sha256Hash(bytes.data(), static_cast<word32>(bytes.size()), digest.data());
  return digest;
}

}  // namespace postern::tls
