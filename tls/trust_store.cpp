// SPDX-License-Identifier: GPL-3.0-or-later
// Roots of trust: what SSL_CERT_FILE and SSL_CERT_DIR say, else the bundle of the machine.
#include <cstdlib>
#include <filesystem>

#include "conf/text.hpp"
#include "tls/client_context.hpp"
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

size_t add(WOLFSSL_CTX* context, std::string_view pem) {
  size_t count = 0;
  for (const PemBlock& block : pem_blocks(pem)) {
    if (block.label != "CERTIFICATE") continue;
    // One by one: a root that is expired or odd must not keep the others out.
    const auto* bytes = reinterpret_cast<const unsigned char*>(block.text.data());
    count += wolfSSL_CTX_load_verify_buffer(context, bytes, static_cast<long>(block.text.size()),
                                            WOLFSSL_FILETYPE_PEM) == WOLFSSL_SUCCESS;
  }
  return count;
}

size_t add_file(WOLFSSL_CTX* context, const std::string& path) {
  const auto text = read_small_file(path);
  return text ? add(context, *text) : 0;
}

size_t add_directory(WOLFSSL_CTX* context, const std::string& path) {
  size_t count = 0;
  std::error_code error;
  for (std::filesystem::directory_iterator at(path, error), end; !error && at != end; at.increment(error))
    count += add_file(context, at->path().string());
  return count;
}

}  // namespace

TrustStore::TrustStore() : impl_(std::make_unique<Impl>()) {}
TrustStore::~TrustStore() = default;

std::shared_ptr<const TrustStore> TrustStore::load() {
  std::shared_ptr<TrustStore> store(new TrustStore);
  Impl& impl = *store->impl_;
  impl.verifying = client_base();
  impl.trusting = client_base();
  if (!impl.verifying || !impl.trusting) return store;
  WOLFSSL_CTX* context = impl.verifying.get();
  wolfSSL_CTX_set_verify(context, WOLFSSL_VERIFY_PEER, verify_peer);

  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value ? value : "");
  };
  const std::string file = variable("SSL_CERT_FILE"), directories = variable("SSL_CERT_DIR");
  std::string where = "the places this system keeps them in";
  if (!file.empty() || !directories.empty()) {
    where = conf::quoted(file.empty() ? directories : file);
    if (!file.empty()) impl.roots += add_file(context, file);
    for (size_t at = 0; at < directories.size();) {
      const size_t end = std::min(directories.find(':', at), directories.size());
      impl.roots += add_directory(context, directories.substr(at, end - at));
      at = end + 1;
    }
  } else {
    for (const char* bundle : bundles)
      if (impl.roots == 0) impl.roots = add_file(context, bundle);
    if (impl.roots == 0) impl.roots = add_directory(context, directory);
  }
  if (impl.roots == 0) impl.problem = "no root certificate in " + where + ": no backend can be verified";
  return store;
}

size_t TrustStore::roots() const { return impl_->roots; }
const std::string& TrustStore::problem() const { return impl_->problem; }

}  // namespace postern::tls
