// SPDX-License-Identifier: GPL-3.0-or-later
// What the TLS library can do, found out once; and the tables that translate our words into its own.
#include "tls/library.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "tls/bulk_cipher.hpp"
#include "tls/context.hpp"
#include "tls/heap.hpp"
#include "tls/rsa_power.hpp"
#include "tls/wolfssl.hpp"

namespace postern::tls {
namespace {

struct SuiteRow {
  const char* wolfssl;
  uint16_t number;
};
constexpr SuiteRow suite_rows[] = {
    {"TLS13-AES256-GCM-SHA384", 0x1302},        {"TLS13-AES128-GCM-SHA256", 0x1301},
    {"TLS13-CHACHA20-POLY1305-SHA256", 0x1303}, {"ECDHE-ECDSA-AES256-GCM-SHA384", 0xc02c},
    {"ECDHE-ECDSA-AES128-GCM-SHA256", 0xc02b},  {"ECDHE-ECDSA-CHACHA20-POLY1305", 0xcca9},
    {"ECDHE-RSA-AES256-GCM-SHA384", 0xc030},    {"ECDHE-RSA-AES128-GCM-SHA256", 0xc02f},
    {"ECDHE-RSA-CHACHA20-POLY1305", 0xcca8},
};
static_assert(std::size(suite_rows) == conf::suite_count);

// The hybrid group under its final number; earlier releases had drafts under other ones.
#if defined(WOLFSSL_HAVE_MLKEM) && (defined(WOLFSSL_PQC_HYBRIDS) || LIBWOLFSSL_VERSION_HEX < 0x05008004) && \
    LIBWOLFSSL_VERSION_HEX >= 0x05008000
constexpr bool have_hybrid = true;
#else
constexpr bool have_hybrid = false;
#endif

#if defined(__x86_64__)
bool processor_has_aes() { return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul"); }
#else
bool processor_has_aes() { return true; }
#endif

#if defined(WOLFSSL_AESNI) || defined(WOLFSSL_ARMASM)
constexpr bool aes_compiled_in = true;
#else
constexpr bool aes_compiled_in = false;
#endif

Library inspect() {
  init();  // which forgets devices that were announced before
  Library result;
  result.version = std::string("wolfSSL ") + wolfSSL_lib_version();
#ifdef POSTERN_WOLFSSL_BUNDLED
  result.bundled = true;
#endif
  result.fast_aes = aes_compiled_in && processor_has_aes();
  if (have_hybrid) result.groups.push_back(conf::Group::x25519mlkem768);
  result.groups.insert(result.groups.end(),
                       {conf::Group::x25519, conf::Group::secp256r1, conf::Group::secp384r1});
  if (!result.bundled)
    result.warnings.push_back("this build uses the machine's " + result.version +
                              " instead of its own: slower, and without its fixes");
  if (!aes_compiled_in)
    result.warnings.push_back(result.version +
                              " was built without AES instructions: encryption is up to 30 times slower");
  else if (!result.fast_aes)
    result.warnings.emplace_back("this processor has no AES instructions: encryption is slow");
  if (!have_hybrid)
    result.warnings.push_back(result.version +
                              " lacks X25519MLKEM768: recorded traffic is not safe from quantum computers");
  if (const std::string_view bulk = bulk_cipher(); !bulk.empty())
    result.version += fmt::format(", long records by ipsec-mb {}", bulk);
  if (const std::string_view rsa = rsa_library(); !rsa.empty())
    result.version += fmt::format(", RSA-2048 by OpenSSL {}", rsa);
  return result;
}

/// wolfSSL finds out what the processor can do when a primitive is first used, and keeps it in plain
/// variables. So each is used once before there are threads.
void acquaint() {
  uint8_t bytes[64] = {};
  Aes aes;
  if (wc_AesInit(&aes, nullptr, INVALID_DEVID) == 0) {
    wc_AesGcmSetKey(&aes, bytes, 32);
    wc_AesFree(&aes);
  }
#ifdef HAVE_POLY1305
  Poly1305 poly;
  wc_Poly1305SetKey(&poly, bytes, 32);
#endif
  wc_Sha256Hash(bytes, sizeof bytes, bytes);
  wc_Sha512Hash(bytes, sizeof bytes, bytes);
  WC_RNG random;
  if (wc_InitRng(&random) == 0) wc_FreeRng(&random);
}

}  // namespace

const Library& library() {
  static const Library only = inspect();
  return only;
}

void init() {
  static const bool done = [] {
    count_allocations();
    wolfSSL_Init();
    acquaint();
    (void)bulk_cipher();
    (void)rsa_library();
    return true;
  }();
  (void)done;
}

std::string suite_list(std::span<const conf::Suite> suites) {
  std::string list;
  for (const conf::Suite suite : suites) {
    if (!list.empty()) list += ':';
    list += suite_rows[static_cast<size_t>(suite)].wolfssl;
  }
  return list;
}

uint16_t number(conf::Suite suite) { return suite_rows[static_cast<size_t>(suite)].number; }

uint16_t number(conf::Group group) {
  switch (group) {
    case conf::Group::x25519mlkem768:
      return 0x11ec;
    case conf::Group::x25519:
      return 29;
    case conf::Group::secp256r1:
      return 23;
    case conf::Group::secp384r1:
      return 24;
  }
  return 0;
}

std::vector<conf::Group> known_groups(std::span<const conf::Group> wanted) {
  const auto& able = library().groups;
  std::vector<conf::Group> groups;
  std::copy_if(wanted.begin(), wanted.end(), std::back_inserter(groups),
               [&](conf::Group group) { return std::find(able.begin(), able.end(), group) != able.end(); });
  return groups;
}

bool set_groups(WOLFSSL_CTX* context, std::span<const conf::Group> groups) {
  std::vector<int> numbers;
  for (const conf::Group group : groups) numbers.push_back(number(group));
  return wolfSSL_CTX_set_groups(context, numbers.data(), static_cast<int>(numbers.size())) == WOLFSSL_SUCCESS;
}

void set_tls12_group(WOLFSSL* ssl, conf::Group group) {
#ifdef OPENSSL_EXTRA  // older releases look at the list of disabled curves alone, which only this sets
  wolfSSL_set1_curves_list(ssl, group == conf::Group::x25519      ? "X25519"
                                : group == conf::Group::secp256r1 ? "P-256"
                                                                  : "P-384");
#else
  wolfSSL_UseSupportedCurve(ssl, number(group));
#endif
}

}  // namespace postern::tls
