// SPDX-License-Identifier: GPL-3.0-or-later
// Text and kernel forms of addresses. inet_pton is strict where it matters (no leading zeros, no zones),
// so it does the digits; brackets, ports and prefix lengths are done here.
#include "conf/address.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "conf/text.hpp"

namespace postern::conf {
namespace {

constexpr size_t longest_ip = INET6_ADDRSTRLEN;  // longer text cannot be an address
constexpr std::array<uint8_t, 12> mapped_prefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool is_mapped(std::span<const uint8_t, 16> bytes) {
  return std::equal(mapped_prefix.begin(), mapped_prefix.end(), bytes.begin());
}

bool to_binary(int family, std::string_view text, void* out) {
  if (text.size() >= longest_ip || text.find('\0') != std::string_view::npos) return false;
  std::array<char, longest_ip> zero_terminated{};
  std::copy(text.begin(), text.end(), zero_terminated.begin());
  return inet_pton(family, zero_terminated.data(), out) == 1;
}

}  // namespace

Ip Ip::v4(std::span<const uint8_t, 4> bytes) {
  Ip ip;
  std::copy(bytes.begin(), bytes.end(), ip.bytes_.begin());
  return ip;
}

Ip Ip::v6(std::span<const uint8_t, 16> bytes) {
  if (is_mapped(bytes)) return v4(bytes.subspan<12, 4>());
  Ip ip;
  ip.v4_ = false;
  std::copy(bytes.begin(), bytes.end(), ip.bytes_.begin());
  return ip;
}

Result<Ip> Ip::parse(std::string_view text) {
  std::array<uint8_t, 16> bytes{};
  if (text.find(':') != std::string_view::npos) {
    if (to_binary(AF_INET6, text, bytes.data())) return v6(bytes);
  } else if (to_binary(AF_INET, text, bytes.data())) {
    return v4(std::span(bytes).first<4>());
  }
  return error(quoted(text) + " is not an IP address");
}

bool Ip::is_any() const {
  return std::all_of(bytes().begin(), bytes().end(), [](uint8_t byte) { return byte == 0; });
}

bool Ip::is_loopback() const {
  if (v4_) return bytes_[0] == 127;
  return bytes_[15] == 1 && std::all_of(bytes_.begin(), bytes_.end() - 1, [](uint8_t b) { return b == 0; });
}

std::string Ip::text() const {
  std::array<char, longest_ip> out{};
  return inet_ntop(v4_ ? AF_INET : AF_INET6, bytes_.data(), out.data(), out.size());
}

Result<SocketAddress> SocketAddress::parse(std::string_view text) {
  const auto refuse = [&](std::string_view why) { return error(quoted(text) + " " + std::string(why)); };
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) {
    return refuse(Ip::parse(text) ? "has no port" : "is not an address with a port");
  }
  std::string_view host = text.substr(0, colon);
  const bool bracketed = host.size() >= 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  if (bracketed != (host.find(':') != std::string_view::npos)) {
    if (Ip::parse(text)) return refuse("has no port; write [" + std::string(text) + "]:PORT");
    return refuse("is not an address with a port");
  }
  const auto ip = Ip::parse(host);
  if (!ip) return refuse("is not an IP address with a port; host names are not accepted");
  const auto port = parse_number(text.substr(colon + 1), UINT16_MAX);
  if (!port) return refuse("has no valid port");
  return SocketAddress{*ip, static_cast<uint16_t>(*port)};
}

SocketAddress SocketAddress::from(const sockaddr* address) {
  if (address != nullptr && address->sa_family == AF_INET) {
    sockaddr_in in{};
    std::memcpy(&in, address, sizeof in);
    std::array<uint8_t, 4> bytes{};
    std::memcpy(bytes.data(), &in.sin_addr, bytes.size());
    return {Ip::v4(bytes), ntohs(in.sin_port)};
  }
  if (address != nullptr && address->sa_family == AF_INET6) {
    sockaddr_in6 in{};
    std::memcpy(&in, address, sizeof in);
    std::array<uint8_t, 16> bytes{};
    std::memcpy(bytes.data(), &in.sin6_addr, bytes.size());
    return {Ip::v6(bytes), ntohs(in.sin6_port)};
  }
  return {};
}

socklen_t SocketAddress::to(sockaddr_storage& out, bool mapped) const {
  std::memset(&out, 0, sizeof out);
  if (ip.is_v4() && !mapped) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(port);
    std::memcpy(&in.sin_addr, ip.bytes().data(), 4);
    std::memcpy(&out, &in, sizeof in);
    return sizeof in;
  }
  sockaddr_in6 in{};
  in.sin6_family = AF_INET6;
  in.sin6_port = htons(port);
  auto* bytes = reinterpret_cast<uint8_t*>(&in.sin6_addr);
  if (ip.is_v4()) {
    std::copy(mapped_prefix.begin(), mapped_prefix.end(), bytes);
    std::copy(ip.bytes().begin(), ip.bytes().end(), bytes + mapped_prefix.size());
  } else {
    std::copy(ip.bytes().begin(), ip.bytes().end(), bytes);
  }
  std::memcpy(&out, &in, sizeof in);
  return sizeof in;
}

std::string SocketAddress::text() const {
  return ip.is_v4() ? fmt::format("{}:{}", ip.text(), port) : fmt::format("[{}]:{}", ip.text(), port);
}

Result<Cidr> Cidr::parse(std::string_view text) {
  const size_t slash = text.find('/');
  const std::string_view address = text.substr(0, slash);
  const auto ip = Ip::parse(address);
  if (!ip) return error(quoted(text) + " is not an address range");
  const bool written_v6 = address.find(':') != std::string_view::npos;
  const unsigned width = written_v6 ? 128 : 32;
  unsigned bits = width;
  if (slash != std::string_view::npos) {
    const auto length = parse_number(text.substr(slash + 1), width);
    if (!length) return error(quoted(text) + " has no prefix length between 0 and " + std::to_string(width));
    bits = static_cast<unsigned>(*length);
  }
  if (written_v6 && ip->is_v4()) {
    // Fewer than 96 bits would also hold native IPv6 addresses; nobody who writes that means it.
    if (bits < 96) return error(quoted(text) + " mixes IPv4 and IPv6; write it as an IPv4 range");
    bits -= 96;
  }
  std::array<uint8_t, 16> masked{};
  std::copy(ip->bytes().begin(), ip->bytes().end(), masked.begin());
  for (unsigned i = 0; i < masked.size(); ++i) {
    const unsigned kept = bits <= i * 8 ? 0 : std::min(8u, bits - i * 8);
    masked[i] = static_cast<uint8_t>(masked[i] & (0xff00u >> kept));
  }
  const Ip base = ip->is_v4() ? Ip::v4(std::span(masked).first<4>()) : Ip::v6(masked);
  return Cidr{base, static_cast<uint8_t>(bits)};
}

bool Cidr::contains(const Ip& ip) const {
  if (ip.is_v4() != base.is_v4()) return false;
  const auto theirs = ip.bytes();
  const auto ours = base.bytes();
  for (unsigned i = 0; i < ours.size() && i * 8 < bits; ++i) {
    const unsigned kept = std::min(8u, bits - i * 8);
    if (((theirs[i] ^ ours[i]) & (0xff00u >> kept) & 0xffu) != 0) return false;
  }
  return true;
}

std::string Cidr::text() const { return base.text() + "/" + std::to_string(bits); }

}  // namespace postern::conf
