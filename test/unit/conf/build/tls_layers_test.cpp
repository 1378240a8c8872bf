// SPDX-License-Identifier: GPL-3.0-or-later
// Defaults and layers: listener over server over [tls.protocols] over what is built in.
#include "test/unit/conf/fixture.hpp"

namespace postern::conf {
namespace {

const ListenerConf& only_listener(const Loaded& loaded) {
  CAPTURE(lines_of(loaded));
  REQUIRE(loaded.ok());
  REQUIRE(loaded.config.listeners.size() == 1);
  return loaded.config.listeners[0];
}

/// The base document with its listener replaced.
Loaded with_listener(std::string_view server, std::string_view listener) {
  std::string document(base_document);
  document.erase(document.find("[listener.front]"));
  document += "[destination.legacy.protocol.smtp]\nport = 25\ntls = \"plain\"\n";
  document += std::string(server) + std::string(listener);
  return load_toml(
      replaced(document, "[routing]\n", "[routing]\nsmtp_passthrough_destination = \"legacy\"\n"));
}

}  // namespace

TEST_CASE("defaults are those of the documentation") {
  const Loaded loaded = load_toml(base_document);
  REQUIRE(loaded.ok());
  const Config& config = loaded.config;
  const ListenerConf& listener = config.listeners[0];
  CHECK(listener.max_connections == 8192);
  CHECK(listener.max_connections_per_client == 1024);
  CHECK(config.server.preauth_memory == Size{64 * mebibyte});
  CHECK(listener.preauth_timeout == std::chrono::seconds(30));
  CHECK(listener.max_auth_attempts == 3);
  CHECK(listener.max_errors == 20);
  CHECK(listener.proxy_protocol == ProxyMode::off);
  CHECK(listener.socket == SocketOptions{});
  CHECK_FALSE(listener.greeting.has_value());
  CHECK(listener.path == "listener.front");
  CHECK(listener.tls.tls12);
  CHECK(listener.tls.tls13);
  CHECK(listener.tls.suites.size() == suite_count);
  CHECK(listener.tls.groups ==
        std::vector{Group::x25519mlkem768, Group::x25519, Group::secp256r1, Group::secp384r1});
  CHECK(config.server.bridge_idle == std::chrono::seconds(1800));
  CHECK(config.server.strict_keys);
  CHECK(config.server.extended_replies);
  CHECK_FALSE(config.server.core_dumps);
  CHECK(config.server.log_format == LogFormat::logfmt);
  CHECK(config.routing.master_user_separators == std::vector<std::string>{"%"});
  CHECK(config.mapping.cache_max_entries == 1'000'000);
  CHECK(config.oauth.jwt_username_claim == "email");
  CHECK(config.tickets == TicketConf{});
  CHECK(config.capabilities[0].banner.empty());
  CHECK(config.capabilities[0].advertise == std::vector<std::string>{"IMAP4rev2", "IMAP4rev1", "ENABLE",
                                                                     "SASL-IR", "LITERAL+", "ID", "IDLE",
                                                                     "UTF8=ACCEPT"});
  CHECK(config.capabilities[1].banner.empty());
  CHECK(config.capabilities[1].implementation.empty());
  CHECK(config.capabilities[2].implementation == "Postern");
  CHECK(config.capabilities[0].advertise_login);
  CHECK(config.capabilities[2].sieve.size() == 47);
  CHECK(config.capabilities[3].ehlo.size() == 8);
  CHECK(config.capabilities[3].sasl == std::vector<std::string>{"PLAIN", "OAUTHBEARER", "XOAUTH2"});
  const DestinationConf* legacy = config.destination("legacy");
  REQUIRE(legacy != nullptr);
  CHECK(legacy->leg(Protocol::imap)->forwarding == Forwarding::none);
  CHECK(legacy->tls_server_name.empty());
  CHECK_FALSE(config.metrics.has_value());
}

TEST_CASE(
    "JMAPACCESS is announced where there is an http listener, unless the operator lists what is announced") {
  const auto announced = [](std::string_view more) {
    const Loaded loaded = load_toml(base_and(more));
    CAPTURE(lines_of(loaded));
    REQUIRE(loaded.ok());
    return loaded.config.capabilities[0].advertise;
  };
  const std::string web = "[listener.web]\nprotocol = \"http\"\nbind = \"127.0.0.1:1\"\ntls = \"implicit\"\n";
  CHECK(announced(web).back() == "JMAPACCESS");
  CHECK(announced(web).size() == announced("").size() + 1);
  CHECK(announced(web + "[capabilities.imap]\nadvertise = [\"IMAP4rev1\"]\n") ==
        std::vector<std::string>{"IMAP4rev1"});
}

TEST_CASE("what could not be read at all is told from what is wrong") {
  CHECK(load_toml(base_document).parsed);
  CHECK(load_toml(base_and("[server]\nthreads = -1\n")).parsed);
  CHECK_FALSE(load_toml("[server").parsed);
  CHECK_FALSE(load_toml("\xff").parsed);
  CHECK_FALSE(load("/does/not/exist.toml", {}, no_files).parsed);
}

TEST_CASE("socket options and the connection limit are merged key by key") {
  const ListenerConf listener = only_listener(with_listener(
      "[server]\nmax_connections = 10\n[server.socket]\nbacklog = 5\nnodelay = false\ntos = 16\n",
      "[listener.a]\nprotocol = \"imap\"\nbind = \"127.0.0.1:1\"\ntls = \"plain\"\nsocket = { backlog = 7 "
      "}\n"));
  CHECK(listener.socket.backlog == 7);
  CHECK_FALSE(listener.socket.nodelay);
  CHECK(listener.socket.tos == 16u);
  CHECK(listener.max_connections == 10);
}

TEST_CASE("a client's share is the listener's, the server's or an eighth, and never nothing") {
  const auto share = [](const std::string& server, const std::string& listener) {
    return only_listener(
               with_listener("[server]\n" + server + "\n",
                             "[listener.a]\nprotocol = \"imap\"\nbind = \"127.0.0.1:1\"\ntls = \"plain\"\n" +
                                 listener + "\n"))
        .max_connections_per_client;
  };
  CHECK(share("", "") == 1024);
  CHECK(share("max_connections = 100", "") == 12);
  CHECK(share("", "max_connections = 7") == 1);
  CHECK(share("max_connections_per_client = 5", "max_connections = 100") == 5);
  CHECK(share("max_connections_per_client = 5", "max_connections_per_client = 9") == 9);
}

TEST_CASE("TLS options are merged key by key, and lists are replaced") {
  const ListenerConf listener = only_listener(with_listener(
      "[tls.certificate.a]\ncert = \"a\"\nkey = \"b\"\n"
      "[tls.protocols]\nmin_version = \"1.3\"\nignore_client_order = true\n"
      "[server.tls]\ntimeout = \"5s\"\ncertificate = \"a\"\ngroups = [\"P-256\"]\n"
      "sni = [{ subject = \"*.Example.ORG.\", certificate = \"a\" }]\n",
      "[listener.a]\nprotocol = \"imap\"\nbind = \"127.0.0.1:1\"\ntls = \"implicit\"\n"
      "tls_options = { groups = [\"X25519\", \"x25519\"], ciphers = [\"TLS_AES_128_GCM_SHA256\", "
      "\"ECDHE-RSA-AES128-GCM-SHA256\"] }\n"));
  CHECK(listener.tls.timeout == std::chrono::seconds(5));
  CHECK(listener.tls.certificate == "a");
  CHECK(listener.tls.sni == std::vector<SniEntry>{{"example.org", "a"}});
  CHECK(listener.tls.groups == std::vector{Group::x25519});
  CHECK(listener.tls.ignore_client_order);
  CHECK_FALSE(listener.tls.tls12);
  CHECK(listener.tls.tls13);
  CHECK(listener.tls.suites == std::vector{Suite::tls13_aes_128_gcm_sha256});
}

TEST_CASE("a version without a suite is off") {
  const Loaded loaded = load_toml(base_and("[server.tls]\nciphers = [\"ECDHE-RSA-AES128-GCM-SHA256\"]\n"));
  REQUIRE(loaded.ok());
  CHECK(loaded.config.listeners[0].tls.tls12);
  CHECK_FALSE(loaded.config.listeners[0].tls.tls13);
}

TEST_CASE("a layer that is wrong by itself is blamed once, not at every listener") {
  const Loaded loaded = load_toml(base_and("[server.tls]\ndisable_protocols = [\"tls12\", \"tls13\"]\n"));
  CHECK(loaded.problems.errors() == 1);
}

TEST_CASE("the mode of a listener comes from tls, then from [server.tls], then from the spelling") {
  struct {
    std::string_view server, header, keys;
    TlsMode mode;
  } const rows[] = {
      {"", "[listener.a]", "tls = \"starttls\"", TlsMode::starttls},
      {"", "[listener.a]", "tls = { mode = \"implicit\" }", TlsMode::implicit},
      {"", "[listener.a]", "tls = { enable = false, implicit = true }", TlsMode::plain},
      {"", "[listener.a]", "tls = { implicit = true }", TlsMode::implicit},
      {"", "[listener.a]", "tls = { enable = true }", TlsMode::starttls},
      {"implicit = true", "[listener.a]", "", TlsMode::implicit},
      {"enable = true", "[listener.a]", "", TlsMode::starttls},
      {"mode = \"plain\"", "[listener.a]", "", TlsMode::plain},
      {"implicit = false", "[listener.a]", "tls.implicit = true", TlsMode::implicit},
      {"implicit = true", "[listener.a]", "tls.timeout = \"1s\"", TlsMode::implicit},
      {"mode = \"starttls\"", "[listener.a]", "tls.implicit = true", TlsMode::implicit},
      {"mode = \"implicit\"", "[listener.a]", "tls.enable = false", TlsMode::plain},
      {"", "[server.listener.a]", "", TlsMode::starttls},
      {"", "[server.listener.a]", "tls.implicit = true", TlsMode::implicit},
      {"enable = false", "[server.listener.a]", "", TlsMode::plain},
      {"implicit = true", "[server.listener.a]", "tls = \"plain\"", TlsMode::plain},
  };
  for (const auto& row : rows) {
    CAPTURE(row.server);
    CAPTURE(row.keys);
    const std::string listener = std::string(row.header) + "\nprotocol = \"imap\"\nbind = \"127.0.0.1:1\"\n" +
                                 std::string(row.keys) + "\n";
    CHECK(
        only_listener(with_listener("[server.tls]\n" + std::string(row.server) + "\n", listener)).tls_mode ==
        row.mode);
  }
}

TEST_CASE("an address without a port gets the usual one in the server's spelling") {
  struct {
    std::string_view protocol, tls;
    uint16_t port;
  } const rows[] = {{"imap", "plain", 143},     {"imap", "implicit", 993}, {"managesieve", "implicit", 4190},
                    {"smtp", "plain", 25},      {"smtp", "implicit", 25},  {"http", "plain", 80},
                    {"https", "implicit", 443}, {"jmap", "plain", 80}};
  for (const auto& row : rows) {
    const Loaded loaded =
        with_listener("[destination.legacy.protocol.managesieve]\nport = 1\ntls = \"plain\"\n",
                      "[server.listener.a]\nprotocol = \"" + std::string(row.protocol) +
                          "\"\nbind = [\"2001:db8::2\"]\ntls = \"" + std::string(row.tls) + "\"\n");
    const ListenerConf& listener = only_listener(loaded);
    REQUIRE(listener.bind.size() == 1);
    CHECK(listener.bind[0].port == row.port);
  }
}

TEST_CASE("scenario 271: the other spellings of listeners and certificates load") {
  const std::string_view tail = R"(
[mapping]
source = "file"
[mapping.file]
path = "M"
[routing]
default_destination = "mx"
smtp_passthrough_destination = "mx"
[destination.mx]
host = "mx.test"
[destination.mx.protocol.smtp]
port = 25
tls = "plain"
[destination.mx.protocol.imap]
port = 993
tls = "implicit"
)";
  struct {
    std::string_view text;
    size_t listeners;
    std::string_view modes;  // first letters
  } const rows[] = {
      {"[server.listener.\"smtp\"]\nbind = [\"10.0.0.21:25\", \"10.0.0.22:25\", \"a:3f::2\"]\nprotocol = "
       "\"smtp\"\n",
       1, "p"},
      {"[server.listener.\"smtp\"]\nbind = [\"[::]:25\"]\nprotocol = "
       "\"smtp\"\n\n[server.listener.\"imap\"]\nbind = "
       "[\"[::]:143\"]\nprotocol = \"imap\"\n",
       2, "ps"},
      {"[server]\nmax-connections = 8192\n[server.listener.\"submissions\"]\nbind = [\"[::]:465\"]\nprotocol "
       "= "
       "\"smtp\"\ntls.implicit = true\nmax-connections = 1024\n",
       1, "i"},
      {"[server.listener.\"submissions\"]\nbind = [\"[::]:465\"]\nprotocol = \"smtp\"\ntls.implicit = "
       "true\n\n"
       "[server.tls]\nimplicit = false\n",
       1, "i"},
      {"[server.listener.\"smtp\"]\nbind = \"[::]:25\"\nprotocol = \"smtp\"\nsocket.backlog = 2048\n\n"
       "[server.socket]\nbacklog = 1024\n",
       1, "p"},
      {"[server.listener.\"smtp\"]\nbind = [\"[::]:25\"]\nprotocol = "
       "\"smtp\"\n\n[server.listener.\"submission\"]\n"
       "bind = [\"[::]:587\"]\nprotocol = \"smtp\"\n\n[server.listener.\"submissions\"]\nbind = "
       "[\"[::]:465\"]\n"
       "protocol = \"smtp\"\ntls.implicit = true\n\n[server.listener.\"management\"]\nbind = "
       "[\"127.0.0.1:8080\"]\n"
       "protocol = \"http\"\n",
       4, "ppip"},
      {"[server.tls]\nenable = true\nimplicit = false\ntimeout = \"1m\"\ncertificate = \"default\"\nsni = [ "
       "{ subject = "
       "\"otherdomain.org\", certificate = \"otherdomain_org\" },\n{ subject = \"otherdomain.net\", "
       "certificate = "
       "\"default\" } ]\nprotocols = [ \"TLSv1.2\", \"TLSv1.3\" ]\nciphers = [ \"TLS13_AES_256_GCM_SHA384\", "
       "\"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256\"]\nignore-client-order = true\n"
       "[certificate.\"default\"]\ncert = '''-----BEGIN CERTIFICATE-----\nMIIF\n-----END "
       "CERTIFICATE-----\n'''\n"
       "private-key = \"file:///opt/stalwart-smtp/etc/private/tls.key\"\n"
       "[certificate.otherdomain_org]\ncert = \"a.pem\"\nprivate-key = \"b.pem\"\n"
       "[server.listener.imap]\nbind = \"[::]:143\"\nprotocol = \"imap\"\n",
       1, "s"},
  };
  for (const auto& row : rows) {
    const Loaded loaded = load_toml(std::string(row.text) + std::string(tail));
    CAPTURE(row.text);
    CAPTURE(lines_of(loaded));
    CHECK(loaded.ok());
    REQUIRE(loaded.config.listeners.size() == row.listeners);
    std::string modes;
    for (const auto& listener : loaded.config.listeners) modes += name(listener.tls_mode)[0];
    CHECK(modes == row.modes);
  }
}

