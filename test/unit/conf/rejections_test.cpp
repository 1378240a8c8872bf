// SPDX-License-Identifier: GPL-3.0-or-later
// Every rejection R-1 to R-70 as a row: the base document, a change, and the place, key and words that must
// come out.
#include "fixture.hpp"

namespace postern::conf {
namespace {

struct Row {
  std::string_view rule;
  std::string_view from, to;  // a change within the base document; empty: none
  std::string_view more;      // behind the base document
  std::string_view key;
  std::string_view text;    // part of the message
  std::string_view marker;  // what stands on the line blamed; empty: line 1
};

constexpr std::string_view smtp_leg = "[destination.legacy.protocol.smtp]\nport = 25\ntls = \"plain\"\n";
constexpr std::string_view bind_line = "bind = [\"127.0.0.1:2143\"]";
constexpr std::string_view front =
    "[listener.front]\nprotocol = \"imap\"\nbind = [\"127.0.0.1:2143\"]\ntls = \"plain\"\n";
constexpr std::string_view mapping = "[mapping]\nsource = \"file\"\n[mapping.file]\npath = \"@/M\"\n";
constexpr std::string_view server_tls_names =
    "[tls.protocols]\ndisable_cipher_suites = [\"TLS13_AES_256_GCM_SHA384\", \"tls13-aes-128-gcm-sha256\", "
    "\"TLS_CHACHA20_POLY1305_SHA256\", \"ECDHE-ECDSA-AES256-GCM-SHA384\", "
    "\"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256\", \"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256\", "
    "\"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384\", \"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\", "
    "\"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256\"]\n";

const Row rows[] = {
    // File and types
    {"R-2", "", "", "[routing]\n", "", "redefine", "[routing]"},
    {"R-3", "", "", "[server]\nthreads = \"two\"\n", "server.threads",
     "must be an integer, not the string \"two\"", "threads"},
    {"R-3", "tls = \"plain\"\n[listener", "tls = \"plain\"\n[listener", "max_connections = \"many\"\n",
     "listener.front.max_connections", "\"many\"", "max_connections"},
    {"R-3", "", "", "[capabilities.imap]\nbanner = 7\n", "capabilities.imap.banner", "the integer 7",
     "banner"},
    {"R-3", "", "", "[capabilities.imap]\nallow_plain_auth_without_tls = \"yes\"\n",
     "capabilities.imap.allow_plain_auth_without_tls", "\"yes\"", "allow_plain"},
    {"R-3", "", "", "max_connections = 1.5\n", "listener.front.max_connections", "a real number", "1.5"},
    {"R-3", "", "", "[oauth]\njwt_username_claim = [\"email\"]\n", "oauth.jwt_username_claim", "a list",
     "jwt"},
    {"R-3", "", "", "[server]\nsocket = 7\n", "server.socket", "must be a table, not the integer 7",
     "socket"},
    {"R-4", "", "", "max_connections = -1\n", "listener.front.max_connections", "must not be negative: -1",
     "max_connections"},
    {"R-3", "", "", "max_connections = 4294967296\n", "listener.front.max_connections", "4294967296",
     "max_connections"},
    {"R-5", "", "", "preauth_timeout = \"10x\"\n", "listener.front.preauth_timeout",
     "\"10x\" is not a duration", "10x"},
    {"R-5", "", "", "[server]\nbridge_idle = 30\n", "server.bridge_idle", "a duration such as",
     "bridge_idle"},
    {"R-6", "", "", "preauth_timeout = \"0s\"\n", "listener.front.preauth_timeout", "greater than zero",
     "preauth"},
    {"R-6", "", "", "max_connections = 0\n", "listener.front.max_connections", "not 0", "max_connections"},
    {"R-6", "source = \"file\"\n", "source = \"file\"\nlookup_timeout = \"0s\"\n", "",
     "mapping.lookup_timeout", "greater than zero", "lookup"},
    {"R-6", "", "", "[server]\nbackend_timeout = \"0ms\"\n", "server.backend_timeout", "greater than zero",
     "backend_timeout"},
    {"R-6", "", "", "[http]\nrelay_idle = \"0s\"\n", "http.relay_idle", "greater than zero", "relay_idle"},
    {"R-7", "", "", "max_connections = 5\nmax-connections = 6\n", "listener.front.max-connections",
     "\"max_connections\"", "max-connections = 6"},
    {"R-7", "", "", "[tls.certificate.a]\ncert = \"@/M\"\nkey = \"@/M\"\nprivate-key = \"@/M\"\n",
     "tls.certificate.a.private-key", "same key", "private-key"},
    {"R-8", "", "", "[capabilities.imap]\nbanner = \"a\\r\\nb\"\n", "capabilities.imap.banner",
     "\"a\\r\\nb\" must not contain control", "banner"},
    {"R-8", "", "", "greeting = \"a\\u0000b\"\n", "listener.front.greeting", "NUL", "greeting"},
    {"R-8", "", "", "[capabilities.imap]\nadvertise = [\"IMAP4rev1\", \"A B\"]\n",
     "capabilities.imap.advertise[1]", "spaces", "A B"},
    {"R-8", "", "", "[capabilities.managesieve]\nsieve = [\"a b\"]\n", "capabilities.managesieve.sieve[0]",
     "spaces", "a b"},
    {"R-8", "", "", "[capabilities.submission]\nehlo = [\"SIZE\\n\"]\n", "capabilities.submission.ehlo[0]",
     "control", "SIZE"},
    {"R-8", "", "", "[server]\nhostname = \"a b\"\n", "server.hostname", "\"a b\"", "hostname"},
    // Routing and destinations
    {"R-9", "[routing]\ndefault_destination = \"legacy\"\n", "", "", "routing", "is missing", ""},
    {"R-9", "default_destination = \"legacy\"", "master_user_separators = [\"%\"]", "",
     "routing.default_destination", "is missing", "[routing]"},
    {"R-10", "default_destination = \"legacy\"", "default_destination = \"ghost\"", "",
     "routing.default_destination", "\"ghost\" is not a declared destination", "ghost"},
    {"R-11", "", "", "[destination.second]\n[destination.second.protocol.smtp]\nport = 1\ntls = \"plain\"\n",
     "destination.second.host", "is missing", "[destination.second]"},
    {"R-11", "port = 1143\n", "", "", "destination.legacy.protocol.imap.port", "is missing", "protocol.imap"},
    {"R-11", "port = 1143\ntls = \"plain\"\n", "port = 1143\n", "", "destination.legacy.protocol.imap.tls",
     "is missing", "protocol.imap"},
    {"R-12", "", "", "[destination.legacy.protocol.nntp]\nport = 1\ntls = \"plain\"\n",
     "destination.legacy.protocol.nntp", "\"nntp\" is not one of imap", "nntp"},
    {"R-12", "port = 1143\ntls = \"plain\"", "port = 1143\ntls = \"ssl\"", "",
     "destination.legacy.protocol.imap.tls", "\"ssl\"", "ssl"},
    {"R-12", "proxy_protocol = false\n", "proxy_protocol = false\nforwarding = \"carrier\"\n", "",
     "destination.legacy.forwarding", "\"carrier\"", "carrier"},
    {"R-12", "port = 1143\n", "port = 1143\nforwarding = \"carrier\"\n", "",
     "destination.legacy.protocol.imap.forwarding", "\"carrier\"", "carrier"},
    {"R-13", "port = 1143", "port = 70000", "", "destination.legacy.protocol.imap.port",
     "between 1 and 65535, not 70000", "70000"},
    {"R-13", "port = 1143", "port = 0", "", "destination.legacy.protocol.imap.port", "not 0", "port = 0"},
    {"R-14", "allow_plaintext_auth = true\n", "", "", "destination.legacy.protocol.imap.tls",
     "credentials in clear", "tls = \"plain\""},
    {"R-14", "", "",
     "[destination.unused]\nhost = \"h\"\n[destination.unused.protocol.http]\nport = 80\ntls = \"plain\" # "
     "here\n",
     "destination.unused.protocol.http.tls", "credentials in clear", "here"},
    {"R-14b", "host = \"127.0.0.1\"\n", "host = \"127.0.0.1\"\ntls_server_name = \"x\"\n",
     "[destination.legacy.protocol.http]\nport = 443\ntls = \"starttls\"\n",
     "destination.legacy.protocol.http.tls", "\"starttls\" is not possible on http legs", "starttls"},
    {"R-14b", "host = \"127.0.0.1\"\n", "host = \"127.0.0.1\"\ntls_server_name = \"x\"\n",
     "[destination.legacy.protocol.smtp]\nport = 25\ntls = \"starttls\"\n",
     "destination.legacy.protocol.smtp.tls", "smtp legs", "starttls"},
    {"R-14b", "host = \"127.0.0.1\"\n", "host = \"127.0.0.1\"\ntls_server_name = \"x\"\n",
     "[destination.legacy.protocol.lmtp]\nport = 24\ntls = \"starttls\"\n",
     "destination.legacy.protocol.lmtp.tls", "lmtp legs", "starttls"},
    {"R-14b", "", "", "[listener.web]\nprotocol = \"http\"\nbind = \"127.0.0.1:1\"\ntls = \"starttls\"\n",
     "listener.web.tls", "http listeners", "starttls"},
    {"R-15", "port = 1143\ntls = \"plain\"", "port = 1143\ntls = \"implicit\"", "",
     "destination.legacy.tls_server_name", "is missing: the host is the address \"127.0.0.1\"",
     "[destination.legacy]"},
    {"R-16", "", "", "[destination.d]\nhost = \"h\"\ntls_client_cert = \"@/M\"\n",
     "destination.d.tls_client_cert", "needs tls_client_key", "tls_client_cert"},
    {"R-16", "", "", "[destination.d]\nhost = \"h\"\ntls_client_key = \"@/M\"\n",
     "destination.d.tls_client_key", "needs tls_client_cert", "tls_client_key"},
    {"R-17", "", "",
     "[destination.d]\nhost = \"h\"\ntls_client_cert = \"nowhere.pem\"\ntls_client_key = \"@/M\"\n",
     "destination.d.tls_client_cert", "\"nowhere.pem\" cannot be read", "nowhere"},
    {"R-18", "", "", "[destination.d]\nhost = \"h\"\ntls_pinned_cert_sha256 = \"aabbcc\"\n",
     "destination.d.tls_pinned_cert_sha256", "\"aabbcc\" is not 64 hex", "aabbcc"},
    {"R-18", "", "",
     "[destination.d]\nhost = \"h\"\ntls_pinned_cert_sha256 = "
     "\"zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz\"\n",
     "destination.d.tls_pinned_cert_sha256", "is not 64 hex", "zzz"},
    {"R-19", "", "", "[destination.d]\nhost = \"h\"\nsource_ips = [\"10.0.0.1\", \"300.1.1.1\"]\n",
     "destination.d.source_ips[1]", "\"300.1.1.1\" is not an IP address", "source_ips"},
    {"R-20", "host = \"127.0.0.1\"", "host = \"\"", "", "destination.legacy.host", "must not be empty",
     "host"},
    {"R-20", "host = \"127.0.0.1\"", "host = \"300.1.1.1\"", "", "destination.legacy.host",
     "neither a host name nor", "host"},
    {"R-20", "host = \"127.0.0.1\"", "host = \"a b\"", "", "destination.legacy.host", "neither", "host"},
    {"R-20", "host = \"127.0.0.1\"", "host = \"h\"\ntls_server_name = \"-x\"", "",
     "destination.legacy.tls_server_name", "neither", "tls_server_name"},
    // Listeners
    {"R-21", "", "", "[listener.other]\nprotocol = \"imap\"\ntls = \"plain\"\n", "listener.other.bind",
     "is missing", "[listener.other]"},
    {"R-21", "", "", "[listener.other]\nbind = \"127.0.0.1:1\"\ntls = \"plain\"\n", "listener.other.protocol",
     "is missing", "[listener.other]"},
    {"R-21", "", "", "[listener.other]\nprotocol = \"imap\"\nbind = \"127.0.0.1:1\"\n", "listener.other.tls",
     "is missing", "[listener.other]"},
    {"R-21", "", "",
     "[listener.other]\nprotocol = \"imap\"\nbind = \"127.0.0.1:1\"\ntls = { timeout = \"1s\" }\n",
     "listener.other.tls", "no mode", "timeout"},
    {"R-22", bind_line, "bind = []", "", "listener.front.bind", "must not be empty", "bind"},
    {"R-23", bind_line, "bind = [\"nonsense\"]", "", "listener.front.bind[0]", "\"nonsense\"", "nonsense"},
    {"R-23", bind_line, "bind = [\"127.0.0.1\"]", "", "listener.front.bind[0]", "\"127.0.0.1\" has no port",
     "bind"},
    {"R-23", bind_line, "bind = [\"localhost:143\"]", "", "listener.front.bind[0]",
     "host names are not accepted", "bind"},
    {"R-23", bind_line, "bind = \"127.0.0.1:65536\"", "", "listener.front.bind", "no valid port", "bind"},
    {"R-23", bind_line, "bind = [\"2001:db8::2\"]", "", "listener.front.bind[0]", "no port", "bind"},
    {"R-24", "protocol = \"imap\"", "protocol = \"gopher\"", "", "listener.front.protocol",
     "\"gopher\" is not one of imap", "gopher"},
    {"R-24",
     "tls = \"plain\"\n[listener.front]\nprotocol = \"imap\"\nbind = [\"127.0.0.1:2143\"]\ntls = \"plain\"",
     "tls = \"plain\"\n[listener.front]\nprotocol = \"imap\"\nbind = [\"127.0.0.1:2143\"]\ntls = \"maybe\"",
     "", "listener.front.tls", "\"maybe\" is not one of implicit", "maybe"},
    {"R-24", "", "", "proxy_protocol = \"sometimes\"\n", "listener.front.proxy_protocol", "\"sometimes\"",
     "sometimes"},
    {"R-24", "", "", "forwarded = \"yes\"\n", "listener.front.forwarded", "\"yes\"", "yes"},
    {"R-25", "", "", "proxy_protocol = \"optional\"\n", "listener.front.proxy_protocol",
     "\"optional\" needs peers in proxy_trusted", "optional"},
    {"R-25", "", "", "proxy_protocol = \"required\"\nproxy_trusted = []\n", "listener.front.proxy_protocol",
     "\"required\" needs", "required"},
    {"R-26", "", "", "proxy_trusted = [\"10.0.0.300/8\"]\n", "listener.front.proxy_trusted[0]",
     "\"10.0.0.300/8\"", "proxy_trusted"},
    {"R-26", "", "", "proxy_trusted = [\"10.0.0.0/33\"]\n", "listener.front.proxy_trusted[0]",
     "between 0 and 32", "proxy_trusted"},
    {"R-26", "", "", "proxy_trusted = [\"2001:db8::/129\"]\n", "listener.front.proxy_trusted[0]",
     "between 0 and 128", "proxy_trusted"},
    {"R-27", "default_destination = \"legacy\"",
     "default_destination = \"legacy\"\nsmtp_passthrough_destination = \"legacy\"",
     "[destination.legacy.protocol.smtp]\nport = 25\ntls = \"plain\"\n[listener.mx]\nprotocol = "
     "\"smtp\"\nbind = \"127.0.0.1:1\"\ntls = \"starttls\"\n",
     "listener.mx.tls", "\"starttls\" is not possible on smtp listeners", "starttls"},
    {"R-27", "default_destination = \"legacy\"",
     "default_destination = \"legacy\"\nsmtp_passthrough_destination = \"legacy\"",
     "[destination.legacy.protocol.smtp]\nport = 25\ntls = \"plain\"\n[listener.mx]\nprotocol = "
     "\"lmtp\"\nbind = \"127.0.0.1:1\"\ntls = { implicit = false }\n",
     "listener.mx.tls", "lmtp listeners", "implicit"},
    {"R-28", "", "", "[listener.pop]\nprotocol = \"pop3\"\nbind = \"127.0.0.1:1\"\ntls = \"plain\"\n",
     "routing.default_destination", "\"legacy\" has no pop3 leg", "default_destination"},
    {"R-29", "", "", "[listener.mx]\nprotocol = \"smtp\"\nbind = \"127.0.0.1:1\"\ntls = \"plain\"\n",
     "routing.smtp_passthrough_destination", "is missing, but listener.mx is a listener for smtp",
     "[routing]"},
    {"R-30", "default_destination = \"legacy\"",
     "default_destination = \"legacy\"\nsmtp_passthrough_destination = \"ghost\"", "",
     "routing.smtp_passthrough_destination", "\"ghost\" is not a declared", "ghost"},
    {"R-31", "default_destination = \"legacy\"",
     "default_destination = \"legacy\"\nsmtp_passthrough_destination = \"legacy\"", "",
     "routing.smtp_passthrough_destination", "\"legacy\" has no smtp leg", "smtp_pass"},
    {"R-32", "default_destination = \"legacy\"",
     "default_destination = \"legacy\"\nsmtp_passthrough_destination = \"legacy\"",
     "[destination.legacy.protocol.smtp]\nport = 25\ntls = \"plain\"\n[listener.l]\nprotocol = "
     "\"lmtp\"\nbind = \"127.0.0.1:1\"\ntls = \"plain\"\n",
     "routing.smtp_passthrough_destination", "has no lmtp leg", "smtp_pass"},
    {"R-33", front, "", "", "listener", "nothing listens", ""},
    {"R-34", "", "",
     "[listener.second]\nprotocol = \"imap\"\nbind = [\"127.0.0.1:2143\"] # again\ntls = \"plain\"\n",
     "listener.second.bind[0]", "\"127.0.0.1:2143\" is bound by listener.front.bind[0] already", "again"},
    {"R-34", "", "",
     "[listener.second]\nprotocol = \"imap\"\nbind = \"[::ffff:127.0.0.1]:2143\"\ntls = \"plain\"\n",
     "listener.second.bind", "bound by listener.front", "::ffff"},
    // Mapping
    {"R-35", mapping, "", "", "mapping", "is missing", ""},
    {"R-35", "source = \"file\"\n", "", "", "mapping.source", "is missing", "[mapping]"},
    {"R-35", "source = \"file\"", "source = \"ldap\"", "", "mapping.source",
     "\"ldap\" is not one of file, redis, sql", "ldap"},
    {"R-35", "source = \"file\"", "source = \"file\"\nnormalize = \"uppercase\"", "", "mapping.normalize",
     "\"uppercase\"", "uppercase"},
    {"R-36", "[mapping.file]\npath = \"@/M\"\n", "", "", "mapping.file", "is missing, but source = \"file\"",
     "[mapping]"},
    {"R-36", "source = \"file\"", "source = \"redis\"", "", "mapping.redis",
     "is missing, but source = \"redis\"", "[mapping]"},
    {"R-36", "source = \"file\"", "source = \"sql\"", "", "mapping.sql", "is missing, but source = \"sql\"",
     "[mapping]"},
    {"R-37", "path = \"@/M\"\n", "", "", "mapping.file.path", "is missing", "[mapping.file]"},
    {"R-37", "source = \"file\"", "source = \"redis\"", "[mapping.redis]\npool_size = 2\n",
     "mapping.redis.url", "is missing", "[mapping.redis]"},
    {"R-37", "source = \"file\"", "source = \"sql\"", "[mapping.sql]\nurl = \"sqlite://x.db\"\n",
     "mapping.sql.query", "is missing", "[mapping.sql]"},
    {"R-38", "@/M", "@/absent.tsv", "", "mapping.file.path", "absent.tsv\" cannot be read: No such file",
     "absent"},
    {"R-42", "source = \"file\"", "source = \"redis\"", "[mapping.redis]\nurl = \"ldap://x\"\n",
     "mapping.redis.url", "is not a redis://", "ldap"},
    {"R-42", "source = \"file\"", "source = \"sql\"", "[mapping.sql]\nurl = \"ldap://x\"\nquery = \"q\"\n",
     "mapping.sql.url", "is not a postgres://", "ldap"},
    // HTTP routes
    {"R-43", "", "",
     "[[http.route]]\ndestination = \"legacy\"\n[destination.legacy.protocol.http]\nport = 80\ntls = "
     "\"plain\"\n",
     "http.route[0].match", "is missing", "[[http.route]]"},
    {"R-44", "", "", "[[http.route]]\nmatch = \"/[a-\"\n", "http.route[0].match",
     "\"/[a-\" has a character class", "match"},
    {"R-45", "", "",
     "[[http.route]]\nmatch = \"/**\"\n[[http.route]]\nmatch = \"/x\"\ndestination = \"ghost\"\n",
     "http.route[1].destination", "\"ghost\" is not a declared", "ghost"},
    {"R-45", "", "", "[[http.route]]\nmatch = \"/**\"\ndestination = \"legacy\" # no leg\n",
     "http.route[0].destination", "\"legacy\" has no http leg", "no leg"},
    {"R-46", "", "", "[[http.route]]\nmatch = \"/\"\nextract = { from = \"cookie\" }\n",
     "http.route[0].extract.from", "\"cookie\"", "cookie"},
    {"R-46", "", "", "[[http.route]]\nmatch = \"/\"\nextract = { param = \"x\" }\n",
     "http.route[0].extract.from", "is missing", "extract"},
    {"R-47", "", "", "[[http.route]]\nmatch = \"/\"\nextract = { from = \"body\" }\n",
     "http.route[0].extract.regex", "is missing", "extract"},
    {"R-48", "", "", "[[http.route]]\nmatch = \"/\"\nextract = { from = \"query\" }\n",
     "http.route[0].extract.param", "is missing", "extract"},
    {"R-49", "", "", "[[http.route]]\nmatch = \"/\"\nextract = { from = \"header\" }\n",
     "http.route[0].extract.header", "is missing", "extract"},
    {"R-50", "", "", "[[http.route]]\nmatch = \"/\"\nextract = { from = \"body\", regex = \"user=([^&\" }\n",
     "http.route[0].extract.regex", "\"user=([^&\" is not a valid regular expression", "extract"},
    {"R-51", "", "",
     "[[http.route]]\nmatch = \"/\"\nextract = { from = \"body\", regex = \"username=.*\" }\n",
     "http.route[0].extract.regex", "has no capture group", "extract"},
    {"R-52", "", "", "[[http.route]]\nmatch = \"/\"\nfallback = \"ghost\"\n", "http.route[0].fallback",
     "\"ghost\" is not a declared", "ghost"},
    {"R-52", "", "", "[[http.route]]\nmatch = \"/\"\nfallback = \"legacy\" # no leg\n",
     "http.route[0].fallback", "no http leg", "no leg"},
    // TLS
    {"R-53", "", "", "[tls.protocols]\nmin_version = \"1.1\"\n", "tls.protocols.min_version",
     "\"1.1\" is not supported", "1.1"},
    {"R-54", "", "", server_tls_names, "tls.protocols.disable_cipher_suites",
     "every cipher suite is disabled", "disable_cipher"},
    {"R-55", "", "", "[tls.protocols]\ndisable_cipher_suites = [\"TLS_FOO\"]\n",
     "tls.protocols.disable_cipher_suites[0]", "\"TLS_FOO\" is not one of", "TLS_FOO"},
    {"R-56", "", "", "[tls.certificate.a]\ncert = \"nocert.pem\"\nkey = \"@/M\"\n", "tls.certificate.a.cert",
     "\"nocert.pem\" cannot be read", "nocert"},
    {"R-56", "", "", "[tls.certificate.a]\ncert = \"@/M\"\nkey = \"file://@/nokey.pem\"\n",
     "tls.certificate.a.key", "cannot be read", "nokey"},
    {"R-56", "", "", "[tls.certificate.a]\ncert = \"@/M\"\n", "tls.certificate.a.key", "is missing",
     "[tls.certificate.a]"},
    {"R-58", "", "",
     "[tls.certificate.a]\ncert = \"@/M\"\nkey = \"@/M\"\ndefault = true\n[tls.certificate.b]\ncert = "
     "\"@/M\"\nkey = \"@/M\"\ndefault = true # second\n",
     "tls.certificate.b.default", "only one certificate can be the default; tls.certificate.a is", "second"},
    // Capabilities
    {"R-59", "", "", "[capabilities.imap]\nsasl = [\"PLAIN\", \"CRAM-MD5\"]\n", "capabilities.imap.sasl[1]",
     "\"CRAM-MD5\" is not a known mechanism", "CRAM"},
    {"R-60", "", "", "[capabilities.pop3]\nsasl = [\"PLAIN\", \"plain\"]\n", "capabilities.pop3.sasl",
     "\"plain\" is there twice", "sasl"},
    {"R-60", "", "", "[capabilities.managesieve]\nsasl = [\"XOAUTH2\", \"XOAUTH2\"]\n",
     "capabilities.managesieve.sasl", "twice", "sasl"},
    {"R-60", "", "", "[capabilities.submission]\nsasl = [\"Login\", \"LOGIN\"]\n",
     "capabilities.submission.sasl", "twice", "sasl"},
    // Management
    {"R-61", "", "", "[admin]\nbearer_token = \"0123456789abcdef0123456789abcdef\"\n", "admin.bind",
     "is missing", "[admin]"},
    {"R-61", "", "",
     "[admin]\nbind = \"localhost-ish\"\nbearer_token = \"0123456789abcdef0123456789abcdef\"\n", "admin.bind",
     "\"localhost-ish\"", "localhost-ish"},
    {"R-62", "", "",
     "[admin]\nbind = \"127.0.0.1:1\"\ntls = \"plain\" # here\nbearer_token = "
     "\"0123456789abcdef0123456789abcdef\"\n",
     "admin.tls", "\"plain\" is not possible", "here"},
    {"R-62", "", "",
     "[admin]\nbind = \"127.0.0.1:1\"\ntls = \"starttls\"\nbearer_token = "
     "\"0123456789abcdef0123456789abcdef\"\n",
     "admin.tls", "\"starttls\" is not possible", "starttls"},
    {"R-63", "", "", "[admin]\nbind = \"127.0.0.1:1\"\n", "admin.bearer_token", "PROXY_ADMIN_TOKEN",
     "[admin]"},
    {"R-64", "", "", "[admin]\nbind = \"127.0.0.1:1\"\nbearer_token_file = \"absent.token\"\n",
     "admin.bearer_token_file", "\"absent.token\" cannot be read", "absent"},
    {"R-65", "", "", "[admin]\nbind = \"127.0.0.1:1\"\nbearer_token = \"short\"\n", "admin.bearer_token",
     "has 5 bytes, but min_token_len is 32", "short"},
    // Part 2
    {"R-66", "", "",
     "[listener.x]\nprotocol = \"imap\"\nbind = \"127.0.0.1:1\"\ntls = { mode = \"implicit\", implicit = "
     "false }\n",
     "listener.x.tls.implicit", "contradicts mode = \"implicit\"", "mode"},
    {"R-66", "", "",
     "[listener.x]\nprotocol = \"imap\"\nbind = \"127.0.0.1:1\"\ntls = { mode = \"starttls\", enable = false "
     "}\n",
     "listener.x.tls.enable", "contradicts", "mode"},
    {"R-66", "", "",
     "[listener.x]\nprotocol = \"imap\"\nbind = \"127.0.0.1:1\"\ntls = { mode = \"implicit\" }\ntls_options "
     "= { timeout = \"1s\" }\n",
     "listener.x.tls_options", "tls is a table already", "tls_options"},
    {"R-66", "", "", "tls_options = { implicit = true }\n", "listener.front.tls_options.implicit",
     "belongs to tls as a table", "tls_options"},
    {"R-67", "", "", "[server.tls]\ncertificate = \"ghost\"\n", "server.tls.certificate",
     "\"ghost\" is not a declared certificate", "ghost"},
    {"R-67", "", "", "tls_options = { sni = [{ subject = \"a.test\", certificate = \"ghost\" }] }\n",
     "listener.front.tls_options.sni[0].certificate", "\"ghost\"", "ghost"},
    {"R-67", "", "", "[server.tls]\nsni = [{ subject = \"a.test\" }]\n", "server.tls.sni[0].certificate",
     "is missing", "sni"},
    {"R-67", "", "",
     "[tls.certificate.a]\ncert = \"@/M\"\nkey = \"@/M\"\n[server.tls]\nsni = [{ certificate = \"a\" }]\n",
     "server.tls.sni[0].subject", "is missing", "sni"},
    {"R-68", "", "", "tls_options = { protocols = [\"TLSv1.1\"] }\n",
     "listener.front.tls_options.protocols[0]", "\"TLSv1.1\" is not one of TLSv1.2, TLSv1.3", "TLSv1.1"},
    {"R-68", "", "", "tls_options = { protocols = [] }\n", "listener.front.tls_options.protocols",
     "must not be empty", "protocols"},
    {"R-68", "", "", "tls_options = { disable_protocols = [\"tls12\", \"1.3\"] }\n",
     "listener.front.tls_options.disable_protocols", "no TLS version is left", "disable_protocols"},
    {"R-68", "", "",
     "tls_options = { protocols = [\"TLSv1.2\"], ciphers = [\"TLS13_AES_256_GCM_SHA384\"] }\n",
     "listener.front.tls_options.ciphers", "no cipher suite is left", "ciphers"},
    {"R-68", "", "", "[server.tls]\nprotocols = [\"TLSv1.2\"]\nciphers = [\"TLS13_AES_256_GCM_SHA384\"]\n",
     "server.tls.ciphers", "no cipher suite is left", "ciphers"},
    {"R-68", "", "", "[server.tls]\nciphers = [\"TLS_RSA_WITH_AES_128_CBC_SHA\"]\n", "server.tls.ciphers[0]",
     "\"TLS_RSA_WITH_AES_128_CBC_SHA\"", "ciphers"},
    {"R-68", "", "", "[server.tls]\ngroups = []\n", "server.tls.groups", "must not be empty", "groups"},
    {"R-68", "", "", "[server.tls]\ngroups = [\"X448\"]\n", "server.tls.groups[0]",
     "\"X448\" is not one of X25519MLKEM768", "X448"},
    {"R-69", "", "", "[server.socket]\nbacklog = 0\n", "server.socket.backlog", "not 0", "backlog"},
    {"R-69", "", "", "[listener.front.socket]\nttl = 256\n", "listener.front.socket.ttl",
     "between 1 and 255, not 256", "ttl"},
    {"R-69", "", "", "[server.socket]\ntos = 0\n", "server.socket.tos", "between 1 and 255, not 0", "tos"},
    {"R-69", "", "", "[server.socket]\nsend_buffer_size = 0\n", "server.socket.send_buffer_size", "not 0",
     "send_buffer_size"},
    {"R-69", "", "", "[server.socket]\nrecv_buffer_size = 0\n", "server.socket.recv_buffer_size", "not 0",
     "recv_buffer_size"},
    {"R-70", "", "", "[server.listener.front]\nprotocol = \"imap\"\nbind = \"127.0.0.1:1\"\n",
     "server.listener.front", "the same listener is declared as listener.front", "server.listener"},
    {"R-70", "", "",
     "[tls.certificate.a]\ncert = \"@/M\"\nkey = \"@/M\"\n[certificate.a]\ncert = \"@/M\"\nprivate-key = "
     "\"@/M\"\n",
     "certificate.a", "the same certificate is declared as tls.certificate.a", "[certificate.a]"},
    // Keys nobody knows (decision 2)
    {"key", "", "", "max_conections = 5\n", "listener.front.max_conections",
     "unknown key; did you mean listener.front.max_connections?", "max_conections"},
    {"key", "", "", "retry_failed_logins = true\n", "listener.front.retry_failed_logins", "unknown key",
     "retry"},
    {"key", "", "", "[capabilities.http]\nbanner = \"x\"\n", "capabilities.http", "unknown key",
     "capabilities.http"},
    {"key", "", "", "[capabilities.managesieve]\nbanner = \"x\"\n", "capabilities.managesieve.banner",
     "unknown key", "banner"},
    {"key", "", "", "[destinations.x]\nhost = \"x\"\n", "destinations", "did you mean destination?",
     "destinations"},
};

int line_of(std::string_view document, std::string_view marker) {
  const size_t at = document.find(marker);
  REQUIRE(at != std::string_view::npos);
  return 1 +
         static_cast<int>(std::count(document.begin(), document.begin() + static_cast<ptrdiff_t>(at), '\n'));
}

}  // namespace

TEST_CASE("the base document of the rejections is accepted") {
  const Folder folder;
  folder.write("M", "");
  const Loaded loaded =
      load_text("test.toml", replaced(std::string(base_document), "@", folder.path()), {}, everything);
  CHECK(lines_of(loaded) == "");
}

TEST_CASE("every rejection names its key, its place and the offending value") {
  const Folder folder;
  folder.write("M", "");
  for (const Row& row : rows) {
    std::string document(base_document);
    if (!row.from.empty()) {
      REQUIRE(document.find(row.from) != std::string::npos);
      document.replace(document.find(row.from), row.from.size(), row.to);
    }
    document += row.more;
    CAPTURE(row.rule);
    CAPTURE(document);
    const Loaded loaded = load_text("test.toml", replaced(document, "@", folder.path()), {}, everything);
    CAPTURE(lines_of(loaded));
    CHECK_FALSE(loaded.ok());
    const Problem* problem = find_problem(loaded, row.key);
    REQUIRE(problem != nullptr);
    CHECK(problem->text.find(row.text) != std::string::npos);
    CHECK(problem->file == "test.toml");
    CHECK(problem->place.column > 0);
    if (row.rule == "R-2") {
      CHECK(problem->place.line == 18);
    } else {
      // What a change adds stands behind the base document, so the last match is the one meant.
      const std::string_view text = document;
      const bool added = !row.more.empty() && row.more.find(row.marker) != std::string_view::npos;
      const size_t from = added ? text.size() - row.more.size() : 0;
      const int before = line_of(text, text.substr(from)) - 1;
      CHECK(problem->place.line ==
            (row.marker.empty() ? 1 : before + line_of(text.substr(from), row.marker)));
    }
    // One mistake, one message.
    CHECK(loaded.problems.errors() == 1);
  }
}

TEST_CASE("a file that is missing is reported as a whole") {
  const Loaded loaded = load("nope.toml", {});
  CHECK(lines_of(loaded) == "nope.toml: cannot be read: No such file or directory\n");
}

TEST_CASE("a folder is not a configuration") {
  const Folder folder;
  CHECK(lines_of(load(folder.path(), {})) == folder.path() + ": cannot be read: it is a directory\n");
}

TEST_CASE("broken syntax is one problem with its place") {
  for (const auto& [name, text] : std::vector<std::pair<std::string, std::string>>{{"x.toml", "[server"},
                                                                                   {"x.toml", "a = \n"},
                                                                                   {"x.yaml", "a: [1, 2"},
                                                                                   {"x.json", "{\"a\": "},
                                                                                   {"x.yaml", "\ta: b"}}) {
    const Loaded loaded = load_text(name, text, {}, no_files);
    CAPTURE(text);
    REQUIRE(loaded.problems.all().size() == 1);
    CHECK(loaded.problems.all()[0].place.line >= 1);
    CHECK(loaded.problems.all()[0].line().starts_with(name + ":1:"));
  }
}

TEST_CASE("text that is not UTF-8 is refused") {
  CHECK(lines_of(load_toml("a = \"\xff\"")) == "test.toml: is not UTF-8 text\n");
}

}  // namespace postern::conf
