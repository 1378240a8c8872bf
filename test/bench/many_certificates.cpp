// SPDX-License-Identifier: GPL-3.0-or-later
// Certificates by the thousand, each with a key of its own: bench_certificates FOLDER COUNT AUTHORITY.crt
// AUTHORITY.key writes FOLDER/h0.pem, h1.pem ...: key and certificate for h0.bench.test, h1.bench.test ...
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "test/bench/wire.hpp"

namespace postern::bench {
namespace {

std::FILE* open_file(const std::string& path, const char* mode) {
  std::FILE* file = std::fopen(path.c_str(), mode);
  if (file == nullptr) die("certificates: cannot open " + path);
  return file;
}

void add(X509* leaf, X509* authority, int what, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, authority, leaf, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, what, value.c_str());
  if (extension == nullptr) die("certificates: " + tls_errors());
  X509_add_ext(leaf, extension, -1);
  X509_EXTENSION_free(extension);
}

void write(const std::string& folder, long number, X509* authority, EVP_PKEY* signer) {
  const std::string name = "h" + std::to_string(number);
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* leaf = X509_new();
  constexpr long month = 30L * 24 * 3600;
  X509_set_version(leaf, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(leaf), 1000 + number);
  X509_gmtime_adj(X509_getm_notBefore(leaf), -3600);
  X509_gmtime_adj(X509_getm_notAfter(leaf), month);
  X509_set_issuer_name(leaf, X509_get_subject_name(authority));
  const std::string common = name + ".bench.test";
  X509_NAME_add_entry_by_txt(X509_get_subject_name(leaf), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(common.c_str()), -1, -1, 0);
  X509_set_pubkey(leaf, key);
  add(leaf, authority, NID_subject_alt_name, "DNS:" + common);
  add(leaf, authority, NID_basic_constraints, "CA:FALSE");
  add(leaf, authority, NID_ext_key_usage, "serverAuth");
  if (X509_sign(leaf, signer, EVP_sha256()) == 0) die("certificates: " + tls_errors());
  std::FILE* file = open_file(folder + "/" + name + ".pem", "w");
  if (PEM_write_X509(file, leaf) != 1 ||
      PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr) != 1)
    die("certificates: " + tls_errors());
  std::fclose(file);
  X509_free(leaf);
  EVP_PKEY_free(key);
}

}  // namespace
}  // namespace postern::bench

int main(int argc, char** argv) {
  using namespace postern::bench;
  if (argc != 5) die("usage: bench_certificates FOLDER COUNT AUTHORITY.crt AUTHORITY.key");
  std::FILE* file = open_file(argv[3], "r");
  X509* authority = PEM_read_X509(file, nullptr, nullptr, nullptr);
  std::fclose(file);
  file = open_file(argv[4], "r");
  EVP_PKEY* signer = PEM_read_PrivateKey(file, nullptr, nullptr, nullptr);
  std::fclose(file);
  if (authority == nullptr || signer == nullptr) die("certificates: " + tls_errors());
  for (long i = 0; i < std::strtol(argv[2], nullptr, 10); ++i) write(argv[1], i, authority, signer);
  X509_free(authority);
  EVP_PKEY_free(signer);
  return 0;
}
