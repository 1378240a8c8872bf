// SPDX-License-Identifier: GPL-3.0-or-later
// wolfSSL asks a "device" before each operation; ours takes AES-GCM of some length and leaves the rest.
// The figures behind the choice are in test/bench/NOTES.md.
#include "tls/bulk_cipher.hpp"

#if defined(POSTERN_IPSEC_MB) && defined(WOLF_CRYPTO_CB)
#include <intel-ipsec-mb.h>
#include <wolfssl/wolfcrypt/cryptocb.h>
#include <wolfssl/wolfcrypt/error-crypt.h>

#include <cstring>

#include "conf/secret.hpp"
#endif

namespace postern::tls {

#if defined(POSTERN_IPSEC_MB) && defined(WOLF_CRYPTO_CB)
namespace {

constexpr size_t nonce_size = 12, tag_size = 16, record_header = 5;

/// One key size's functions. All are pure: the library's manager is only a table of them.
struct Functions {
  aes_gcm_pre_t prepare = nullptr;
  aes_gcm_enc_dec_t encrypt = nullptr;
  aes_gcm_enc_dec_t decrypt = nullptr;
  aes_gcm_init_t begin = nullptr;
  aes_gcm_enc_dec_update_t go_on = nullptr;
  aes_gcm_enc_dec_finalize_t end = nullptr;
};
Functions aes128, aes256;  // set once by find()

/// The key that was used last on this thread, ready for use.
struct Prepared {
  alignas(64) gcm_key_data key;  // which the header asks for on some systems only
  uint8_t raw[32];
  size_t size = 0;  // 0: none

  const gcm_key_data* of(const Functions& functions, const Aes& wanted) {
    if (const auto wanted_size = static_cast<size_t>(wanted.keylen);
        size != wanted_size || std::memcmp(raw, wanted.devKey, size) != 0) {
      functions.prepare(wanted.devKey, &key);
      std::memcpy(raw, wanted.devKey, wanted_size);
      size = wanted_size;
    }
    return &key;
  }
  void forget() {
    if (size != 0) conf::wipe(this, sizeof *this);
  }
};
thread_local Prepared prepared;

/// Null: not for us. Both directions come here.
template <class Job>
const Functions* functions_for(const Job& job) {
  if (job.sz < bulk_enough || job.ivSz != nonce_size || job.authTagSz != tag_size) return nullptr;
  return job.aes->keylen == 32 ? &aes256 : job.aes->keylen == 16 ? &aes128 : nullptr;
}

bool same(const uint8_t* a, const uint8_t* b, size_t size) {
  unsigned difference = 0;
  for (size_t i = 0; i < size; ++i) difference |= static_cast<unsigned>(a[i] ^ b[i]);
  return difference == 0;
}

int encrypt(const wc_CryptoCb_AesAuthEnc& job) {
  const Functions* functions = functions_for(job);
  if (!functions) return CRYPTOCB_UNAVAILABLE;
  alignas(64) gcm_context_data scratch;
  functions->encrypt(prepared.of(*functions, *job.aes), &scratch, job.out, job.in, job.sz, job.iv, job.authIn,
                     job.authInSz, job.authTag, tag_size);
  conf::wipe(&scratch, sizeof scratch);
  return 0;
}

int decrypt(const wc_CryptoCb_AesAuthDec& job) {
  const Functions* functions = functions_for(job);
  if (!functions) return CRYPTOCB_UNAVAILABLE;
  alignas(64) gcm_context_data scratch;
  uint8_t tag[tag_size];
  functions->decrypt(prepared.of(*functions, *job.aes), &scratch, job.out, job.in, job.sz, job.iv, job.authIn,
                     job.authInSz, tag, tag_size);
  conf::wipe(&scratch, sizeof scratch);
  if (same(tag, job.authTag, tag_size)) return 0;
  conf::wipe(job.out, job.sz);  // what nobody vouches for must not be seen
  return AES_GCM_AUTH_E;
}

int offer(int /*device*/, wc_CryptoInfo* info, void* /*user*/) {
  if (info->algo_type != WC_ALGO_TYPE_CIPHER || info->cipher.type != WC_CIPHER_AES_GCM)
    return CRYPTOCB_UNAVAILABLE;
  return info->cipher.enc ? encrypt(info->cipher.aesgcm_enc) : decrypt(info->cipher.aesgcm_dec);
}

/// RFC 8446, 5.2: the plaintext and the type of content, which do not lie together.
int seal(Aes* wanted, const unsigned char* nonce, const unsigned char* plain, unsigned size,
         unsigned char* record) {
  if (wanted->devId != bulk_device) return NOT_COMPILED_IN;  // whose key is not at hand
  const Functions& functions = wanted->keylen == 32 ? aes256 : aes128;
  const gcm_key_data* key = prepared.of(functions, *wanted);
  constexpr uint8_t type = 23;
  uint8_t* body = record + record_header;
  alignas(64) gcm_context_data scratch;
  functions.begin(key, &scratch, nonce, record, record_header);
  functions.go_on(key, &scratch, body, plain, size);
  functions.go_on(key, &scratch, body + size, &type, 1);
  functions.end(key, &scratch, body + size + 1, tag_size);
  conf::wipe(&scratch, sizeof scratch);
  return 0;
}

bool find() {
  IMB_MGR* table = alloc_mb_mgr(0);
  if (!table) return false;
  bool available = false;
  init_mb_mgr_auto(table, nullptr);
  constexpr uint64_t wide = IMB_CPUFLAGS_AVX512_T2;  // what the library wants for its code with VAES
  if (imb_get_errno(table) == 0 && (table->features & wide) == wide) {
    aes128 = {table->gcm128_pre,  table->gcm128_enc,        table->gcm128_dec,
              table->gcm128_init, table->gcm128_enc_update, table->gcm128_enc_finalize};
    aes256 = {table->gcm256_pre,  table->gcm256_enc,        table->gcm256_dec,
              table->gcm256_init, table->gcm256_enc_update, table->gcm256_enc_finalize};
    available = wc_CryptoCb_RegisterDevice(bulk_device, offer, nullptr) == 0;
  }
  free_mb_mgr(table);
  return available;
}

}  // namespace

std::string_view bulk_cipher() {
  static const bool available = find();
  return available ? imb_get_version_str() : "";
}

void use_bulk_cipher(WOLFSSL* ssl) {
  if (!bulk_cipher().empty()) postern_use_device(ssl, bulk_device);
}

SealRecord bulk_sealer() { return bulk_cipher().empty() ? nullptr : seal; }

BulkKeys::~BulkKeys() { prepared.forget(); }

#else

std::string_view bulk_cipher() { return {}; }
void use_bulk_cipher(WOLFSSL* /*ssl*/) {}
SealRecord bulk_sealer() { return nullptr; }
BulkKeys::~BulkKeys() = default;

#endif

}  // namespace postern::tls
