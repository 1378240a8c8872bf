// SPDX-License-Identifier: GPL-3.0-or-later
// The file, table by table, before layers are merged: one struct a table. Where a table of config.hpp already
// has the shape of the file, it is used as it is.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "conf/config.hpp"
#include "conf/schema/codecs.hpp"

namespace postern::conf {

// --- TLS ------------------------------------------------------------------------------------------

/// The keys that choose the mode, which [server.tls] and the table form of `tls` have.
struct TlsModeKeys {
  std::optional<bool> enable;
  std::optional<bool> implicit;
  std::optional<TlsMode> mode;

  [[nodiscard]] bool any() const { return enable || implicit || mode; }
};

/// The keys of every TLS layer. Later layers are read onto the values of earlier ones.
struct TlsOptions {
  Duration timeout = std::chrono::minutes(1);
  std::string certificate;
  std::vector<SniEntry> sni;
  std::vector<TlsVersion> protocols = {TlsVersion::tls12, TlsVersion::tls13};
  std::vector<TlsVersion> disable_protocols;
  std::vector<Suite> ciphers;  // empty: all nine
  std::vector<Suite> disable_ciphers;
  std::vector<Group> groups = {Group::x25519mlkem768, Group::x25519, Group::secp256r1, Group::secp384r1};
  bool ignore_client_order = false;
};

struct TlsTable {
  TlsModeKeys mode;
  TlsOptions options;
};

struct TlsProtocols {  // [tls.protocols]
  std::string min_version = "1.2";
  bool ignore_client_order = false;
  std::vector<Suite> disable_cipher_suites;
};

struct TlsFile {  // [tls]
  Named<CertificateConf> certificate;
  TlsProtocols protocols;
  TicketConf tickets;
};

// --- listeners ------------------------------------------------------------------------------------

/// `tls` of a listener: a mode, or a table.
struct ModeOrTable {
  std::optional<TlsMode> mode;
  Later<TlsTable> table;

