// SPDX-License-Identifier: GPL-3.0-or-later
// Behind ServerContext: one WOLFSSL_CTX for each pair of policy and certificate, made at first use.
// Internal to tls/.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tls/client_hello.hpp"
#include "tls/context.hpp"
#include "tls/rsa_power.hpp"
#include "tls/ticket_seal.hpp"
#include "tls/wolfssl.hpp"

namespace postern::tls {

/// What of a policy is built into a WOLFSSL_CTX. Listeners with equal rules share their contexts.
struct ServerRules {
  bool tls12 = false;
  bool tls13 = false;
  std::vector<conf::Suite> suites;
  std::vector<conf::Group> groups;
  bool ignore_client_order = false;
  bool tickets = false;
  std::chrono::seconds ticket_lifetime{0};
  bool operator==(const ServerRules&) const = default;
};

/// One certificate under one set of rules. Connections hold it: the ticket call-back points into it.
struct ServerSlot {
  std::shared_ptr<const Certificate> certificate;
  TicketScope scope;
  std::unique_ptr<const RsaPower> rsa;  // null: nobody is faster than the TLS library
  ContextHandle context;
};

/// All slots of one store under one set of rules.
class ServerPool {
 public:
  ServerPool(ServerRules rules, std::shared_ptr<const CertificateStore> store,
             std::shared_ptr<const TicketKeys> tickets);
  /// Null only if the library refuses the pair or memory is out. From any thread.
  [[nodiscard]] std::shared_ptr<const ServerSlot> slot(
      const std::shared_ptr<const Certificate>& certificate) const;
  [[nodiscard]] const ServerRules& rules() const { return rules_; }
  [[nodiscard]] bool serves(const ServerRules& rules, const CertificateStore* store,
                            const TicketKeys* tickets) const {
    return rules_ == rules && store_.get() == store && tickets_.get() == tickets;
  }

 private:
  struct Place {
    std::mutex mutex;
    std::shared_ptr<const ServerSlot> slot;
  };
  [[nodiscard]] std::shared_ptr<const ServerSlot> build(
      const std::shared_ptr<const Certificate>& certificate) const;

  ServerRules rules_;
  std::shared_ptr<const CertificateStore> store_;
  std::shared_ptr<const TicketKeys> tickets_;
  mutable std::unordered_map<const Certificate*, Place> places_;  // the map itself never changes
};

struct ServerContext::Impl {
  std::shared_ptr<const ServerPool> pool;
  std::shared_ptr<const CertificateStore> store;
  std::unordered_map<std::string, CertificateStore::Match> sni;  // the listener's own list
  CertificateStore::Match listener;                              // its `certificate`
  std::vector<std::string> alpn;

  /// Steps 1 to 4 of configuration.md P2.2, then the key type the client can verify.
  [[nodiscard]] std::shared_ptr<const Certificate> choose(const ClientHello& hello) const;

 private:
  [[nodiscard]] CertificateStore::Match candidates(std::string_view name) const;
};

}  // namespace postern::tls
