// SPDX-License-Identifier: GPL-3.0-or-later
#include "tls/signature_scheme.hpp"

#include <array>

namespace postern::tls {

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

}  // namespace postern::tls
