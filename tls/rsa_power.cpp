// SPDX-License-Identifier: GPL-3.0-or-later
// The figures behind the choice are in test/bench/NOTES.md.
#include "tls/rsa_power.hpp"

#ifdef POSTERN_LIBCRYPTO
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <wolfssl/wolfcrypt/cryptocb.h>
#include <wolfssl/wolfcrypt/error-crypt.h>

#include <array>

#include "tls/der.hpp"
#include "tls/pem.hpp"
#endif

namespace postern::tls {

#ifdef POSTERN_LIBCRYPTO
namespace {

template <auto free>
struct Free {
  template <class T>
  void operator()(T* object) const {
    free(object);
  }
};
using Number = std::unique_ptr<BIGNUM, Free<BN_clear_free>>;
using Builder = std::unique_ptr<OSSL_PARAM_BLD, Free<OSSL_PARAM_BLD_free>>;
using Parameters = std::unique_ptr<OSSL_PARAM, Free<OSSL_PARAM_free>>;
using Operation = std::unique_ptr<EVP_PKEY_CTX, Free<EVP_PKEY_CTX_free>>;
using KeyHandle = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;

constexpr size_t modulus_size = 2048 / 8;
constexpr uint8_t integer = 0x02, octets = 0x04, sequence = 0x30;

thread_local const RsaPower* in_use = nullptr;

int answer(int /*device*/, wc_CryptoInfo* info, void* /*user*/) {
  if (info->algo_type != WC_ALGO_TYPE_PK || info->pk.type != WC_PK_TYPE_RSA || !in_use)
    return CRYPTOCB_UNAVAILABLE;
  const auto& job = info->pk.rsa;
  if (job.type != RSA_PRIVATE_ENCRYPT || *job.outLen < modulus_size ||
      !in_use->raise({job.in, job.inLen}, {job.out, modulus_size}))
    return CRYPTOCB_UNAVAILABLE;
  *job.outLen = modulus_size;
  return 0;
}

bool find() {
#ifdef __x86_64__
  // OpenSSL's own condition: without these both libraries need the same time.
  if (!__builtin_cpu_supports("avx512ifma") || !__builtin_cpu_supports("avx512vl") ||
      !__builtin_cpu_supports("avx512dq"))
    return false;
  return wc_CryptoCb_RegisterDevice(rsa_device, answer, nullptr) == 0;
#else
  return false;
#endif
}

/// Only for who has such a key: it takes memory. Nobody's file is read, and nothing has to be in order when
/// the process ends.
bool prepare() {
  constexpr uint64_t how =
      OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_LOAD_CRYPTO_STRINGS | OPENSSL_INIT_NO_ATEXIT;
  return OPENSSL_init_crypto(how, nullptr) == 1;
}

/// RFC 8017, A.1.2, by libcrypto's names.
constexpr std::array names{OSSL_PKEY_PARAM_RSA_N,         OSSL_PKEY_PARAM_RSA_E,
                           OSSL_PKEY_PARAM_RSA_D,         OSSL_PKEY_PARAM_RSA_FACTOR1,
                           OSSL_PKEY_PARAM_RSA_FACTOR2,   OSSL_PKEY_PARAM_RSA_EXPONENT1,
                           OSSL_PKEY_PARAM_RSA_EXPONENT2, OSSL_PKEY_PARAM_RSA_COEFFICIENT1};
using Numbers = std::array<Number, names.size()>;

/// From a key of its own or within PKCS #8. False: no RSA key of our size.
bool read(std::span<const uint8_t> der, Numbers& numbers) {
  DerReader outer(der);
  DerReader fields(outer.take(sequence));
  fields.take(integer);                 // the version of either form
  if (fields.next_tag() == sequence) {  // PKCS #8: the algorithm, then the key
    fields.skip();
    DerReader key(fields.take(octets));
    fields = DerReader(key.take(sequence));
    fields.take(integer);
  }
  for (Number& number : numbers) {
    const auto bytes = fields.take(integer);
    number.reset(BN_secure_new());  // what is so marked is wiped wherever libcrypto copies it
    if (!fields.ok() || !number || !BN_bin2bn(bytes.data(), static_cast<int>(bytes.size()), number.get()))
      return false;
  }
  return static_cast<size_t>(BN_num_bytes(numbers.front().get())) == modulus_size;
}

KeyHandle build(const Numbers& numbers) {
  const Builder builder(OSSL_PARAM_BLD_new());
  const Operation make(EVP_PKEY_CTX_new_from_name(nullptr, "RSA", nullptr));
  if (!builder || !make) return nullptr;
  for (size_t i = 0; i < names.size(); ++i)
    if (OSSL_PARAM_BLD_push_BN(builder.get(), names[i], numbers[i].get()) != 1) return nullptr;
  const Parameters parameters(OSSL_PARAM_BLD_to_param(builder.get()));
  EVP_PKEY* key = nullptr;
  if (!parameters || EVP_PKEY_fromdata_init(make.get()) != 1 ||
      EVP_PKEY_fromdata(make.get(), &key, EVP_PKEY_KEYPAIR, parameters.get()) != 1)
    return nullptr;
  return KeyHandle(key);
}

}  // namespace

struct RsaPower::Key {
  KeyHandle handle;
};

std::string_view rsa_library() {
  static const bool available = find();
  return available ? OpenSSL_version(OPENSSL_VERSION_STRING) : "";
}

std::unique_ptr<const RsaPower> RsaPower::make(const conf::Secret& key_pem) {
  if (rsa_library().empty()) return nullptr;
  const auto blocks = pem_blocks(key_pem.reveal());
  if (blocks.empty()) return nullptr;
  auto der = pem_bytes(blocks.front());
  if (!der) return nullptr;
  Numbers found;
  auto key = std::make_unique<Key>();
  if (prepare() && read(*der, found)) key->handle = build(found);
  conf::wipe(der->data(), der->size());
  if (key->handle) return std::unique_ptr<const RsaPower>(new RsaPower(std::move(key)));
  ERR_clear_error();  // the thread's list, which nobody else reads
  return nullptr;
}

bool RsaPower::raise(std::span<const uint8_t> base, std::span<uint8_t> power) const {
  size_t size = power.size();
  const Operation operation(EVP_PKEY_CTX_new_from_pkey(nullptr, key_->handle.get(), nullptr));
  const bool good = operation && EVP_PKEY_sign_init(operation.get()) == 1 &&
                    EVP_PKEY_CTX_set_rsa_padding(operation.get(), RSA_NO_PADDING) == 1 &&
                    EVP_PKEY_sign(operation.get(), power.data(), &size, base.data(), base.size()) == 1;
  if (!good) ERR_clear_error();
  return good && size == power.size();
}

void RsaPower::offer(WOLFSSL* ssl) { wolfSSL_SetDevId(ssl, rsa_device); }
RsaPower::Use::Use(const RsaPower* key) { in_use = key; }
RsaPower::Use::~Use() { in_use = nullptr; }

#else

struct RsaPower::Key {};

std::string_view rsa_library() { return {}; }
std::unique_ptr<const RsaPower> RsaPower::make(const conf::Secret& /*key_pem*/) { return nullptr; }
bool RsaPower::raise(std::span<const uint8_t> /*base*/, std::span<uint8_t> /*power*/) const { return false; }
void RsaPower::offer(WOLFSSL* /*ssl*/) {}
RsaPower::Use::Use(const RsaPower* /*key*/) {}
RsaPower::Use::~Use() = default;

#endif

RsaPower::RsaPower(std::unique_ptr<const Key> key) : key_(std::move(key)) {}
RsaPower::~RsaPower() = default;

}  // namespace postern::tls
