// SPDX-License-Identifier: GPL-3.0-or-later
// What the operator said, checked and resolved: defaults filled in, listener over server over built-in
// merged key by key, aliases gone. Everything below reads this and never the file.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "conf/address.hpp"
#include "conf/secret.hpp"

namespace postern::conf {

using Duration = std::chrono::milliseconds;

/// An amount of memory.
struct Size {
  uint64_t bytes = 0;
  auto operator<=>(const Size&) const = default;
};
inline constexpr uint64_t mebibyte = uint64_t{1} << 20;

enum class Protocol : uint8_t { imap, pop3, managesieve, submission, smtp, lmtp, http };
inline constexpr size_t protocol_count = 7;

enum class TlsMode : uint8_t { plain, starttls, implicit };
enum class ProxyMode : uint8_t { off, optional, required };
enum class Forwarding : uint8_t { none, proxy, xclient };
enum class HeaderTrust : uint8_t { off, trust };
enum class LogFormat : uint8_t { logfmt, json };
enum class LogLevel : uint8_t { off, error, warn, info, debug, trace };
enum class Normalize : uint8_t { none, lowercase };
enum class MappingSource : uint8_t { file, redis, sql };
/// What a login gets when the store does not answer about its account; `fallback` is the word "default".
enum class OnError : uint8_t { stale, refuse, fallback };

/// The names used in the file and in every log record and label.
std::string_view name(Protocol);
std::string_view name(TlsMode);
std::string_view name(ProxyMode);
std::string_view name(Forwarding);
std::string_view name(LogLevel);

/// imap, pop3, managesieve, submission: Postern holds the dialogue itself.
constexpr bool interactive(Protocol p) { return p <= Protocol::submission; }
/// smtp, lmtp: an opaque stream.
constexpr bool passthrough(Protocol p) { return p == Protocol::smtp || p == Protocol::lmtp; }
constexpr bool carries_credentials(Protocol p) { return !passthrough(p); }

// --- TLS ------------------------------------------------------------------------------------------

/// The nine suites of configuration.md P2.3, in its order, which is the default preference.
enum class Suite : uint8_t {
  tls13_aes_256_gcm_sha384,
  tls13_aes_128_gcm_sha256,
  tls13_chacha20_poly1305_sha256,
  ecdhe_ecdsa_aes_256_gcm_sha384,
  ecdhe_ecdsa_aes_128_gcm_sha256,
  ecdhe_ecdsa_chacha20_poly1305,
  ecdhe_rsa_aes_256_gcm_sha384,
  ecdhe_rsa_aes_128_gcm_sha256,
  ecdhe_rsa_chacha20_poly1305,
};
inline constexpr size_t suite_count = 9;
constexpr bool is_tls13(Suite s) { return s <= Suite::tls13_chacha20_poly1305_sha256; }

enum class Group : uint8_t { x25519mlkem768, x25519, secp256r1, secp384r1 };
std::string_view name(Group);
std::string_view name(Suite);  // the first of those in configuration.md P2.3

struct SniEntry {
  std::string subject;      // lower case; a leading "*." is kept off (see certificate registration)
  std::string certificate;  // id of a declared certificate
  bool operator==(const SniEntry&) const = default;
};

/// TLS of one listener, all layers merged.
struct TlsPolicy {
  Duration timeout = std::chrono::minutes(1);
  bool tls12 = true;
  bool tls13 = true;
  std::vector<Suite> suites;  // in preference order; never empty; fits the enabled versions
  std::vector<Group> groups;  // in preference order; never empty
  bool ignore_client_order = false;
  std::string certificate;    // explicit fallback certificate, or empty
  std::vector<SniEntry> sni;  // the listener's list, or the server's when it has none
  bool operator==(const TlsPolicy&) const = default;
};

/// [tls.certificate.<id>]: where the PEM is. Loading it is tls/'s affair.
struct CertificateConf {
  std::string id;
  std::string cert;  // path, "file://..." or inline PEM, as written
  Secret key;        // the same; may hold an inline key
  std::vector<std::string> subjects;
  bool is_default = false;
  std::string path;  // key path in the file, "tls.certificate.default", for problems found later
  bool operator==(const CertificateConf&) const = default;
};

/// [tls.tickets]: stateless resumption.
struct TicketConf {
  bool enable = true;
  std::string file;                            // shared key file; empty: keys of this process only
  Duration rotate = std::chrono::hours(8);     // own keys only: a new key this often
  Duration lifetime = std::chrono::hours(24);  // how long a ticket is accepted; at most 7 days
  bool operator==(const TicketConf&) const = default;
};

// --- listeners ------------------------------------------------------------------------------------

struct SocketOptions {
  bool reuse_addr = true;
  bool reuse_port = true;
  uint32_t backlog = 1024;
  std::optional<uint32_t> ttl;
  std::optional<uint32_t> send_buffer_size;
  std::optional<uint32_t> recv_buffer_size;
  Duration linger{0};  // zero: untouched
  std::optional<uint32_t> tos;
  bool nodelay = true;
  bool operator==(const SocketOptions&) const = default;
};

struct ListenerConf {
  std::string name;
  Protocol protocol = Protocol::imap;
  std::vector<SocketAddress> bind;
  TlsMode tls_mode = TlsMode::plain;
  TlsPolicy tls;
  ProxyMode proxy_protocol = ProxyMode::off;
  std::vector<Cidr> proxy_trusted;
  uint32_t max_connections = 8192;
  uint32_t max_connections_per_client = 1024;  // effective: never zero
  Duration preauth_timeout = std::chrono::seconds(30);
  uint32_t max_auth_attempts = 3;
  uint32_t max_errors = 20;
  HeaderTrust forwarded = HeaderTrust::off;
  std::optional<std::string> greeting;
  SocketOptions socket;
  std::string path;  // "listener.imap" or "server.listener.imap", for problems found later
  bool operator==(const ListenerConf&) const = default;
};

// --- destinations ---------------------------------------------------------------------------------

enum class ProxyTlv : uint8_t { ssl, authority, alpn, unique_id, crc32c };

struct LegConf {
  uint16_t port = 0;
  TlsMode tls = TlsMode::plain;
  Forwarding forwarding = Forwarding::none;  // effective: leg over destination over proxy_protocol
  bool operator==(const LegConf&) const = default;
};

struct DestinationConf {
  std::string name;
  std::string host;
  std::string tls_server_name;  // effective: host when unset; empty for an IP without TLS legs
  bool forwarded = false;
  bool tls_allow_invalid_certs = false;
  std::optional<std::vector<uint8_t>> tls_pinned_cert_sha256;  // 32 bytes
  std::string tls_client_cert;                                 // path, file:// or inline PEM; empty: none
  Secret tls_client_key;
  std::vector<Ip> source_ips;
  bool hide_auth_errors = false;
  bool allow_plaintext_auth = false;
  std::vector<ProxyTlv> proxy_tlvs;
  bool proxy_map_v4 = false;
  std::optional<LegConf> legs[protocol_count];  // by Protocol
  std::string path;

