// SPDX-License-Identifier: GPL-3.0-or-later
// What must be accepted although a stricter reader would not, and what is a warning and no more.
#include "test/unit/conf/fixture.hpp"

namespace postern::conf {
namespace {

constexpr std::string_view smtp_only = R"([mapping]
source = "file"
[mapping.file]
path = "@/M"
[routing]
default_destination = "mx"
smtp_passthrough_destination = "mx"
[destination.mx]
host = "does-not-resolve.invalid"
[destination.mx.protocol.smtp]
port = 25
tls = "plain"
[destination.mx.protocol.lmtp]
port = 24
tls = "plain"
[listener.mx]
protocol = "smtp"
bind = "127.0.0.1:0"
tls = "plain"
[listener.lmtp]
protocol = "lmtp"
bind = "127.0.0.1:0"
tls = "plain"
)";

struct Row {
  std::string_view what, more;
};

}  // namespace

TEST_CASE("scenario 273: nothing is refused that the documentation allows") {
  const Row rows[] = {
      {"no [server] table", ""},
      {"an empty [server]", "[server]\n"},
      {"an http listener without an http leg",
       "[listener.web]\nprotocol = \"http\"\nbind = \"127.0.0.1:1\"\ntls = \"implicit\"\n"},
      {"plain smtp and lmtp legs without allow_plaintext_auth",
       "[destination.d]\nhost = \"h\"\n[destination.d.protocol.smtp]\nport = 1\ntls = \"plain\"\n"
       "[destination.d.protocol.lmtp]\nport = 1\ntls = \"plain\"\n"},
      {"a host name with TLS and no tls_server_name",
       "[destination.d]\nhost = \"h.test\"\n[destination.d.protocol.imap]\nport = 993\ntls = \"implicit\"\n"},
      {"a destination nobody routes to", "[destination.d]\nhost = \"192.0.2.1\"\n"},
      {"port 0 twice",
       "[listener.b]\nprotocol = \"imap\"\nbind = [\"127.0.0.1:0\", \"127.0.0.1:0\"]\ntls = \"plain\"\n"},
      {"one port on both families",
       "[listener.b]\nprotocol = \"imap\"\nbind = [\"0.0.0.0:9\", \"[::]:9\"]\ntls = \"plain\"\n"},
      {"fallback = default", "[[http.route]]\nmatch = \"/**\"\nfallback = \"default\"\n"},
      {"a TLS listener without any certificate",
       "[listener.b]\nprotocol = \"imap\"\nbind = \"127.0.0.1:1\"\ntls = \"implicit\"\n"},
      {"an empty sasl list", "[capabilities.imap]\nsasl = []\n"},
      {"LOGIN in sasl", "[capabilities.imap]\nsasl = [\"plain\", \"LOGIN\"]\n"},
      {"max_auth_attempts = 0", "max_auth_attempts = 0\n"},
      {"names that need quoting",
       "[listener.\"a b.c\"]\nprotocol = \"imap\"\nbind = \"127.0.0.1:1\"\ntls = \"plain\"\n"},
      {"kebab-case",
       "max-connections = 7\npreauth-timeout = \"1s\"\ntls-options = { ignore-client-order = true }\n"},
      {"a server named by kebab-case only where keys are known",
       "[destination.\"big-one\"]\nhost = \"h\"\n[destination.big_one]\nhost = \"h\"\n"},
      {"forwarded on a mail listener", "forwarded = \"trust\"\n"},
      {"all suites but one disabled",
       "[tls.protocols]\nmin_version = \"1.3\"\ndisable_cipher_suites = "
       "[\"TLS_AES_128_GCM_SHA256\", \"TLS_CHACHA20_POLY1305_SHA256\"]\n"},
      {"tickets",
       "[tls.tickets]\nenable = false\nfile = \"/run/postern/tickets\"\nrotate = \"1h\"\nlifetime = "
       "\"7d\"\n"},
      {"metrics", "[metrics]\nbind = \"127.0.0.1:9090\"\n"},
      {"a management listener with its token inline",
       "[admin]\nbind = \"127.0.0.1:1\"\nbearer_token = \"0123456789abcdef0123456789abcdef\"\n"},
      {"http settings", "[http]\nmax_keepalive_requests = 0\nkeepalive_timeout = \"5s\"\n"},
      {"fields of the PROXY header",
       "[destination.d]\nhost = \"h\"\nproxy_tlvs = [\"ssl\", \"crc32c\"]\nproxy_map_v4 = true\n"},
  };
  const Folder folder;
  folder.write("M", "");
  for (const Row& row : rows) {
    CAPTURE(row.what);
    const std::string document = replaced(base_and(row.more), "@", folder.path());
    const Loaded loaded = load_text("test.toml", document, {}, everything);
    CHECK(lines_of(loaded) == "");
  }
}

