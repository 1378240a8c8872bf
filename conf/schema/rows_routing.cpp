// SPDX-License-Identifier: GPL-3.0-or-later
// The rows of everything behind the listeners: capabilities, routing, destinations, HTTP, management.
#include "conf/schema/checks.hpp"
#include "conf/schema/tables.hpp"

namespace postern::conf {
namespace {

constexpr Limits positive = {.min = 1};
constexpr Limits filled_text = {.check = check_filled};
constexpr Limits needed_text = {.required = true, .check = check_filled};

constexpr std::array<Word<ExtractFrom>, 4> extract_sources = {{{"authorization", ExtractFrom::authorization},
                                                               {"query", ExtractFrom::query},
                                                               {"header", ExtractFrom::header},
                                                               {"body", ExtractFrom::body}}};

template <class S>
constexpr Row<S> sasl_row = key<&CapabilitiesConf::sasl, S>("sasl", "SASL mechanisms on offer, in order.",
                                                            {.check = check_sasl});
template <class S>
constexpr Row<S> clear_row = key<&CapabilitiesConf::allow_plain_auth_without_tls, S>(
    "allow_plain_auth_without_tls", "Whether passwords may cross an unencrypted connection.");
template <class S>
constexpr Row<S> login_row = key<&CapabilitiesConf::advertise_login, S>(
    "advertise_login", "Whether `LOGIN` is announced where it is in `sasl`; it works either way.");
template <class S>
constexpr Row<S> banner_row = key<&CapabilitiesConf::banner, S>(
    "banner", "Text of the greeting; empty: `server.hostname` and \"ready\".", {.check = check_line});

static_assert(fields<CapabilitiesConf>() == 8, "a new member needs a row in the tables that have it");

}  // namespace

template <>
std::span<const Word<ExtractFrom>> words() {
  return extract_sources;
}

template <>
Capabilities<Protocol::imap>::Capabilities() {
  advertise = {"IMAP4rev2", "IMAP4rev1", "ENABLE", "SASL-IR", "LITERAL+", "ID", "IDLE", "UTF8=ACCEPT"};
}
template <>
Capabilities<Protocol::pop3>::Capabilities() = default;
template <>
Capabilities<Protocol::submission>::Capabilities() {
  ehlo = {"ENHANCEDSTATUSCODES", "8BITMIME", "BINARYMIME", "SMTPUTF8",
          "PIPELINING",          "CHUNKING", "REQUIRETLS", "SIZE"};
}
template <>
Capabilities<Protocol::managesieve>::Capabilities() {
  implementation = "Postern";
  sieve = {"body",
           "comparator-elbonia",
           "comparator-i;ascii-casemap",
           "comparator-i;ascii-numeric",
           "comparator-i;octet",
           "convert",
           "copy",
           "date",
           "duplicate",
           "editheader",
           "enclose",
           "encoded-character",
           "enotify",
           "envelope",
           "envelope-deliverby",
           "envelope-dsn",
           "environment",
           "ereject",
           "extlists",
           "extracttext",
           "fcc",
           "fileinto",
           "foreverypart",
           "ihave",
           "imap4flags",
           "imapsieve",
           "include",
           "index",
           "mailbox",
           "mailboxid",
           "mboxmetadata",
           "mime",
           "redirect-deliverby",
           "redirect-dsn",
           "regex",
           "reject",
           "relational",
           "replace",
           "servermetadata",
           "spamtest",
           "spamtestplus",
           "special-use",
           "subaddress",
           "vacation",
           "vacation-seconds",
           "variables",
           "virustest"};
}

std::span<const Row<Capabilities<Protocol::imap>>> Rows<Capabilities<Protocol::imap>>::all() {
  using S = Capabilities<Protocol::imap>;
  static constexpr std::array rows = {
      sasl_row<S>,
      clear_row<S>,
      login_row<S>,
      banner_row<S>,
      key<&CapabilitiesConf::advertise, S>(
          "advertise",
          "Capabilities announced, as written. Only where the key is missing, `JMAPACCESS` is added if there "
          "is an `http` listener.",
          {.check = check_word}),
  };
  return rows;
}

std::span<const Row<Capabilities<Protocol::pop3>>> Rows<Capabilities<Protocol::pop3>>::all() {
  using S = Capabilities<Protocol::pop3>;
  static constexpr std::array rows = {
      sasl_row<S>,
      clear_row<S>,
      login_row<S>,
      banner_row<S>,
      key<&CapabilitiesConf::implementation, S>(
          "implementation", "`IMPLEMENTATION` as announced; empty: not announced.", {.check = check_line}),
  };
  return rows;
}

std::span<const Row<Capabilities<Protocol::managesieve>>> Rows<Capabilities<Protocol::managesieve>>::all() {
  using S = Capabilities<Protocol::managesieve>;
  static constexpr std::array rows = {
      sasl_row<S>,
      clear_row<S>,
      login_row<S>,
      key<&CapabilitiesConf::implementation, S>("implementation", "`IMPLEMENTATION` as announced.",
                                                {.check = check_line}),
      key<&CapabilitiesConf::sieve, S>(
          "sieve", "Sieve extensions announced; with `enotify` among them, `NOTIFY \"mailto\"` is as well.",
          {.check = check_word}),
  };
  return rows;
}

std::span<const Row<Capabilities<Protocol::submission>>> Rows<Capabilities<Protocol::submission>>::all() {
  using S = Capabilities<Protocol::submission>;
  static constexpr std::array rows = {
      sasl_row<S>,
      clear_row<S>,
      login_row<S>,
      banner_row<S>,
      key<&CapabilitiesConf::ehlo, S>("ehlo", "Lines of the `EHLO` answer, as written.",
                                      {.check = check_item}),
  };
  return rows;
}

std::span<const Row<CapabilitiesFile>> Rows<CapabilitiesFile>::all() {
  static constexpr std::array rows = {
      key<&CapabilitiesFile::imap>("imap", "What IMAP listeners announce before login."),
      key<&CapabilitiesFile::pop3>("pop3", "What POP3 listeners announce before login."),
      key<&CapabilitiesFile::managesieve>("managesieve", "What ManageSieve listeners announce before login."),
      key<&CapabilitiesFile::submission>("submission", "What submission listeners announce before login."),
  };
  static_assert(fields<CapabilitiesFile>() == rows.size());
  return rows;
}

std::span<const Row<OAuthConf>> Rows<OAuthConf>::all() {
  static constexpr std::array rows = {
      key<&OAuthConf::jwt_username_claim>("jwt_username_claim", "First claim tried for the account.",
                                          filled_text),
  };
  static_assert(fields<OAuthConf>() == rows.size());
  return rows;
}

std::span<const Row<RoutingConf>> Rows<RoutingConf>::all() {
  static constexpr std::array rows = {
      key<&RoutingConf::default_destination>(
          "default_destination", "Where accounts without a mapping go.",
          {.required = true, .check = check_filled, .applies = Applies::at_once}),
      key<&RoutingConf::smtp_passthrough_destination>(
          "smtp_passthrough_destination", "Where every `smtp` and `lmtp` listener leads.", filled_text),
      key<&RoutingConf::master_user_separators>(
          "master_user_separators",
          "Separators between mailbox and master user; an empty list turns it off."),
  };
  static_assert(fields<RoutingConf>() == rows.size());
  return rows;
}

std::span<const Row<LegConf>> Rows<LegConf>::all() {
  static constexpr std::array rows = {
      key<&LegConf::port>("port", "Port of the backend.",
                          {.required = true, .min = 1, .applies = Applies::at_once}),
      key<&LegConf::tls>("tls", "TLS toward the backend.", {.required = true, .applies = Applies::at_once}),
  };
  static_assert(fields<LegConf>() == rows.size() + 1, "forwarding is inferred in destinations.cpp");
  return rows;
}

std::span<const Row<LegFile>> Rows<LegFile>::all() {
  static constexpr std::array rows = {
      part<&LegFile::conf>(),
      key<&LegFile::forwarding>("forwarding", "Overrides that of the destination.",
                                {.applies = Applies::at_once}),
  };
  static_assert(fields<LegFile>() == rows.size());
  return rows;
}

std::span<const Row<DestinationConf>> Rows<DestinationConf>::all() {
  static constexpr std::array rows = {
      key<&DestinationConf::host>("host",
                                  "Host name or IP address. A name means what `getent ahosts` says; an "
                                  "answer serves for 5 s, and the first 64 of its addresses are tried.",
                                  {.required = true, .check = check_host, .applies = Applies::at_once}),
      key<&DestinationConf::tls_server_name>("tls_server_name",
                                             "Name expected in the backend's certificate; unset: `host`.",
                                             {.check = check_host, .applies = Applies::at_once}),
      key<&DestinationConf::forwarded>("forwarded", "HTTP: whether forwarding headers name the client.",
                                       {.applies = Applies::at_once}),
      key<&DestinationConf::tls_allow_invalid_certs>("tls_allow_invalid_certs",
                                                     "Whether the backend's certificate goes unverified.",
                                                     {.applies = Applies::at_once}),
      key<&DestinationConf::tls_client_cert>("tls_client_cert",
                                             "Certificate shown to the backend, as PEM or a path.",
                                             {.check = check_pem, .applies = Applies::at_once}),
      key<&DestinationConf::tls_client_key>("tls_client_key",
                                            "Its private key; who may read the file is as for "
                                            "`tls.certificate.<name>.key`.",
                                            {.check = check_pem, .applies = Applies::at_once}),
      key<&DestinationConf::source_ips>("source_ips",
                                        "Local addresses to connect from, round robin by family.",
                                        {.applies = Applies::at_once}),
      key<&DestinationConf::hide_auth_errors>(
          "hide_auth_errors", "Whether the backend's refusal of a login is replaced by a plain one.",
          {.applies = Applies::at_once}),
      key<&DestinationConf::allow_plaintext_auth>("allow_plaintext_auth",
                                                  "Whether legs that carry credentials may be `plain`.",
                                                  {.applies = Applies::at_once}),
      key<&DestinationConf::proxy_tlvs>("proxy_tlvs", "Fields added to a PROXY header sent there.",
                                        {.applies = Applies::at_once}),
      key<&DestinationConf::proxy_map_v4>(
          "proxy_map_v4", "Whether addresses of two families are both written as IPv6 instead of `UNKNOWN`.",
          {.applies = Applies::at_once}),
  };
  static_assert(fields<DestinationConf>() == rows.size() + 4 + (protocol_count - 1),
                "name, path, the pin and the legs (an array counts its elements): destinations.cpp");
  return rows;
}

std::span<const Row<DestinationFile>> Rows<DestinationFile>::all() {
  static constexpr std::array rows = {
      part<&DestinationFile::conf>(),
      key<&DestinationFile::tls_pinned_cert_sha256>(
          "tls_pinned_cert_sha256", "SHA-256 of the only certificate accepted, 64 hex digits.",
          {.applies = Applies::at_once}),
      key<&DestinationFile::proxy_protocol>("proxy_protocol",
                                            "Whether `forwarding` is `proxy` where nothing says otherwise.",
                                            {.applies = Applies::at_once}),
      key<&DestinationFile::forwarding>("forwarding", "How the backend learns the client's address.",
                                        {.unset = "from `proxy_protocol`", .applies = Applies::at_once}),
      key<&DestinationFile::protocol>("protocol", "One table a protocol the backend speaks.",
                                      {.applies = Applies::at_once}),
  };
  static_assert(fields<DestinationFile>() == rows.size());
  return rows;
}

std::span<const Row<ExtractFile>> Rows<ExtractFile>::all() {
  static constexpr std::array rows = {
      key<&ExtractFile::from>("from", "Where the account is found.", {.required = true}),
      key<&ExtractFile::param>("param", "For `query`: name of the parameter.", filled_text),
      key<&ExtractFile::header>("header", "For `header`: its name.", filled_text),
      key<&ExtractFile::regex>("regex", "For `body`: its first group is the account."),
  };
  static_assert(fields<ExtractFile>() == rows.size());
  return rows;
}

std::span<const Row<RouteFile>> Rows<RouteFile>::all() {
  static constexpr std::array rows = {
      key<&RouteFile::match>("match", "Glob on the path.", {.required = true}),
      key<&RouteFile::destination>("destination", "Where every such request goes.", filled_text),
      key<&RouteFile::extract>("extract", "How the account is found."),
      key<&RouteFile::fallback>(
          "fallback", "Where a request without an account goes; `default` is the default one.", filled_text),
  };
  static_assert(fields<RouteFile>() == rows.size());
  return rows;
}

std::span<const Row<HttpFile>> Rows<HttpFile>::all() {
  static constexpr std::array rows = {
      key<&HttpFile::body_extract_cap>("body_extract_cap",
                                       "Bytes of a request body kept for `from = \"body\"`."),
      key<&HttpFile::max_head_size>("max_head_size", "Largest head of a request or response.", positive),
      key<&HttpFile::relay_idle>("relay_idle", "Longest pause in a body, longest wait for a response.",
                                 positive),
      key<&HttpFile::keepalive_timeout>("keepalive_timeout",
                                        "An idle client connection is closed after this.", positive),
      key<&HttpFile::max_keepalive_requests>("max_keepalive_requests",
                                             "Requests a client connection; 0: no limit."),
      key<&HttpFile::route>("route", "Ordered; the first match decides."),
  };
  static_assert(fields<HttpFile>() == rows.size());
  return rows;
}

std::span<const Row<AdminFile>> Rows<AdminFile>::all() {
  static constexpr std::array rows = {
      key<&AdminFile::bind>("bind", "Address of the management listener.",
                            {.required = true, .applies = Applies::restart}),
      key<&AdminFile::tls>("tls", "Must be `implicit`.", {.applies = Applies::restart}),
      key<&AdminFile::bearer_token_file>("bearer_token_file",
                                         "File with the token; who may read it is as for "
                                         "`tls.certificate.<name>.key`.",
                                         {.check = check_filled, .applies = Applies::restart}),
      key<&AdminFile::bearer_token>("bearer_token", "The token itself.", {.applies = Applies::restart}),
      key<&AdminFile::min_token_len>("min_token_len", "Shortest token accepted, in bytes.",
                                     {.applies = Applies::restart}),
      key<&AdminFile::lockout_threshold>("lockout_threshold",
                                         "Failures before an address is locked out; 0: never.",
                                         {.applies = Applies::restart}),
      key<&AdminFile::lockout_duration>("lockout_duration", "Length of a lockout.",
                                        {.applies = Applies::restart}),
  };
  static_assert(fields<AdminFile>() == rows.size());
  return rows;
}

std::span<const Row<MetricsConf>> Rows<MetricsConf>::all() {
  static constexpr std::array rows = {
      key<&MetricsConf::bind>("bind",
                              "Plain HTTP: `/metrics`, `/healthz`, `/readyz`, and a status page at `/`.",
                              {.required = true, .applies = Applies::restart}),
  };
  static_assert(fields<MetricsConf>() == rows.size());
  return rows;
}

std::span<const Row<File>> Rows<File>::all() {
  static constexpr std::array rows = {
      key<&File::server>("server", "The process as a whole, and defaults of listeners."),
      key<&File::tls>("tls", "Certificates and TLS policy."),
      key<&File::certificate>("certificate", "Another spelling of `[tls.certificate.<name>]`."),
      key<&File::listener>("listener", "One table a listener; the name is a label and means nothing else.",
                           {.applies = Applies::restart}),
      key<&File::capabilities>("capabilities", "What is announced before login."),
      key<&File::oauth>("oauth", "Accounts of OAuth tokens."),
      key<&File::routing>("routing", "Which destination.", {.required = true}),
      key<&File::mapping>("mapping", "Accounts to destinations.", {.required = true}),
      key<&File::destination>("destination", "One table a backend.", {.applies = Applies::at_once}),
      key<&File::http>("http", "HTTP listeners."),
      key<&File::admin>("admin", "The management listener.", {.applies = Applies::restart}),
      key<&File::metrics>("metrics", "Metrics and health, without authentication.",
                          {.applies = Applies::restart}),
  };
  static_assert(fields<File>() == rows.size());
  return rows;
}

}  // namespace postern::conf
