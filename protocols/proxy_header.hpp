// SPDX-License-Identifier: GPL-3.0-or-later
// The PROXY protocol header as a value: parsed from the first bytes of a stream, or written in front
// of one. Pure: bytes in, bytes out (forwarding.md 1 and 2).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "conf/address.hpp"
#include "conf/config.hpp"

namespace postern::protocols {

/// What a header says. Addresses are normalised (conf::Ip); TLVs are copies, bounded by the header's size.
struct ProxyHeader {
  uint8_t version = 2;
  bool local = false;  // LOCAL, UNKNOWN, unspecified or Unix: the socket addresses stay
  conf::SocketAddress source;
  conf::SocketAddress destination;

  // TLVs (version 2), absent unless the header carried them.
  std::string alpn;       // 01
  std::string authority;  // 02
  std::string unique_id;  // 05, at most 128 bytes
  struct Ssl {            // 20
    uint8_t client = 0;   // bit field: 1 SSL, 2 CERT_CONN, 4 CERT_SESS
    uint32_t verify = 0;
    std::string version;     // 21
    std::string cn;          // 22
    std::string cipher;      // 23
    std::string sig_alg;     // 24
    std::string key_alg;     // 25
    std::string group;       // 26
    std::string sig_scheme;  // 27
  };
  std::optional<Ssl> ssl;
};

inline constexpr size_t proxy_v1_max = 107;   // with CR LF
inline constexpr size_t proxy_v2_max = 4096;  // whole header

enum class ProxyVerdict : uint8_t {
  more,       // a prefix of a header so far: feed more
  absent,     // the first bytes cannot be a header
  malformed,  // a signature, and then something invalid
  complete,
};

struct ProxyParse {
  ProxyVerdict verdict = ProxyVerdict::more;
  size_t consumed = 0;      // complete: the header's length; what follows belongs to the stream
  const char* reason = "";  // malformed: one clause for the log
  ProxyHeader header;
};

/// A function of the bytes so far: callers keep the input and call again with more.
ProxyParse parse_proxy_header(std::span<const uint8_t> bytes);

/// What an outbound header is made of.
struct ProxyOut {
  conf::SocketAddress source;
  conf::SocketAddress destination;
  bool map_v4 = false;  // mixed families: both as IPv6 (v4-mapped) instead of PROXY UNKNOWN
  std::span<const conf::ProxyTlv> tlvs;
  // Facts of the client leg for the TLVs; an absent fact leaves its TLV out.
  std::string_view alpn;
  std::string_view authority;
  std::string_view unique_id;
  bool tls = false;  // client leg encrypted: bit PP2_CLIENT_SSL
  std::string_view tls_version;
  std::string_view tls_cipher;
  std::string_view tls_group;
  std::string_view tls_sig_scheme;
};

/// The header's bytes: version 2, or `PROXY UNKNOWN` CR LF when the families differ.
std::string write_proxy_header(const ProxyOut& out);
/// For a connection of our own, which speaks for nobody: version 2, LOCAL.
std::string local_proxy_header();

}  // namespace postern::protocols
