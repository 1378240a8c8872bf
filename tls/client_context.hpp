// SPDX-License-Identifier: GPL-3.0-or-later
// Behind ClientContext and TrustStore. Internal to tls/.
#pragma once

#include <array>
#include <atomic>
#include <ctime>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "tls/certificate.hpp"
#include "tls/context.hpp"
#include "tls/wolfssl.hpp"

namespace postern::tls {

/// Destinations differ in what they demand of a certificate; that is decided per connection. So those with
/// the same trust share one context, and the roots are loaded once.
struct TrustStore::Impl {
  std::shared_ptr<WOLFSSL_CTX> verifying;  // with the roots
  std::shared_ptr<WOLFSSL_CTX> trusting;   // verifies nothing
  size_t roots = 0;
  bool read_any = false;
  std::string problem;
  std::array<uint8_t, 32> digest{};  // of everything that was read
  /// When the first of what is trusted ends: roots, and what verified conversations have added since.
  mutable std::atomic<std::time_t> until{std::numeric_limits<std::time_t>::max()};
  void trusted_until(std::time_t end) const {
    std::time_t known = until.load(std::memory_order_relaxed);
    while (end < known && !until.compare_exchange_weak(known, end, std::memory_order_relaxed)) {
    }
  }
};

struct ClientContext::Impl {
  std::shared_ptr<const TrustStore> trust;
  std::shared_ptr<WOLFSSL_CTX> context;  // the trust store's, or one of its own for a pin
  bool verifies = true;                  // issuer, dates and name
  std::optional<std::array<uint8_t, 32>> pin;
  std::optional<Certificate> own;  // for mutual TLS
  std::string warning;             // about the file of its key
  uint64_t id = 0;                 // no two contexts of a process share it
};

/// A context for the client role, as yet without roots and without verification; null when out of memory.
std::shared_ptr<WOLFSSL_CTX> client_base();

/// Whether the leaf is for this host: a DNS name (RFC 9525, and the common name of a certificate that has no
/// DNS names at all, as private CAs still make them) or the text of an IP address.
bool names_host(std::span<const uint8_t> leaf, std::string_view host);

}  // namespace postern::tls
