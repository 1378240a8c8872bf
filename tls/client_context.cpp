// SPDX-License-Identifier: GPL-3.0-or-later
// What a destination demands and what it is shown.
#include "tls/client_context.hpp"

#include <algorithm>
#include <atomic>

#include "conf/address.hpp"
#include "conf/text.hpp"
#include "tls/der.hpp"
#include "tls/engine_io.hpp"
#include "tls/library.hpp"

namespace postern::tls {
namespace {

constexpr unsigned session_lifetime = 24 * 60 * 60;  // at most; a server's hint may be shorter

constexpr conf::Group all_groups[] = {conf::Group::x25519mlkem768, conf::Group::x25519,
                                      conf::Group::secp256r1, conf::Group::secp384r1};

std::string every_suite() {
  std::vector<conf::Suite> suites;
  for (size_t i = 0; i < conf::suite_count; ++i) suites.push_back(static_cast<conf::Suite>(i));
  return suite_list(suites);
}

/// One label may be a star, the whole first one, with two labels behind it.
bool name_matches(std::string_view pattern, std::string_view host) {
  if (pattern.ends_with('.')) pattern.remove_suffix(1);
  if (!pattern.starts_with("*.")) return pattern == host;
  pattern.remove_prefix(1);
  const size_t dot = host.find('.');
  return dot != std::string_view::npos && dot > 0 && pattern.find('.', 1) != std::string_view::npos &&
         host.substr(dot) == pattern;
}

}  // namespace

bool names_host(std::span<const uint8_t> leaf, std::string_view host) {
  const auto facts = read_certificate(leaf);
  if (!facts) return false;
  if (const auto ip = conf::Ip::parse(host)) {
    const auto bytes = ip->bytes();
    return std::any_of(facts->ip_addresses.begin(), facts->ip_addresses.end(), [&bytes](const auto& address) {
      return std::equal(address.begin(), address.end(), bytes.begin(), bytes.end());
    });
  }
  std::string wanted = conf::ascii_lower(host);
  if (wanted.ends_with('.')) wanted.pop_back();
  const auto& names = facts->dns_names.empty() ? facts->common_names : facts->dns_names;
  return !wanted.empty() && std::any_of(names.begin(), names.end(), [&wanted](const std::string& name) {
    return name_matches(conf::ascii_lower(name), wanted);
  });
}

std::shared_ptr<WOLFSSL_CTX> client_base() {
  init();
  std::shared_ptr<WOLFSSL_CTX> context(wolfSSL_CTX_new(wolfTLS_client_method()),
                                       [](WOLFSSL_CTX* old) { wolfSSL_CTX_free(old); });
  if (!context || wolfSSL_CTX_SetMinVersion(context.get(), WOLFSSL_TLSV1_2) != WOLFSSL_SUCCESS ||
      wolfSSL_CTX_set_cipher_list(context.get(), every_suite().c_str()) != WOLFSSL_SUCCESS ||
      !set_groups(context.get(), known_groups(all_groups)) ||
      wolfSSL_CTX_SetMinRsaKey_Sz(context.get(), 2048) != WOLFSSL_SUCCESS ||
      wolfSSL_CTX_SetMinEccKey_Sz(context.get(), 256) != WOLFSSL_SUCCESS ||
      wolfSSL_CTX_UseSessionTicket(context.get()) != WOLFSSL_SUCCESS)
    return nullptr;
  wolfSSL_CTX_set_timeout(context.get(), session_lifetime);
  wolfSSL_CTX_set_verify(context.get(), WOLFSSL_VERIFY_NONE, nullptr);
  prepare_io(context.get());
  return context;
}

ClientContext::ClientContext() : impl_(std::make_unique<Impl>()) {}
ClientContext::~ClientContext() = default;
const std::string& ClientContext::warning() const { return impl_->warning; }

bool ClientContext::same_as(const ClientContext& other) const {
  const Impl &a = *impl_, &b = *other.impl_;
  return a.trust == b.trust && a.verifies == b.verifies && a.pin == b.pin && a.own == b.own;
}

conf::Result<std::shared_ptr<const ClientContext>> ClientContext::make(
    const conf::DestinationConf& destination, std::shared_ptr<const TrustStore> trust) {
  static std::atomic<uint64_t> count{0};
  std::shared_ptr<ClientContext> context(new ClientContext);
  Impl& impl = *context->impl_;
  impl.id = ++count;
  if (const auto& pin = destination.tls_pinned_cert_sha256) {
    if (pin->size() != 32) return conf::error("the pin is not 32 bytes");
    std::copy(pin->begin(), pin->end(), impl.pin.emplace().begin());
    // A pin is checked in a context of its own: what it lets through must not become trusted elsewhere.
    impl.context = client_base();
    if (impl.context) wolfSSL_CTX_set_verify(impl.context.get(), WOLFSSL_VERIFY_PEER, verify_peer);
  } else {
    impl.context = destination.tls_allow_invalid_certs ? trust->impl().trusting : trust->impl().verifying;
  }
  impl.verifies = !impl.pin && !destination.tls_allow_invalid_certs;
  if (!impl.context) return conf::error("the TLS library is out of memory");

  if (destination.tls_client_cert.empty() != destination.tls_client_key.empty())
    return conf::error(destination.tls_client_cert.empty() ? "tls_client_key without tls_client_cert"
                                                           : "tls_client_cert without tls_client_key");
  if (!destination.tls_client_cert.empty()) {
    Pair pair = load_pair(destination.tls_client_cert, destination.tls_client_key);
    if (!pair.error.empty())
      return conf::error((pair.of_key ? "tls_client_key: " : "tls_client_cert: ") + pair.error);
    impl.own = std::move(pair.certificate);
    impl.warning = std::move(pair.exposed);
  }
  impl.trust = std::move(trust);
  return context;
}

}  // namespace postern::tls
