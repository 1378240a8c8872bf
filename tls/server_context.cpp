// SPDX-License-Identifier: GPL-3.0-or-later
// A listener's policy made into contexts, and the choice among certificates.
#include "tls/server_context.hpp"

#include <algorithm>

#include "conf/text.hpp"
#include "tls/engine_io.hpp"
#include "tls/library.hpp"

namespace postern::tls {
namespace {

bool wanted(const ServerRules& rules, conf::Suite suite) {
  return conf::is_tls13(suite) ? rules.tls13 : rules.tls12;
}

bool signs_for(conf::Suite suite, KeyType type) {
  if (conf::is_tls13(suite)) return true;
  return (suite < conf::Suite::ecdhe_rsa_aes_256_gcm_sha384) == (type == KeyType::ecdsa);
}

/// The same certificate under the same versions and suites: what a ticket belongs to.
std::array<uint8_t, 32> identity(const ServerRules& rules, const Certificate& certificate) {
  std::vector<uint8_t> bytes(certificate.sha256.begin(), certificate.sha256.end());
  bytes.push_back(rules.tls12);
  bytes.push_back(rules.tls13);
  for (const conf::Suite suite : rules.suites) bytes.push_back(static_cast<uint8_t>(suite));
  return sha256(bytes);
}

/// Whether a client that said this can verify a signature by this EC key.
bool verifies(const ClientHello& hello, const ServerRules& rules, const Certificate& certificate) {
  if (!hello.has_signature_algorithms) return false;
  if (hello.tls13 && rules.tls13)
    return ClientHello::holds(hello.signature_algorithms, certificate.signature_scheme);
  // TLS 1.2: any hash with ECDSA, a suite that says ECDSA, and the key's own curve.
  const auto list = hello.signature_algorithms;
  bool ecdsa = false;
  for (size_t i = 0; i + 1 < list.size(); i += 2)
    ecdsa |= list[i + 1] == 3 && list[i] >= 4 && list[i] <= 6;  // SHA-256, -384, -512
  const bool suite = std::any_of(rules.suites.begin(), rules.suites.end(), [&hello](conf::Suite ours) {
    return !conf::is_tls13(ours) && signs_for(ours, KeyType::ecdsa) &&
           ClientHello::holds(hello.suites, number(ours));
  });
  return ecdsa && suite && (!hello.has_groups || ClientHello::holds(hello.groups, certificate.curve));
}

std::mutex pools_lock;
std::vector<std::weak_ptr<const ServerPool>>& pools() {
  static std::vector<std::weak_ptr<const ServerPool>> list;
  return list;
}

std::shared_ptr<const ServerPool> pool_for(ServerRules rules,
                                           const std::shared_ptr<const CertificateStore>& store,
                                           std::shared_ptr<const TicketKeys> tickets) {
  const std::lock_guard lock(pools_lock);
  std::erase_if(pools(), [](const auto& pool) { return pool.expired(); });
  for (const auto& known : pools())
    if (auto pool = known.lock(); pool && pool->serves(rules, store.get(), tickets.get())) return pool;
  auto pool = std::make_shared<const ServerPool>(std::move(rules), store, std::move(tickets));
  pools().push_back(pool);
  return pool;
}

}  // namespace

ServerPool::ServerPool(ServerRules rules, std::shared_ptr<const CertificateStore> store,
                       std::shared_ptr<const TicketKeys> tickets)
    : rules_(std::move(rules)), store_(std::move(store)), tickets_(std::move(tickets)) {
  places_.reserve(store_->all().size() + 1);
  for (const auto& certificate : store_->all()) places_.try_emplace(certificate.get());
  places_.try_emplace(self_signed().get());
}

std::shared_ptr<const ServerSlot> ServerPool::slot(
    const std::shared_ptr<const Certificate>& certificate) const {
  const auto found = places_.find(certificate.get());
  if (found == places_.end()) return nullptr;
  Place& place = found->second;
  const std::lock_guard lock(place.mutex);
  if (!place.slot) place.slot = build(certificate);  // null without memory: the next one tries again
  return place.slot;
}

std::shared_ptr<const ServerSlot> ServerPool::build(
    const std::shared_ptr<const Certificate>& certificate) const {
  const auto bytes = [](std::string_view text) {
    return reinterpret_cast<const unsigned char*>(text.data());
  };
  // A list without TLS 1.3 suites does not turn TLS 1.3 off; only the method does.
  auto* method = !rules_.tls13   ? wolfTLSv1_2_server_method()
                 : !rules_.tls12 ? wolfTLSv1_3_server_method()
                                 : wolfTLS_server_method();
  auto slot = std::make_shared<ServerSlot>();
  slot->certificate = certificate;
  slot->context.reset(wolfSSL_CTX_new(method));
  WOLFSSL_CTX* context = slot->context.get();
  if (!context) return nullptr;

  std::vector<conf::Suite> suites;
  for (const conf::Suite suite : rules_.suites)
    if (wanted(rules_, suite) && signs_for(suite, certificate->key_type)) suites.push_back(suite);
  if (suites.empty()) suites = rules_.suites;  // no client can be served; the handshake says so
  const std::string_view chain = certificate->chain_pem, key = certificate->key_pem.reveal();
  const int oldest = rules_.tls12 ? WOLFSSL_TLSV1_2 : WOLFSSL_TLSV1_3;
  if (wolfSSL_CTX_SetMinVersion(context, oldest) != WOLFSSL_SUCCESS ||
      wolfSSL_CTX_use_certificate_chain_buffer(context, bytes(chain), static_cast<long>(chain.size())) !=
          WOLFSSL_SUCCESS ||
      wolfSSL_CTX_use_PrivateKey_buffer(context, bytes(key), static_cast<long>(key.size()),
                                        WOLFSSL_FILETYPE_PEM) != WOLFSSL_SUCCESS ||
      wolfSSL_CTX_set_cipher_list(context, suite_list(suites).c_str()) != WOLFSSL_SUCCESS ||
      (rules_.tls13 && !set_groups(context, rules_.groups)))  // TLS 1.2: see Engine::Impl::open_server
    return nullptr;
  if (!rules_.ignore_client_order) wolfSSL_CTX_UseClientSuites(context);
  wolfSSL_CTX_set_verify(context, WOLFSSL_VERIFY_NONE, nullptr);
  prepare_io(context);
  if (certificate->key_type == KeyType::rsa) slot->rsa = RsaPower::make(certificate->key_pem);

  slot->scope = {tickets_, rules_.ticket_lifetime, identity(rules_, *certificate)};
  if (rules_.tickets) {
    // The library promises clients the hint and itself goes by the time-out.
    const auto seconds = rules_.ticket_lifetime.count();
    wolfSSL_CTX_set_TicketEncCb(context, ticket_callback);
    wolfSSL_CTX_set_TicketEncCtx(context, &slot->scope);
    wolfSSL_CTX_set_TicketHint(context, static_cast<int>(seconds));
    wolfSSL_CTX_set_timeout(context, static_cast<unsigned>(seconds));
  } else {
    wolfSSL_CTX_NoTicketTLSv12(context);
    wolfSSL_CTX_no_ticket_TLSv13(context);
  }
  return slot;
}

ServerContext::ServerContext() : impl_(std::make_unique<Impl>()) {}
ServerContext::~ServerContext() = default;

conf::Result<std::shared_ptr<const ServerContext>> ServerContext::make(
    const conf::TlsPolicy& policy, std::shared_ptr<const CertificateStore> store, TicketUse tickets,
    std::vector<std::string> alpn) {
  init();
  const auto any = [&policy](bool tls13) {
    return std::any_of(policy.suites.begin(), policy.suites.end(),
                       [tls13](conf::Suite suite) { return conf::is_tls13(suite) == tls13; });
  };
  ServerRules rules;
  rules.tls12 = policy.tls12 && any(false);
  rules.tls13 = policy.tls13 && any(true);
  std::copy_if(policy.suites.begin(), policy.suites.end(), std::back_inserter(rules.suites),
               [&rules](conf::Suite suite) { return wanted(rules, suite); });
  rules.groups = known_groups(policy.groups);
  rules.ignore_client_order = policy.ignore_client_order;
  rules.tickets = tickets.keys != nullptr;
  if (rules.tickets)
    rules.ticket_lifetime =
        std::clamp(tickets.lifetime, std::chrono::seconds(1), std::chrono::seconds(604800));
  if (rules.suites.empty()) return conf::error("no cipher suite fits the enabled versions");
  if (rules.groups.empty()) return conf::error("the TLS library has none of these groups");

  std::shared_ptr<ServerContext> context(new ServerContext);
  Impl& impl = *context->impl_;
  const auto find = [&store](const std::string& id) { return store->by_id(id); };
  for (const conf::SniEntry& entry : policy.sni) {
    auto certificate = find(entry.certificate);
    if (!certificate) return conf::error("there is no certificate " + conf::quoted(entry.certificate));
    auto& match = impl.sni[entry.subject];
    auto& side = certificate->key_type == KeyType::ecdsa ? match.ecdsa : match.rsa;
    if (!side) side = std::move(certificate);
  }
  if (!policy.certificate.empty()) {
    auto certificate = find(policy.certificate);
    if (!certificate) return conf::error("there is no certificate " + conf::quoted(policy.certificate));
    impl.listener = store->with_twin(certificate);
  }
  impl.pool = pool_for(std::move(rules), store, std::move(tickets.keys));
  impl.store = std::move(store);
  impl.alpn = std::move(alpn);
  return context;
}

CertificateStore::Match ServerContext::Impl::candidates(std::string_view name) const {
  if (!name.empty() && !sni.empty()) {
    auto found = sni.find(std::string(name));
    if (const size_t dot = name.find('.'); found == sni.end() && dot != std::string_view::npos)
      found = sni.find(std::string(name.substr(dot + 1)));
    if (found != sni.end()) return found->second;
  }
  if (auto match = store->by_name(name)) return match;
  return listener ? listener : store->fallback();
}

std::shared_ptr<const Certificate> ServerContext::Impl::choose(const ClientHello& hello) const {
  const CertificateStore::Match match = candidates(hello.server_name);
  if (!match.ecdsa || !match.rsa) return match.ecdsa ? match.ecdsa : match.rsa;
  return verifies(hello, pool->rules(), *match.ecdsa) ? match.ecdsa : match.rsa;
}

}  // namespace postern::tls