  [[nodiscard]] bool given() const { return mode || table; }
};

struct ListenerFile {
  ListenerConf conf;
  std::vector<std::string> bind;  // parsed once protocol and mode, and with them the usual port, are known
  ModeOrTable tls;
  Later<TlsOptions> tls_options;
  Later<SocketOptions> socket;
  std::optional<uint32_t> max_connections_per_client;
};

struct ServerFile {
  ServerConf conf;
  std::string log_level = "info";
  uint32_t max_connections = 8192;
  std::optional<uint32_t> max_connections_per_client;
  std::optional<std::string> listener_state;
  SocketOptions socket;
  Later<TlsTable> tls;
  Named<ListenerFile> listener;
};

// --- destinations ---------------------------------------------------------------------------------

struct LegFile {
  LegConf conf;
  std::optional<Forwarding> forwarding;
};

struct DestinationFile {
  DestinationConf conf;
  std::optional<std::string> tls_pinned_cert_sha256;
  bool proxy_protocol = true;
  std::optional<Forwarding> forwarding;
  Named<LegFile> protocol;
};

// --- the rest -------------------------------------------------------------------------------------

/// The four tables of capabilities share a struct but neither keys nor defaults.
template <Protocol p>
struct Capabilities : CapabilitiesConf {
  Capabilities();
};

struct CapabilitiesFile {
  Capabilities<Protocol::imap> imap;
  Capabilities<Protocol::pop3> pop3;
  Capabilities<Protocol::managesieve> managesieve;
  Capabilities<Protocol::submission> submission;
};

struct MappingFileTable {
  std::string path;
};
struct RedisFile {
  RedisConf conf;
  std::optional<std::string> tls_pinned_cert_sha256;
};
struct MappingFile {
  MappingConf conf;
  std::optional<MappingSource> source;  // nothing: missing or no known word, and said so
  std::optional<MappingFileTable> file;
  std::optional<RedisFile> redis;
  std::optional<SqlConf> sql;
};

enum class ExtractFrom : uint8_t { authorization, query, header, body };
struct ExtractFile {
  ExtractFrom from = ExtractFrom::authorization;
  std::optional<std::string> param;
  std::optional<std::string> header;
  std::optional<std::string> regex;
};
struct RouteFile {
  std::string match;
  std::optional<std::string> destination;
  std::optional<ExtractFile> extract;
  std::optional<std::string> fallback;
};
struct HttpFile {
  uint32_t body_extract_cap = 65536;
  uint32_t max_head_size = 65536;
  Duration relay_idle = std::chrono::seconds(60);
  Duration keepalive_timeout = std::chrono::seconds(75);
  uint32_t max_keepalive_requests = 1000;
  std::vector<RouteFile> route;
};

struct AdminFile {
  SocketAddress bind;
  std::string tls = "implicit";
  std::optional<std::string> bearer_token_file;
  Secret bearer_token;
  uint32_t min_token_len = 32;
  uint32_t lockout_threshold = 5;
  Duration lockout_duration = std::chrono::minutes(5);
};

/// The whole file.
struct File {
  ServerFile server;
  TlsFile tls;
  Named<CertificateConf> certificate;
  Named<ListenerFile> listener;
  CapabilitiesFile capabilities;
  OAuthConf oauth;
  std::optional<RoutingConf> routing;
  std::optional<MappingFile> mapping;
  Named<DestinationFile> destination;
  HttpFile http;
  std::optional<AdminFile> admin;
  std::optional<MetricsConf> metrics;
};

// --- which structs have rows (rows_*.cpp) ----------------------------------------------------------

// NOLINTBEGIN(bugprone-macro-parentheses): a type cannot stand in parentheses here
#define POSTERN_ROWS(Struct)                   \
  template <>                                  \
  struct Rows<Struct> {                        \
    static std::span<const Row<Struct>> all(); \
  }
// NOLINTEND(bugprone-macro-parentheses)

POSTERN_ROWS(SniEntry);
POSTERN_ROWS(TlsModeKeys);
POSTERN_ROWS(TlsOptions);
POSTERN_ROWS(TlsTable);
POSTERN_ROWS(TlsProtocols);
POSTERN_ROWS(TicketConf);
POSTERN_ROWS(CertificateConf);
POSTERN_ROWS(TlsFile);
POSTERN_ROWS(SocketOptions);
POSTERN_ROWS(ListenerConf);
POSTERN_ROWS(ListenerFile);
POSTERN_ROWS(ServerConf);
POSTERN_ROWS(ServerFile);
POSTERN_ROWS(LegConf);
POSTERN_ROWS(LegFile);
POSTERN_ROWS(DestinationConf);
POSTERN_ROWS(DestinationFile);
POSTERN_ROWS(Capabilities<Protocol::imap>);
POSTERN_ROWS(Capabilities<Protocol::pop3>);
POSTERN_ROWS(Capabilities<Protocol::managesieve>);
POSTERN_ROWS(Capabilities<Protocol::submission>);
POSTERN_ROWS(CapabilitiesFile);
POSTERN_ROWS(OAuthConf);
POSTERN_ROWS(RoutingConf);
POSTERN_ROWS(MappingFileTable);
POSTERN_ROWS(RedisConf);
POSTERN_ROWS(RedisFile);
POSTERN_ROWS(SqlConf);
POSTERN_ROWS(MappingConf);
POSTERN_ROWS(MappingFile);
POSTERN_ROWS(ExtractFile);
POSTERN_ROWS(RouteFile);
POSTERN_ROWS(HttpFile);
POSTERN_ROWS(AdminFile);
POSTERN_ROWS(MetricsConf);
POSTERN_ROWS(File);
#undef POSTERN_ROWS

template <>
std::span<const Word<ExtractFrom>> words();

template <>
struct Codec<ModeOrTable> {
  static bool read(Reader& reader, const Limits& limits, const Node& node, const std::string& path,
                   ModeOrTable& out);
  static TypeDoc type(const Limits& limits);
  static std::string text(const ModeOrTable&, const Limits& limits) { return std::string(limits.unset); }
};

}  // namespace postern::conf
