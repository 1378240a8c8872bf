// SPDX-License-Identifier: GPL-3.0-or-later
// One pair: read, cut into PEM blocks, understood, and proved to belong together by the TLS library.
#include "tls/certificate.hpp"

#include "conf/files.hpp"
#include "conf/text.hpp"
#include "tls/context.hpp"
#include "tls/der.hpp"
#include "tls/files.hpp"
#include "tls/pem.hpp"
#include "tls/wolfssl.hpp"

namespace postern::tls {
namespace {

constexpr size_t max_chain = 10;
constexpr unsigned min_rsa_bits = 2048;

bool is_inline(std::string_view source) {
  const size_t start = source.find_first_not_of(" \t\r\n");
  return start != std::string_view::npos && source.substr(start).starts_with("-----BEGIN");
}

/// Chain and leaf facts into `certificate`; the text is what went wrong.
std::string take_chain(std::string_view pem, Certificate& certificate, std::vector<uint8_t>& public_key) {
  std::vector<uint8_t> leaf;
  size_t count = 0;
  for (const PemBlock& block : pem_blocks(pem)) {
    if (block.label != "CERTIFICATE") continue;
    auto der = pem_bytes(block);
    if (!der) return der.error().text;
    if (++count > max_chain) return "more than 10 certificates in the chain";
    if (count == 1) leaf = std::move(*der);
    certificate.chain_pem.append(block.text).append("\n");
  }
  if (count == 0) return "no certificate in it";
  auto facts = read_certificate(leaf);
  if (!facts) return facts.error().text;

  switch (facts->key) {
    case KeyKind::rsa:
      if (facts->rsa_bits < min_rsa_bits) return "RSA keys need at least 2048 bits";
      certificate.key_type = KeyType::rsa;
      break;
    case KeyKind::p256:
    case KeyKind::p384:
    case KeyKind::p521: {
      const auto nth = static_cast<unsigned>(facts->key) - static_cast<unsigned>(KeyKind::p256);
      certificate.key_type = KeyType::ecdsa;
      certificate.signature_scheme = static_cast<uint16_t>(0x0403 + 0x100 * nth);
      certificate.curve = static_cast<uint16_t>(23 + nth);
      break;
    }
    case KeyKind::ed25519:
      return "Ed25519 keys are not supported: use EC P-256 or RSA";
    case KeyKind::other:
      return "this kind of key is not supported: use EC P-256, P-384, P-521 or RSA";
  }
  for (std::string& name : facts->dns_names.empty() ? facts->common_names : facts->dns_names)
    certificate.names.push_back(std::move(name));
  certificate.not_before = facts->not_before;
  certificate.not_after = facts->not_after;
  certificate.sha256 = sha256(leaf);
  public_key = std::move(facts->public_key);
  return {};
}

std::string take_key(std::string_view pem, Certificate& certificate) {
  for (const PemBlock& block : pem_blocks(pem)) {
    if (block.label == "ENCRYPTED PRIVATE KEY" || block.body.find("ENCRYPTED") != std::string_view::npos)
      return "the private key is encrypted: Postern has nobody to ask for the pass phrase";
    if (block.label != "PRIVATE KEY" && block.label != "RSA PRIVATE KEY" && block.label != "EC PRIVATE KEY")
      continue;
    certificate.key_pem = conf::Secret(std::string(block.text) + "\n");
    return {};
  }
  return "no private key in it";
}

/// The public half of a private key, in the form of CertificateFacts; empty if the library cannot read it.
/// Older releases of the library call every pair of one type a match, so we compare ourselves.
std::vector<uint8_t> public_half(const conf::Secret& key_pem, KeyType type) {
  std::vector<uint8_t> half;
  auto der = pem_bytes(pem_blocks(key_pem.reveal()).front());
  if (!der) return half;
  const auto size = static_cast<word32>(der->size());
  word32 at = 0;
  if (type == KeyType::ecdsa) {
    ecc_key key;
    WC_RNG rng;
    if (wc_ecc_init(&key) == 0) {
      word32 room = 256;
      half.resize(room);
      bool good = wc_InitRng(&rng) == 0;
      if (good) {
        good = wc_EccPrivateKeyDecode(der->data(), &at, &key, size) == 0 &&
               wc_ecc_make_pub_ex(&key, nullptr, &rng) == 0 &&
               wc_ecc_export_x963(&key, half.data(), &room) == 0;
        wc_FreeRng(&rng);
      }
      half.resize(good ? room : 0);
      wc_ecc_free(&key);
    }
  } else {
    RsaKey key;
    if (wc_InitRsaKey(&key, nullptr) == 0) {
      word32 room = 2048, exponent_room = 2048;
      std::vector<uint8_t> exponent(exponent_room);
      half.resize(room);
      const bool good =
          wc_RsaPrivateKeyDecode(der->data(), &at, &key, size) == 0 &&
          wc_RsaFlattenPublicKey(&key, exponent.data(), &exponent_room, half.data(), &room) == 0;
      half.resize(good ? room : 0);
      wc_FreeRsaKey(&key);
    }
  }
  conf::wipe(der->data(), der->size());
  return half;
}

enum class Fault : uint8_t { none, chain, key, pair };

/// Whether the library takes both, and whether they are halves of one key.
Fault examine(const Certificate& certificate, const std::vector<uint8_t>& public_key) {
  init();
  const ContextHandle scratch(wolfSSL_CTX_new(wolfTLS_server_method()));
  const auto bytes = [](std::string_view text) {
    return reinterpret_cast<const unsigned char*>(text.data());
  };
  const std::string_view chain = certificate.chain_pem, key = certificate.key_pem.reveal();
  if (!scratch || wolfSSL_CTX_use_certificate_chain_buffer(
                      scratch.get(), bytes(chain), static_cast<long>(chain.size())) != WOLFSSL_SUCCESS)
    return Fault::chain;
  const auto half = public_half(certificate.key_pem, certificate.key_type);
  if (wolfSSL_CTX_use_PrivateKey_buffer(scratch.get(), bytes(key), static_cast<long>(key.size()),
                                        WOLFSSL_FILETYPE_PEM) != WOLFSSL_SUCCESS)
    return Fault::key;
  return half == public_key ? Fault::none : Fault::pair;
}

}  // namespace

std::optional<std::string> pem_path(std::string_view source) {
  if (is_inline(source)) return std::nullopt;
  constexpr std::string_view scheme = "file://";
  if (source.starts_with(scheme)) source.remove_prefix(scheme.size());
  return std::string(source);
}

conf::Result<std::string> read_pem(std::string_view source) {
  if (auto path = pem_path(source)) return read_small_file(*path);
  return std::string(source);
}

Pair load_pair(std::string_view cert_source, const conf::Secret& key_source) {
  Pair pair;
  const auto bad = [&pair](bool of_key, std::string text) {
    pair.of_key = of_key;
    pair.error = std::move(text);
    return std::move(pair);
  };
  auto chain = read_pem(cert_source);
  if (!chain) return bad(false, chain.error().text);
  std::vector<uint8_t> public_key;
  if (auto text = take_chain(*chain, pair.certificate, public_key); !text.empty())
    return bad(false, std::move(text));

  auto key = read_pem(key_source.reveal());
  if (!key) return bad(true, key.error().text);
  auto text = take_key(*key, pair.certificate);
  conf::wipe(*key);
  if (!text.empty()) return bad(true, std::move(text));

  switch (examine(pair.certificate, public_key)) {
    case Fault::none:
      break;
    case Fault::chain:
      return bad(false, "the certificate is damaged or of an unsupported kind");
    case Fault::key:
      return bad(true, "the private key is damaged or of an unsupported kind");
    case Fault::pair:
      return bad(true, "certificate and key do not belong together");
  }
  for (const auto& path : {pem_path(cert_source), pem_path(key_source.reveal())})
    if (path) pair.certificate.files.push_back(*path);
  if (const auto path = pem_path(key_source.reveal()))
    if (const std::string others = conf::exposure(*path); !others.empty())
      pair.exposed = "the private key in " + conf::quoted(*path) + " " + others;
  return pair;
}

}  // namespace postern::tls