TEST_CASE("a setup that only passes SMTP and LMTP through loads, refusals of this build included") {
  const Folder folder;
  folder.write("M", "# nobody\n");
  const std::string document = replaced(std::string(smtp_only), "@", folder.path());
  const Loaded loaded = load(folder.write("postern.toml", document), {});
  CHECK(lines_of(loaded) == "");
  CHECK(loaded.config.listeners.size() == 2);
  CHECK(loaded.config.destinations[0].leg(Protocol::smtp)->forwarding == Forwarding::proxy);
}

TEST_CASE("what this build cannot serve is refused by name, after everything else was checked") {
  const Row rows[] = {
      {"listener.front.protocol: \"http\": not supported by this build yet", ""},
      {"admin: not supported by this build yet",
       "[admin]\nbind = \"127.0.0.1:1\"\nbearer_token = \"0123456789abcdef0123456789abcdef\"\n"},
      {"http.route: not supported by this build yet", "[[http.route]]\nmatch = \"/**\"\n"},
      {"server.listener_state: not supported by this build yet", "[server]\nlistener_state = \"x\"\n"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    std::string document = base_and(row.more);
    if (row.what.find("http\"") != std::string_view::npos)
      document = replaced(document, "= \"imap\"", "= \"http\"");
    const Loaded loaded =
        load_text("test.toml", document, {}, {.refuse_unsupported = true, .touch_files = false});
    CHECK(lines_of(loaded).find(row.what) != std::string::npos);
    CHECK(lines_of(load_text("test.toml", document, {}, no_files)) == "");
  }
}

TEST_CASE("what is unwise but possible is a warning at its place") {
  struct {
    std::string_view more, key, text;
  } const rows[] = {
      {"[listener.w]\nprotocol = \"http\"\nbind = \"127.0.0.1:1\"\ntls = \"plain\"\ngreeting = \"hi\"\n",
       "listener.w.greeting", "has no effect on http listeners"},
      {"[tls.certificate.a]\ncert = \"a.pem\"\nkey = \"-----BEGIN PRIVATE KEY-----\"\n",
       "tls.certificate.a.key", "private key inside"},
      {"[destination.d]\nhost = \"h\"\ntls_allow_invalid_certs = true\n",
       "destination.d.tls_allow_invalid_certs", "not verified"},
      {"[[http.route]]\nmatch = \"/\"\ndestination = \"legacy\"\nextract = { from = \"authorization\" }\n"
       "[destination.legacy.protocol.http]\nport = 1\ntls = \"plain\"\n",
       "http.route[0].extract", "destination wins"},
      {"[server.tls]\nenable = true\n[listener.w]\nprotocol = \"http\"\nbind = \"127.0.0.1:1\"\n",
       "listener.w", "this one is plain"},
  };
  for (const auto& row : rows) {
    CAPTURE(row.more);
    const Loaded loaded = load_toml(base_and(row.more));
    CAPTURE(lines_of(loaded));
    CHECK(loaded.ok());
    REQUIRE(loaded.problems.all().size() == 1);
    const Problem* problem = find_problem(loaded, row.key, true);
    REQUIRE(problem != nullptr);
    CHECK(problem->text.find(row.text) != std::string::npos);
    CHECK(problem->place.line > 17);
  }
}

TEST_CASE("without strict keys an unknown key is a warning and nothing else changes") {
  for (const char* key : {"strict_keys", "strict-keys"}) {
    const Loaded loaded =
        load_toml(base_and("max_conections = 5\n[server]\n" + std::string(key) + " = false\n"));
    CHECK(loaded.ok());
    CHECK(find_problem(loaded, "listener.front.max_conections", true) != nullptr);
  }
  // A leg protocol nobody knows stays an error (R-12).
  CHECK_FALSE(
      load_toml(base_and("[server]\nstrict_keys = false\n[destination.legacy.protocol.nntp]\nport = 1\n"))
          .ok());
}

TEST_CASE("the management token: environment over file over inline, and all of them must be long enough") {
  const std::string good(32, 't');
  struct {
    std::string_view file, token;
    std::optional<Secret> variable;
    bool ok;
  } const rows[] = {
      {"", good, {}, true},         {"", good, Secret("tiny"), false},
      {"", "", Secret(good), true}, {" \ntttttttttttttttttttttttttttttttt\n", "short", {}, true},
      {"short", good, {}, false},   {"short", good, Secret(good), true}};
  const Folder folder;
  for (const auto& row : rows) {
    std::string document = base_and("[admin]\nbind = \"127.0.0.1:1\"\n");
    if (!row.file.empty()) document += "bearer_token_file = \"" + folder.write("token", row.file) + "\"\n";
    if (!row.token.empty()) document += "bearer_token = \"" + std::string(row.token) + "\"\n";
    folder.write("M", "");
    const Loaded loaded = load_text("test.toml", replaced(document, "@", folder.path()),
                                    {.rust_log = {}, .admin_token = row.variable}, everything);
    CAPTURE(lines_of(loaded));
    CHECK(loaded.ok() == row.ok);
    CHECK(lines_of(loaded).find("short") == std::string::npos);
    CHECK(lines_of(loaded).find("tiny") == std::string::npos);
  }
}

TEST_CASE("no message repeats a secret") {
  const std::string_view secret = "hunter2hunter2";
  for (const char* more :
       {"[admin]\nbind = \"x\"\nbearer_token = \"hunter2hunter2\"\n",
        "[admin]\nbearer_token = hunter2hunter2\n", "[admin]\nbearer_token = [\"hunter2hunter2\"]\n",
        "[mapping.redis]\nurl = \"http://:hunter2hunter2@h\"\n",
        "[mapping.sql]\nurl = \"hunter2hunter2\"\nquery = \"q\"\n",
        "[destination.d]\nhost = \"h\"\ntls_client_cert = \"x.pem\"\ntls_client_key = \"hunter2hunter2\"\n",
        "[tls.certificate.a]\ncert = \"a.pem\"\nkey = \"hunter2hunter2\"\n"}) {
    CAPTURE(more);
    const Loaded loaded = load_text("test.toml", base_and(more), {}, everything);
    CHECK_FALSE(loaded.ok());
    CHECK(lines_of(loaded).find(secret) == std::string::npos);
  }
}

TEST_CASE("RUST_LOG wins over the file if it is valid") {
  const std::string document = base_and("[server]\nlog_level = \"warn\"\n");
  struct {
    std::optional<std::string> variable;
    LogLevel level;
  } const rows[] = {{std::nullopt, LogLevel::warn},
                    {"debug", LogLevel::debug},
                    {"nonsense", LogLevel::warn},
                    {"hyper=trace", LogLevel::warn},
                    {"", LogLevel::warn}};
  for (const auto& row : rows) {
    const Loaded loaded =
        load_text("test.toml", document, {.rust_log = row.variable, .admin_token = {}}, no_files);
    CHECK(loaded.ok());
    CHECK(loaded.config.server.log_level == row.level);
  }
  CHECK(find_problem(load_toml(base_and("[server]\nlog_level = \"loud\"\n")), "server.log_level") != nullptr);
}

}  // namespace postern::conf
