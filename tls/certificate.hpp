// SPDX-License-Identifier: GPL-3.0-or-later
// Certificates with their keys: loaded, checked as pairs, and found by name. Immutable once loaded; a
// rotation makes a new store.
#pragma once

#include <array>
#include <cstdint>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "conf/config.hpp"
#include "conf/problem.hpp"
#include "conf/result.hpp"

namespace postern::tls {

enum class KeyType : uint8_t { ecdsa, rsa };

struct Certificate {
  std::string id;
  std::vector<std::string> names;  // as registered: lower case, "*." removed; "*" is the catch-all
  std::vector<std::string> shown;  // the same for people: lower case, with what was removed
  bool catch_all = false;
  KeyType key_type = KeyType::ecdsa;
  uint16_t signature_scheme = 0;  // ecdsa: TLS 1.3's number for this curve, else 0
  uint16_t curve = 0;             // ecdsa: the group's number, else 0
  std::string chain_pem;          // the certificates alone, leaf first
  conf::Secret key_pem;
  std::array<uint8_t, 32> sha256{};  // of the DER leaf
  std::time_t not_before = 0;
  std::time_t not_after = 0;
  std::vector<std::string> files;  // what to watch
  bool operator==(const Certificate&) const = default;
};

/// Reads a PEM source as configuration.md P2.4 says: inline, file://, or a path.
conf::Result<std::string> read_pem(std::string_view source);
/// The path behind a source, or nullopt for inline PEM.
std::optional<std::string> pem_path(std::string_view source);

/// A chain and its key from two sources, checked as a pair. `of_key` says whose fault an error is.
struct Pair {
  Certificate certificate;  // without id
  bool of_key = false;
  std::string error;    // empty: it is good
  std::string exposed;  // what the operator should know about the key's file, or empty
};
Pair load_pair(std::string_view cert_source, const conf::Secret& key_source);

/// Loads one pair: parses, matches, extracts names. Expired or not yet valid is no error here (see usable()).
conf::Result<std::shared_ptr<const Certificate>> load_certificate(const conf::CertificateConf& entry);

class CertificateStore {
 public:
  /// Loads every entry. A bad entry is a problem; an expired one a warning. With `kept`, a bad or expired new
  /// pair is reported as a warning, the previous one of that id stays, and the id is added there. What is as
  /// it was in `previous` is shared with it, up to the store as a whole, so that nothing is made twice.
  static std::shared_ptr<const CertificateStore> load(const std::vector<conf::CertificateConf>& entries,
                                                      const std::shared_ptr<const CertificateStore>& previous,
                                                      conf::Problems& problems,
                                                      std::vector<std::string>* kept = nullptr);

  [[nodiscard]] const std::vector<std::shared_ptr<const Certificate>>& all() const { return all_; }
  [[nodiscard]] std::shared_ptr<const Certificate> by_id(std::string_view id) const;
  /// Names registered by entries: exact, then parent. At most one of each key type.
  struct Match {
    std::shared_ptr<const Certificate> ecdsa, rsa;
    explicit operator bool() const { return ecdsa || rsa; }
  };
  [[nodiscard]] Match by_name(std::string_view server_name) const;
  /// A certificate and, of the other key type, one that is registered under one of its names.
  [[nodiscard]] Match with_twin(const std::shared_ptr<const Certificate>& certificate) const;
  /// Steps 3 to 5 of configuration.md 4.2: catch-all, single entry, self-signed.
  [[nodiscard]] Match fallback() const;
  [[nodiscard]] bool usable() const;  // nothing expired: for /readyz
  [[nodiscard]] std::vector<std::string> files() const;

  CertificateStore(const CertificateStore&) = delete;
  CertificateStore& operator=(const CertificateStore&) = delete;
  ~CertificateStore();

 private:
  CertificateStore();
  struct Index;
  std::vector<std::shared_ptr<const Certificate>> all_;
  std::unique_ptr<Index> index_;
};

/// The self-signed certificate for localhost; made once a process.
std::shared_ptr<const Certificate> self_signed();

}  // namespace postern::tls
