// SPDX-License-Identifier: GPL-3.0-or-later
// AES-GCM of long records by a faster library where the processor has wide AES instructions (VAES). Internal
// to tls/. Without the library, or on another processor, wolfSSL goes on doing everything.
#pragma once

#include <string_view>

#include "tls/wolfssl.hpp"

namespace postern::tls {

/// What wolfSSL knows it by.
inline constexpr int bulk_device = 1;

/// Preparing a key costs as much as encrypting 1,300 bytes; below this wolfSSL is as fast or faster.
inline constexpr size_t bulk_enough = 1024;

/// Who encrypts long records; empty: wolfSSL itself. The first call finds out, before there are threads.
std::string_view bulk_cipher();
/// From now on the long records of this conversation go there. Only when its handshake is over.
void use_bulk_cipher(WOLFSSL* ssl);

/// Encrypts a record of TLS 1.3 from elsewhere into its place; for postern_seal_record. Null: nobody is
/// faster.
using SealRecord = int (*)(Aes* key, const unsigned char* nonce, const unsigned char* plain, unsigned size,
                           unsigned char* record);
SealRecord bulk_sealer();

/// Prepared keys are kept between the records of one call of an engine, no longer.
class BulkKeys {
 public:
  BulkKeys() = default;
  ~BulkKeys();
  BulkKeys(const BulkKeys&) = delete;
  BulkKeys& operator=(const BulkKeys&) = delete;
};

}  // namespace postern::tls
