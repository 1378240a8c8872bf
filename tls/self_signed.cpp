// SPDX-License-Identifier: GPL-3.0-or-later
// The certificate of last resort: localhost, P-256, made at first use and kept for the life of the process.
#include <string_view>

#include "tls/certificate.hpp"
#include "tls/context.hpp"
#include "tls/der.hpp"
#include "tls/pem.hpp"
#include "tls/wolfssl.hpp"

namespace postern::tls {
namespace {

// GeneralNames: dNSName localhost, iPAddress 127.0.0.1 and ::1.
constexpr uint8_t localhost_names[] = {0x30, 0x23, 0x82, 9, 'l', 'o', 'c',  'a', 'l', 'h', 'o', 's', 't',
                                       0x87, 4,    127,  0, 0,   1,   0x87, 16,  0,   0,   0,   0,   0,
                                       0,    0,    0,    0, 0,   0,   0,    0,   0,   0,   1};

std::shared_ptr<const Certificate> make() {
  init();
  auto result = std::make_shared<Certificate>();
  result->id = "self-signed";
  result->names = {"localhost"};
  result->key_type = KeyType::ecdsa;
  result->signature_scheme = 0x0403;
  result->curve = 23;

  WC_RNG rng;
  ecc_key key;
  if (wc_InitRng(&rng) != 0) return result;
  wc_ecc_init(&key);
  auto request = std::make_unique<Cert>();
  uint8_t der[2048], key_der[256];
  wc_InitCert(request.get());
  constexpr std::string_view subject = "localhost";
  subject.copy(request->subject.commonName, subject.size());
  request->sigType = CTC_SHA256wECDSA;
  request->daysValid = 3650;
  request->isCA = 0;
  request->selfSigned = 1;
  std::copy(std::begin(localhost_names), std::end(localhost_names), request->altNames);
  request->altNamesSz = sizeof localhost_names;
  int size = wc_ecc_make_key_ex(&rng, 32, &key, ECC_SECP256R1);
  if (size == 0) size = wc_SetKeyUsage(request.get(), "digitalSignature");
  if (size == 0) size = wc_SetExtKeyUsage(request.get(), "serverAuth");
  if (size == 0) size = wc_MakeCert_ex(request.get(), der, sizeof der, ECC_TYPE, &key, &rng);
  if (size > 0)
    size = wc_SignCert_ex(request->bodySz, request->sigType, der, sizeof der, ECC_TYPE, &key, &rng);
  const int key_size = size > 0 ? wc_EccKeyToDer(&key, key_der, sizeof key_der) : -1;
  if (key_size > 0) {
    const std::span<const uint8_t> leaf(der, static_cast<size_t>(size));
    result->sha256 = sha256(leaf);
    result->chain_pem = pem_text("CERTIFICATE", leaf);
    result->key_pem = conf::Secret(pem_text("EC PRIVATE KEY", {key_der, static_cast<size_t>(key_size)}));
    if (const auto facts = read_certificate(leaf)) {
      result->not_before = facts->not_before;
      result->not_after = facts->not_after;
    }
  }
  conf::wipe(key_der, sizeof key_der);
  wc_ecc_free(&key);
  wc_FreeRng(&rng);
  return result;
}

}  // namespace

std::shared_ptr<const Certificate> self_signed() {
  static const std::shared_ptr<const Certificate> only = make();
  return only;
}

}  // namespace postern::tls
