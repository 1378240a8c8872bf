// SPDX-License-Identifier: GPL-3.0-or-later
#include "tls/facts.hpp"

#include <array>
#include <string_view>

#include "conf/names.hpp"
#include "tls/library.hpp"

namespace postern::tls {
namespace {

/// The library's hash (high byte) and algorithm (low byte) of a signature, as RFC 8446, 4.2.3 names the two
/// together. Empty if it names no such pair.
std::string_view signature_scheme(unsigned hash_and_algorithm, bool tls13) {
  struct Scheme {
    unsigned number;  // hash in the high byte, algorithm in the low one
    std::string_view name;
  };
  constexpr unsigned pkcs1 = 1;
  constexpr unsigned pss = 8;
  constexpr std::array<Scheme, 9> schemes = {{{0x0403, "ecdsa_secp256r1_sha256"},
                                              {0x0503, "ecdsa_secp384r1_sha384"},
                                              {0x0603, "ecdsa_secp521r1_sha512"},
                                              {0x0408, "rsa_pss_rsae_sha256"},
                                              {0x0508, "rsa_pss_rsae_sha384"},
                                              {0x0608, "rsa_pss_rsae_sha512"},
                                              {0x0401, "rsa_pkcs1_sha256"},
                                              {0x0501, "rsa_pkcs1_sha384"},
                                              {0x0601, "rsa_pkcs1_sha512"}}};
  if (tls13 && (hash_and_algorithm & 0xFF) == pkcs1) hash_and_algorithm += pss - pkcs1;  // 1.3 has no other
  for (const Scheme& scheme : schemes)
    if (scheme.number == hash_and_algorithm) return scheme.name;
  return {};
}

}  // namespace

Facts facts_of(WOLFSSL* ssl, bool server) {
  Facts facts;
  const bool tls13 = wolfSSL_version(ssl) == TLS1_3_VERSION;
  facts.version = tls13 ? "TLSv1.3" : "TLSv1.2";
  const int suite = wolfSSL_get_current_cipher_suite(ssl);
  for (size_t i = 0; i < conf::suite_count; ++i)
    if (number(static_cast<conf::Suite>(i)) == suite) facts.suite = conf::name(static_cast<conf::Suite>(i));
  facts.resumed = wolfSSL_session_reused(ssl) != 0;
  const char* curve = wolfSSL_get_curve_name(ssl);
  const std::string_view group = curve && (tls13 || !facts.resumed) ? curve : "";
  if (const auto known = conf::group_by_name(group)) facts.group = conf::name(*known);
  if (server && !facts.resumed) facts.signature = signature_scheme(postern_signature(ssl), tls13);
  return facts;
}

}  // namespace postern::tls
