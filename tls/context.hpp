// SPDX-License-Identifier: GPL-3.0-or-later
// What engines are made from: a listener's policy with its certificates, or a destination's demands.
// Immutable; a reload makes new ones and the old ones live as long as their conversations.
#pragma once

#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "conf/config.hpp"
#include "conf/result.hpp"
#include "tls/certificate.hpp"
#include "tls/tickets.hpp"

namespace postern::tls {

/// Server side of one listener.
class ServerContext {
 public:
  /// `alpn`: the protocol names this listener speaks, best first. A client that offers ALPN but none of them
  /// is refused; one that offers no ALPN is served. Without names of ours ALPN is not looked at.
  static conf::Result<std::shared_ptr<const ServerContext>> make(
      const conf::TlsPolicy& policy, std::shared_ptr<const CertificateStore> store, TicketUse tickets,
      std::vector<std::string> alpn);
  ~ServerContext();
  struct Impl;
  [[nodiscard]] const Impl& impl() const { return *impl_; }

 private:
  ServerContext();
  std::unique_ptr<Impl> impl_;
};

/// Roots of trust for backends: SSL_CERT_FILE and SSL_CERT_DIR, else the platform's store. Loaded once a
/// reload.
class TrustStore {
 public:
  /// `previous` is handed back if its files are as they were and nothing it trusts has expired since.
  static std::shared_ptr<const TrustStore> load(const std::shared_ptr<const TrustStore>& previous = nullptr);
  /// The certificates of one PEM file and nothing else, for a peer with an authority of its own. An error
  /// where the file cannot be read or holds none that can be used.
  static conf::Result<std::shared_ptr<const TrustStore>> of_file(const std::string& path);
  ~TrustStore();
  [[nodiscard]] size_t roots() const;                // how many were found
  [[nodiscard]] bool read_any() const;               // a certificate was there, good or not
  [[nodiscard]] const std::string& problem() const;  // what an operator should know, or empty
  /// Whether a root, or an intermediate that a backend has shown, is past its end. The library goes on
  /// trusting both by what it remembers of them; a store loaded anew does not.
  [[nodiscard]] bool outlived(std::time_t now) const;
  struct Impl;
  [[nodiscard]] const Impl& impl() const { return *impl_; }

 private:
  TrustStore();
  std::unique_ptr<Impl> impl_;
};

/// Client side toward one destination: verification, pin, client certificate.
class ClientContext {
 public:
  static conf::Result<std::shared_ptr<const ClientContext>> make(const conf::DestinationConf& destination,
                                                                 std::shared_ptr<const TrustStore> trust);
  ~ClientContext();
  struct Impl;
  /// What an operator should know about the file of the client key, or empty.
  [[nodiscard]] const std::string& warning() const;
  /// Whether conversations may be started with either: the same demands, the same trust, the same client
  /// certificate.
  [[nodiscard]] bool same_as(const ClientContext& other) const;
  [[nodiscard]] const Impl& impl() const { return *impl_; }

 private:
  ClientContext();
  std::unique_ptr<Impl> impl_;
};

/// What library this is, for the log at start, `postern --version` and the metrics.
struct Library {
  std::string version;                // "wolfSSL 5.9.2"
  bool bundled = false;               // our own build
  bool fast_aes = false;              // AES instructions in use
  std::vector<conf::Group> groups;    // those it can do
  std::vector<std::string> warnings;  // what an operator should know, e.g. no AES-NI
};
const Library& library();
/// Process-wide start; call once before threads.
void init();

}  // namespace postern::tls