  [[nodiscard]] const std::optional<LegConf>& leg(Protocol p) const { return legs[static_cast<size_t>(p)]; }
  bool operator==(const DestinationConf&) const = default;
};

// --- everything else ------------------------------------------------------------------------------

struct CapabilitiesConf {
  std::vector<std::string> sasl = {"PLAIN", "OAUTHBEARER", "XOAUTH2"};
  bool allow_plain_auth_without_tls = false;
  bool advertise_login = true;
  std::string banner;                  // imap, pop3, submission; empty: the host name and "ready"
  std::vector<std::string> advertise;  // imap
  std::vector<std::string> ehlo;       // submission
  std::string implementation;          // managesieve; pop3, where empty: not announced
  std::vector<std::string> sieve;      // managesieve
  bool operator==(const CapabilitiesConf&) const = default;
};

struct ServerConf {
  uint32_t threads = 0;  // 0: one per available core
  std::string hostname;
  Duration shutdown_grace = std::chrono::seconds(30);
  Duration bridge_idle = std::chrono::seconds(1800);
  Duration backend_timeout = std::chrono::seconds(10);
  uint32_t backend_connect_retries = 1;
  Duration stale_addresses = std::chrono::hours(24);
  uint32_t host_down_threshold = 5;
  uint32_t host_down_min_clients = 2;
  Duration host_down_cooldown = std::chrono::seconds(30);
  uint32_t proxy_ttl = 7;
  LogLevel log_level = LogLevel::info;  // RUST_LOG already applied
  LogFormat log_format = LogFormat::logfmt;
  bool strict_keys = true;
  bool extended_replies = true;
  bool core_dumps = false;  // allow core files, which would hold keys and passwords
  Duration proxy_header_timeout = std::chrono::seconds(1);
  Size preauth_memory{64 * mebibyte};
  bool operator==(const ServerConf&) const = default;
};

struct OAuthConf {
  std::string jwt_username_claim = "email";
  bool operator==(const OAuthConf&) const = default;
};

struct RoutingConf {
  std::string default_destination;
  std::string smtp_passthrough_destination;  // empty: unset
  std::vector<std::string> master_user_separators = {"%"};
  bool operator==(const RoutingConf&) const = default;
};

struct RedisConf {
  Secret url;  // may hold a password
  std::string key_prefix = "route:";
  uint32_t pool_size = 16;  // at least 1
  std::string password_file;
  std::string sentinel_password_file;
  std::string tls_ca;  // empty: the platform's trust
  std::string tls_server_name;
  std::optional<std::vector<uint8_t>> tls_pinned_cert_sha256;  // 32 bytes
  std::string tls_client_cert;
  Secret tls_client_key;
  bool operator==(const RedisConf&) const = default;
};

struct SqlConf {
  Secret url;  // may hold a password
  std::string query;
  uint32_t pool_size = 16;  // at least 1
  std::optional<std::string> upsert_query;
  std::optional<std::string> delete_query;
  bool prepared = true;
  std::string password_file;
  /// A store without both statements is never written to.
  [[nodiscard]] bool writable() const { return upsert_query && delete_query; }
  bool operator==(const SqlConf&) const = default;
};

struct MappingConf {
  MappingSource source = MappingSource::file;
  Normalize normalize = Normalize::none;
  Duration positive_ttl = std::chrono::seconds(600);
  Duration negative_ttl = std::chrono::seconds(30);
  uint64_t cache_max_entries = 1'000'000;
  Duration lookup_timeout = std::chrono::seconds(5);
  OnError on_error = OnError::stale;
  Duration stale_ttl = std::chrono::hours(24);
  bool require_at_start = false;
  std::string snapshot;  // empty: none
  std::string file_path;
  std::optional<RedisConf> redis;  // as the file has them, whatever the source
  std::optional<SqlConf> sql;
  bool operator==(const MappingConf&) const = default;
};

struct MetricsConf {
  SocketAddress bind;
  bool operator==(const MetricsConf&) const = default;
};

// clang-tidy 14 sees the loop over `capabilities` in the defaulted comparison.
struct Config {      // NOLINT(bugprone-reserved-identifier)
  std::string file;  // where it came from
  ServerConf server;
  TicketConf tickets;
  std::vector<CertificateConf> certificates;  // in file order
  std::vector<ListenerConf> listeners;        // in file order
  CapabilitiesConf capabilities[4];           // by Protocol, interactive ones only
  OAuthConf oauth;
  RoutingConf routing;
  MappingConf mapping;
  std::vector<DestinationConf> destinations;  // in file order
  std::optional<MetricsConf> metrics;

  [[nodiscard]] const DestinationConf* destination(std::string_view wanted) const {
    for (const auto& d : destinations)
      if (d.name == wanted) return &d;
    return nullptr;
  }
  bool operator==(const Config&) const = default;
};

}  // namespace postern::conf
