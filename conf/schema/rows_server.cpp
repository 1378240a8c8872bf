// SPDX-License-Identifier: GPL-3.0-or-later
// The rows of [server] with its tables, of [tls] and of listeners.
#include "conf/schema/checks.hpp"
#include "conf/schema/tables.hpp"

namespace postern::conf {
namespace {

constexpr Limits positive = {.min = 1};
constexpr Limits an_eighth = {.min = 1, .unset = "an eighth of `max_connections`"};
constexpr uint64_t int_max = 2147483647;  // what the kernel takes for sizes and backlogs
constexpr uint64_t most_threads = 1024;
constexpr uint64_t week = uint64_t{7} * 24 * 3600 * 1000;

}  // namespace

std::span<const Row<SniEntry>> Rows<SniEntry>::all() {
  static constexpr std::array rows = {
      key<&SniEntry::subject>("subject", "Server name; may start with `*.`.",
                              {.required = true, .check = check_subject}),
      key<&SniEntry::certificate>("certificate", "Id of a declared certificate.",
                                  {.required = true, .check = check_filled}),
  };
  static_assert(fields<SniEntry>() == rows.size());
  return rows;
}

std::span<const Row<TlsModeKeys>> Rows<TlsModeKeys>::all() {
  static constexpr std::array rows = {
      key<&TlsModeKeys::enable>("enable", "Whether TLS is available at all; `false` means `plain`.",
                                {.applies = Applies::restart}),
      key<&TlsModeKeys::implicit>("implicit", "TLS from the first byte (`true`) or by command (`false`).",
                                  {.applies = Applies::restart}),
      key<&TlsModeKeys::mode>("mode", "The same said in one word.", {.applies = Applies::restart}),
  };
  static_assert(fields<TlsModeKeys>() == rows.size());
  return rows;
}

std::span<const Row<TlsOptions>> Rows<TlsOptions>::all() {
  static constexpr std::array rows = {
      key<&TlsOptions::timeout>(
          "timeout",
          "Time for the client to complete the handshake once it is due. `preauth_timeout` counts too.",
          positive),
      key<&TlsOptions::certificate>(
          "certificate", "Id of the certificate for clients that send no server name or an unknown one.",
          {.check = check_filled}),
      key<&TlsOptions::sni>("sni",
                            "Certificates by server name, in front of what the certificates say themselves."),
      key<&TlsOptions::protocols>("protocols", "Allowed versions.", {.filled = true}),
      key<&TlsOptions::disable_protocols>("disable_protocols", "Versions removed afterwards."),
      key<&TlsOptions::ciphers>("ciphers",
                                "Allowed cipher suites in order of preference; empty means all nine."),
      key<&TlsOptions::disable_ciphers>("disable_ciphers", "Cipher suites removed afterwards."),
      key<&TlsOptions::groups>("groups", "Key-exchange groups in order of preference.", {.filled = true}),
      key<&TlsOptions::ignore_client_order>(
          "ignore_client_order",
          "Whether the order of `ciphers` decides (`true`) or the client's (`false`)."),
  };
  static_assert(fields<TlsOptions>() == rows.size());
  return rows;
}

std::span<const Row<TlsTable>> Rows<TlsTable>::all() {
  static constexpr std::array rows = {part<&TlsTable::mode>(), part<&TlsTable::options>()};
  return rows;
}

std::span<const Row<TlsProtocols>> Rows<TlsProtocols>::all() {
  static constexpr std::array rows = {
      key<&TlsProtocols::min_version>("min_version", "`\"1.2\"` enables TLS 1.2 and 1.3, `\"1.3\"` only 1.3.",
                                      {.check = check_min_version}),
      key<&TlsProtocols::ignore_client_order>("ignore_client_order",
                                              "Whether the server's order of suites decides."),
      key<&TlsProtocols::disable_cipher_suites>("disable_cipher_suites",
                                                "Cipher suites removed from the offer."),
  };
  static_assert(fields<TlsProtocols>() == rows.size());
  return rows;
}

std::span<const Row<TicketConf>> Rows<TicketConf>::all() {
  static constexpr std::array rows = {
      key<&TicketConf::enable>("enable", "Whether clients get tickets to resume a session with."),
      key<&TicketConf::file>(
          "file",
          "File with keys shared between processes; unset: keys of this process only. Who may "
          "read it is as for `tls.certificate.<name>.key`."),
      key<&TicketConf::rotate>("rotate", "How often a process makes a new key of its own.", positive),
      key<&TicketConf::lifetime>("lifetime", "How long a ticket is accepted; seven days at most.",
                                 {.min = 1, .max = week}),
  };
  static_assert(fields<TicketConf>() == rows.size());
  return rows;
}

std::span<const Row<CertificateConf>> Rows<CertificateConf>::all() {
  static constexpr std::array rows = {
      key<&CertificateConf::cert>("cert",
                                  "PEM chain, leaf first: a path, a `file://` URL or the text itself.",
                                  {.required = true, .check = check_pem}),
      key<&CertificateConf::key>(
          "key",
          "PEM private key of the leaf, in the same three forms. A file that every user "
          "or the owner's own group can read gives a warning; a group chosen for it "
          "(`root:ssl-cert`, `root:postern`, mode 0640) does not.",
          {.required = true, .alias = "private_key", .check = check_pem}),
      key<&CertificateConf::subjects>("subjects",
                                      "Names this certificate answers for; empty: those it carries itself.",
                                      {.check = check_subject}),
      key<&CertificateConf::is_default>("default", "Whether it also serves every name nobody else serves."),
  };
  static_assert(fields<CertificateConf>() == rows.size() + 2, "id and path come from the name of the table");
  return rows;
}

std::span<const Row<TlsFile>> Rows<TlsFile>::all() {
  static constexpr std::array rows = {
      key<&TlsFile::certificate>("certificate",
                                 "One table a certificate; the name is what other keys refer to."),
      key<&TlsFile::protocols>("protocols", "Policy of all listeners, below `[server.tls]`."),
      key<&TlsFile::tickets>("tickets", "Stateless session resumption."),
  };
  static_assert(fields<TlsFile>() == rows.size());
  return rows;
}

std::span<const Row<SocketOptions>> Rows<SocketOptions>::all() {
  static constexpr std::array rows = {
      key<&SocketOptions::reuse_addr>("reuse_addr", "`SO_REUSEADDR` on the listening socket.",
                                      {.applies = Applies::restart}),
      key<&SocketOptions::reuse_port>(
          "reuse_port", "`SO_REUSEPORT`: one listening socket a worker thread; `false`: one shared by all.",
          {.applies = Applies::restart}),
      key<&SocketOptions::backlog>("backlog", "Length of the queue of connections not yet accepted.",
                                   {.min = 1, .max = int_max, .applies = Applies::restart}),
      key<&SocketOptions::ttl>("ttl", "`IP_TTL` or `IPV6_UNICAST_HOPS` of accepted connections.",
                               {.min = 1, .max = 255, .applies = Applies::restart}),
      key<&SocketOptions::send_buffer_size>("send_buffer_size", "`SO_SNDBUF`, bytes.",
                                            {.min = 1, .max = int_max, .applies = Applies::restart}),
      key<&SocketOptions::recv_buffer_size>("recv_buffer_size", "`SO_RCVBUF`, bytes.",
                                            {.min = 1, .max = int_max, .applies = Applies::restart}),
      key<&SocketOptions::linger>("linger", "`SO_LINGER`, rounded up to seconds; zero leaves it alone.",
                                  {.applies = Applies::restart}),
      key<&SocketOptions::tos>("tos", "`IP_TOS` or `IPV6_TCLASS`.",
                               {.min = 1, .max = 255, .applies = Applies::restart}),
      key<&SocketOptions::nodelay>("nodelay", "`TCP_NODELAY` on accepted connections.",
                                   {.applies = Applies::restart}),
  };
  static_assert(fields<SocketOptions>() == rows.size());
  return rows;
}

std::span<const Row<ListenerConf>> Rows<ListenerConf>::all() {
  static constexpr std::array rows = {
      key<&ListenerConf::protocol>("protocol", "What is spoken; `smtp` and `lmtp` are passed through unread.",
                                   {.required = true, .applies = Applies::restart}),
      key<&ListenerConf::proxy_protocol>("proxy_protocol", "Whether a PROXY header is looked for."),
      key<&ListenerConf::proxy_trusted>("proxy_trusted", "Peers that may send a PROXY header."),
      key<&ListenerConf::max_connections>(
          "max_connections",
          "Simultaneous connections. When there are as many, the oldest that has not logged in makes room "
          "for "
          "another client; if all have logged in, the newcomer is closed. Default: that of `[server]`.",
          positive),
      key<&ListenerConf::preauth_timeout>(
          "preauth_timeout", "Time for PROXY header, TLS handshake and login, from accept.", positive),
      key<&ListenerConf::max_auth_attempts>(
          "max_auth_attempts",
          "Failed logins after which the connection is closed: refused by a "
          "backend, malformed, with a mechanism that is not in `sasl`, or with "
          "a name that may not be looked up."),
      key<&ListenerConf::max_errors>(
          "max_errors",
          "Commands answered with an error before the login, after which the connection is closed: unknown, "
          "unparsable, not allowed yet, given up. A failed login counts for `max_auth_attempts` instead, so "
          "every command counts once at most. At 1,000 commands before a login, right or wrong, the "
          "connection "
          "is closed whatever this says.",
          positive),
      key<&ListenerConf::forwarded>("forwarded",
                                    "HTTP: whether inbound forwarding headers are kept and extended."),
      key<&ListenerConf::greeting>("greeting", "Replaces the banner of `[capabilities.*]` on this listener.",
                                   {.check = check_line}),
  };
  static_assert(fields<ListenerConf>() == rows.size() + 7,
                "name, path, bind, tls_mode, tls, socket, max_connections_per_client: listeners.cpp");
  return rows;
}

std::span<const Row<ListenerFile>> Rows<ListenerFile>::all() {
  static constexpr std::array rows = {
      part<&ListenerFile::conf>(),
      key<&ListenerFile::bind>(
          "bind", "Addresses with ports; port 0 lets the kernel choose.",
          {.required = true, .single = true, .filled = true, .applies = Applies::restart}),
      key<&ListenerFile::tls>("tls",
                              "The mode, or a table with the mode and the options of `tls_options`. "
                              "Missing: that of `[server.tls]`, if it has one.",
                              {.applies = Applies::restart}),
      key<&ListenerFile::tls_options>("tls_options",
                                      "TLS options besides `tls` as a word, over `[server.tls]`."),
      key<&ListenerFile::socket>("socket", "Socket options, over `[server.socket]`."),
      key<&ListenerFile::max_connections_per_client>(
          "max_connections_per_client",
          "Simultaneous connections of one client: an IPv4 address, or a /64 of IPv6. More are closed at "
          "once. Behind `proxy_trusted` peers the PROXY header says who the client is. Where that of "
          "`[server]` is set, it is the default.",
          an_eighth),
  };
  static_assert(fields<ListenerFile>() == rows.size());
  return rows;
}

std::span<const Row<ServerConf>> Rows<ServerConf>::all() {
  static constexpr std::array rows = {
      key<&ServerConf::threads>("threads", "Worker threads; 0: one for each CPU core.",
                                {.max = most_threads, .applies = Applies::restart}),
      key<&ServerConf::hostname>("hostname", "Name shown in greetings; unset: the local address.",
                                 {.check = check_hostname}),
      key<&ServerConf::shutdown_grace>("shutdown_grace", "How long sessions may go on after a stop signal.",
                                       {.applies = Applies::at_once}),
      key<&ServerConf::bridge_idle>("bridge_idle",
                                    "A session with no byte either way for this long is closed.", positive),
      key<&ServerConf::backend_timeout>(
          "backend_timeout", "Time for reaching a backend, and the same time again for logging in there.",
          positive),
      key<&ServerConf::backend_connect_retries>("backend_connect_retries",
                                                "Further attempts after a failure that may pass.",
                                                {.applies = Applies::at_once}),
      key<&ServerConf::stale_addresses>(
          "stale_addresses",
          "How long the last good addresses of a destination's name go on being used while no name server "
          "answers. An answer that there is no such name, given twice, ends it sooner. `0s`: not at all.",
          {.applies = Applies::at_once}),
      key<&ServerConf::host_down_threshold>(
          "host_down_threshold",
          "Failures in a row after which Postern tries a destination itself, and marks it "
          "down if that fails; 0: never.",
          {.applies = Applies::at_once}),
      key<&ServerConf::host_down_min_clients>(
          "host_down_min_clients",
          "How many different clients (IPv6: by /64) must be among those failures. Where connecting itself "
          "fails, one is enough.",
          {.applies = Applies::at_once}),
      key<&ServerConf::host_down_cooldown>("host_down_cooldown",
                                           "How long a destination stays down before Postern tries it again.",
                                           {.applies = Applies::at_once}),
      key<&ServerConf::proxy_ttl>("proxy_ttl", "First value of the forwarding TTL, which ends loops."),
      key<&ServerConf::log_format>("log_format", "One record a line, in this form.",
                                   {.applies = Applies::at_once}),
      key<&ServerConf::strict_keys>("strict_keys", "Whether unknown keys are errors or warnings.",
                                    {.applies = Applies::at_once}),
      key<&ServerConf::extended_replies>("extended_replies", "Response codes and courtesy lines on closing."),
      key<&ServerConf::core_dumps>("core_dumps",
                                   "Whether core files, which would hold keys and passwords, may be written.",
                                   {.applies = Applies::restart}),
      key<&ServerConf::proxy_header_timeout>(
          "proxy_header_timeout", "Wait for an optional PROXY header where the server speaks first.",
          positive),
      key<&ServerConf::preauth_memory>("preauth_memory",
                                       "Memory that all connections without a login may hold together. Above "
                                       "it, the oldest of those are closed that hold no less than the "
                                       "average.",
                                       {.min = mebibyte, .applies = Applies::at_once}),
  };
  static_assert(fields<ServerConf>() == rows.size() + 1, "log_level is parsed in load.cpp");
  return rows;
}

std::span<const Row<ServerFile>> Rows<ServerFile>::all() {
  static constexpr std::array rows = {
      part<&ServerFile::conf>(),
      key<&ServerFile::log_level>("log_level",
                                  "A level (`off`, `error`, `warn`, `info`, `debug`, `trace`) or a list "
                                  "of `target=level`. `RUST_LOG` wins.",
                                  {.applies = Applies::at_once}),
      key<&ServerFile::max_connections>("max_connections", "Default of every listener.", positive),
      key<&ServerFile::max_connections_per_client>("max_connections_per_client", "Default of every listener.",
                                                   an_eighth),
      key<&ServerFile::listener_state>("listener_state", "Where listeners made at run time are kept.",
                                       {.check = check_filled, .applies = Applies::restart}),
      key<&ServerFile::socket>("socket", "Default socket options of every listener.",
                               {.applies = Applies::restart}),
      key<&ServerFile::tls>("tls", "Default TLS options of every listener."),
      key<&ServerFile::listener>("listener",
                                 "Another spelling of `[listener.<name>]`: `tls` may be missing, and an "
                                 "address without a port gets the usual one.",
                                 {.applies = Applies::restart}),
  };
  static_assert(fields<ServerFile>() == rows.size());
  return rows;
}

bool Codec<ModeOrTable>::read(Reader& reader, const Limits& limits, const Node& node, const std::string& path,
                              ModeOrTable& out) {
  if (node.kind == Node::Kind::table) {
    out.table = {&node, path};
    return true;
  }
  return Codec<std::optional<TlsMode>>::read(reader, limits, node, path, out.mode);
}

TypeDoc Codec<ModeOrTable>::type(const Limits& limits) {
  TypeDoc choice(TypeDoc::Shape::choice, "enum, or table");
  choice.inner = {Codec<TlsMode>::type(limits), table_type<TlsTable>()};
  return choice;
}

}  // namespace postern::conf
