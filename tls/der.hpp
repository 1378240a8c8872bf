// SPDX-License-Identifier: GPL-3.0-or-later
// The few facts of an X.509 certificate that configuration needs, read from DER without trusting it.
// Nothing here verifies anything.
#pragma once

#include <cstdint>
#include <ctime>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "conf/result.hpp"

namespace postern::tls {

/// Bytes cut into DER elements. A malformed element empties the reader and makes ok() false for good.
class DerReader {
 public:
  explicit DerReader(std::span<const uint8_t> bytes) : rest_(bytes) {}
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] bool done() const { return rest_.empty(); }
  [[nodiscard]] uint8_t next_tag() const { return rest_.empty() ? 0 : rest_[0]; }
  /// The content of the next element, which must have this tag.
  std::span<const uint8_t> take(uint8_t tag);
  /// The same, but an empty nullopt and no error if another tag is next.
  std::optional<std::span<const uint8_t>> maybe(uint8_t tag);
  /// The next element whatever it is.
  void skip();

 private:
  std::span<const uint8_t> any();
  std::span<const uint8_t> rest_;
  bool ok_ = true;
};

enum class KeyKind : uint8_t { rsa, p256, p384, p521, ed25519, other };

struct CertificateFacts {
  KeyKind key = KeyKind::other;
  unsigned rsa_bits = 0;
  std::vector<uint8_t> public_key;  // an RSA modulus without leading zeros, or an EC point
  std::time_t not_before = 0;
  std::time_t not_after = 0;
  std::vector<std::string> dns_names;              // subject alternative names, as they stand
  std::vector<std::string> common_names;           // of the subject
  std::vector<std::vector<uint8_t>> ip_addresses;  // 4 or 16 bytes each
};

/// Fails on anything but one whole certificate. Names with NULs or other control bytes are left out.
conf::Result<CertificateFacts> read_certificate(std::span<const uint8_t> der);

}  // namespace postern::tls