TEST_CASE("forwarding of a leg: its own, then the destination's, then what proxy_protocol implies") {
  const Loaded loaded = load_toml(
      base_and("[destination.a]\nhost = \"h\"\nallow_plaintext_auth = true\nforwarding = \"xclient\"\n"
               "[destination.a.protocol.imap]\nport = 1\ntls = \"plain\"\n"
               "[destination.a.protocol.smtp]\nport = 1\ntls = \"plain\"\nforwarding = \"none\"\n"
               "[destination.a.protocol.http]\nport = 1\ntls = \"plain\"\n"
               "[destination.b]\nhost = \"h\"\nallow_plaintext_auth = true\n"
               "[destination.b.protocol.imap]\nport = 1\ntls = \"plain\"\n"
               "[destination.b.protocol.http]\nport = 1\ntls = \"plain\"\nforwarding = \"proxy\"\n"));
  CHECK(lines_of(loaded) == "");
  const DestinationConf& a = *loaded.config.destination("a");
  CHECK(a.leg(Protocol::imap)->forwarding == Forwarding::xclient);
  CHECK(a.leg(Protocol::smtp)->forwarding == Forwarding::none);
  CHECK(a.leg(Protocol::http)->forwarding == Forwarding::none);
  CHECK(a.tls_server_name == "h");
  const DestinationConf& b = *loaded.config.destination("b");
  CHECK(b.leg(Protocol::imap)->forwarding == Forwarding::proxy);
  CHECK(b.leg(Protocol::http)->forwarding == Forwarding::proxy);
  CHECK_FALSE(b.leg(Protocol::pop3).has_value());
}

TEST_CASE("listeners and certificates keep the order of the file, over both spellings") {
  const Loaded loaded = load_toml(base_and(
      "[tls.certificate.z]\ncert = \"a\"\nkey = \"b\"\n[certificate.m]\ncert = \"a\"\nprivate_key = \"b\"\n"
      "[tls.certificate.a]\ncert = \"a\"\nkey = \"b\"\n"
      "[server.listener.b]\nprotocol = \"imap\"\nbind = \"127.0.0.1:1\"\n"
      "[listener.a]\nprotocol = \"imap\"\nbind = \"127.0.0.1:2\"\ntls = \"plain\"\n"));
  CHECK(lines_of(loaded) == "");
  std::string order;
  for (const auto& certificate : loaded.config.certificates) order += certificate.id;
  for (const auto& listener : loaded.config.listeners) order += listener.name;
  CHECK(order == "zmafrontba");
  CHECK(loaded.config.certificates[1].path == "certificate.m");
  CHECK(loaded.config.listeners[1].path == "server.listener.b");
}

}  // namespace postern::conf
