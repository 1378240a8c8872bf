// SPDX-License-Identifier: GPL-3.0-or-later
// Roots of trust: what SSL_CERT_FILE and SSL_CERT_DIR say, else the bundle of the machine.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <utility>
#include <vector>

#include "conf/text.hpp"
#include "tls/client_context.hpp"
#include "tls/der.hpp"
#include "tls/engine_io.hpp"
#include "tls/files.hpp"
#include "tls/pem.hpp"

namespace postern::tls {
namespace {

/// Where distributions keep all roots in one file; the first that exists is enough.
constexpr const char* bundles[] = {
    "/etc/ssl/certs/ca-certificates.crt",                 // Debian, Ubuntu, Alpine, Arch
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  // Fedora, RHEL
    "/etc/pki/tls/certs/ca-bundle.crt",                   // older RHEL
    "/etc/ssl/ca-bundle.pem",                             // SUSE
    "/etc/ssl/cert.pem",                                  // OpenBSD style, some Alpine images
};
constexpr const char* directory = "/etc/ssl/certs";

/// Adds the certificates in a file's text to what is trusted.
void add(TrustStore::Impl& impl, std::string_view pem) {
  for (const PemBlock& block : pem_blocks(pem)) {
    if (block.label != "CERTIFICATE") continue;
    impl.read_any = true;
    // One by one: a root that is expired or odd must not keep the others out.
    const auto* bytes = reinterpret_cast<const unsigned char*>(block.text.data());
    if (wolfSSL_CTX_load_verify_buffer(impl.verifying.get(), bytes, static_cast<long>(block.text.size()),
                                       WOLFSSL_FILETYPE_PEM) != WOLFSSL_SUCCESS)
      continue;
    ++impl.roots;
    if (const auto der = pem_bytes(block); der)
      if (const auto facts = read_certificate(*der); facts) impl.trusted_until(facts->not_after);
  }
}

using Texts = std::vector<std::string>;

bool read_file(const std::string& path, Texts& texts) {
  auto text = read_small_file(path);
  if (!text) return false;
  texts.push_back(std::move(*text));
  return true;
}

void read_directory(const std::string& path, Texts& texts) {
  std::error_code error;
  for (std::filesystem::directory_iterator at(path, error), end; !error && at != end; at.increment(error))
    read_file(at->path().string(), texts);
}

bool holds_certificate(const Texts& texts) {
  return std::any_of(texts.begin(), texts.end(), [](const std::string& text) {
    return text.find("-----BEGIN CERTIFICATE-----") != std::string::npos;
  });
}

/// Everything that is to be trusted, and the place to name if that is nothing.
Texts read_all(std::string& where) {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value ? value : "");
  };
  const std::string file = variable("SSL_CERT_FILE"), directories = variable("SSL_CERT_DIR");
  Texts texts;
  if (!file.empty() || !directories.empty()) {
    where = conf::quoted(file.empty() ? directories : file);
    if (!file.empty()) read_file(file, texts);
    for (size_t at = 0; at < directories.size();) {
      const size_t end = std::min(directories.find(':', at), directories.size());
      read_directory(directories.substr(at, end - at), texts);
      at = end + 1;
    }
    return texts;
  }
  where = "the places this system keeps them in";
  for (const char* bundle : bundles)
    if (read_file(bundle, texts) && holds_certificate(texts)) return texts;
  read_directory(directory, texts);
  return texts;
}

std::array<uint8_t, 32> digest_of(const Texts& texts) {
  std::vector<uint8_t> all;
  for (const std::string& text : texts) {
    const auto one = sha256({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
    all.insert(all.end(), one.begin(), one.end());
  }
  return sha256(all);
}

}  // namespace

TrustStore::TrustStore() : impl_(std::make_unique<Impl>()) {}
TrustStore::~TrustStore() = default;

std::shared_ptr<const TrustStore> TrustStore::load(const std::shared_ptr<const TrustStore>& previous) {
  std::string where;
  const Texts texts = read_all(where);
  const auto digest = digest_of(texts);
  if (previous && previous->impl_->digest == digest && !previous->outlived(std::time(nullptr)))
    return previous;
  std::shared_ptr<TrustStore> store(new TrustStore);
  Impl& impl = *store->impl_;
  impl.digest = digest;
  impl.verifying = client_base();
  impl.trusting = client_base();
  if (!impl.verifying || !impl.trusting) return store;
  wolfSSL_CTX_set_verify(impl.verifying.get(), WOLFSSL_VERIFY_PEER, verify_peer);
  for (const std::string& text : texts) add(impl, text);
  if (impl.roots == 0) impl.problem = "no root certificate in " + where + ": no backend can be verified";
  return store;
}

conf::Result<std::shared_ptr<const TrustStore>> TrustStore::of_file(const std::string& path) {
  auto text = read_small_file(path);
  if (!text) return tl::unexpected(text.error());
  std::shared_ptr<TrustStore> store(new TrustStore);
  Impl& impl = *store->impl_;
  impl.digest = digest_of({*text});
  impl.verifying = client_base();
  impl.trusting = client_base();
  if (!impl.verifying || !impl.trusting) return conf::error("the TLS library is out of memory");
  wolfSSL_CTX_set_verify(impl.verifying.get(), WOLFSSL_VERIFY_PEER, verify_peer);
  add(impl, *text);
  if (impl.roots == 0) return conf::error(conf::quoted(path) + " holds no certificate that can be used");
  return store;
}

bool TrustStore::read_any() const { return impl_->read_any; }
bool TrustStore::outlived(std::time_t now) const {
  return impl_->until.load(std::memory_order_relaxed) < now;
}
size_t TrustStore::roots() const { return impl_->roots; }
const std::string& TrustStore::problem() const { return impl_->problem; }

}  // namespace postern::tls
