// SPDX-License-Identifier: GPL-3.0-or-later
// Addresses as values: an IP, an IP with a port, a range. IPv4-mapped IPv6 is IPv4 from the start
// (forwarding.md 1.6), so nothing behind this file has to think of it.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <compare>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "conf/result.hpp"

namespace postern::conf {

/// An IPv4 or IPv6 address. Invariant: never an IPv4-mapped IPv6 address (constructors normalise).
class Ip {
 public:
  Ip() = default;  // 0.0.0.0
  static Ip v4(std::span<const uint8_t, 4> bytes);
  static Ip v6(std::span<const uint8_t, 16> bytes);
  /// Strict text: dotted quad without leading zeros, or RFC 4291; no zone, no brackets, no port.
  static Result<Ip> parse(std::string_view text);

  [[nodiscard]] bool is_v4() const { return v4_; }
  [[nodiscard]] bool is_any() const;       // 0.0.0.0 or ::
  [[nodiscard]] bool is_loopback() const;  // 127.0.0.0/8 or ::1
  [[nodiscard]] std::span<const uint8_t> bytes() const { return {bytes_.data(), v4_ ? 4u : 16u}; }
  [[nodiscard]] std::string text() const;  // RFC 5952, no brackets

  auto operator<=>(const Ip&) const = default;

 private:
  std::array<uint8_t, 16> bytes_{};  // IPv4: the first four
  bool v4_ = true;
};

/// An address and a port.
struct SocketAddress {
  Ip ip;
  uint16_t port = 0;

  /// "1.2.3.4:993" or "[2001:db8::1]:993"; host names are refused.
  static Result<SocketAddress> parse(std::string_view text);
  /// From the kernel; an unknown family gives 0.0.0.0:0.
  static SocketAddress from(const sockaddr* address);
  /// Fills `out` and returns its length. `mapped` writes IPv4 as ::ffff:a.b.c.d.
  socklen_t to(sockaddr_storage& out, bool mapped = false) const;
  [[nodiscard]] std::string text() const;  // "1.2.3.4:993", "[::1]:993"

  auto operator<=>(const SocketAddress&) const = default;
};

/// A range; host bits are masked off. An IPv4 range never holds a native IPv6 address and vice versa.
struct Cidr {
  Ip base;
  uint8_t bits = 32;

  static Result<Cidr> parse(std::string_view text);
  [[nodiscard]] bool contains(const Ip& ip) const;
  [[nodiscard]] std::string text() const;
  bool operator==(const Cidr&) const = default;
};

}  // namespace postern::conf
