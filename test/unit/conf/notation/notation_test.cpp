// SPDX-License-Identifier: GPL-3.0-or-later
// One tree, two notations: TOML, YAML and JSON with every scalar quoted mean the same; and what YAML may not
// do.
#include <chrono>
#include <nlohmann/json.hpp>

#include "test/unit/conf/fixture.hpp"

namespace postern::conf {
namespace {

constexpr std::string_view toml_document = R"([server]
hostname = "mail.example.com"
max_connections = 4096
[server.socket]
backlog = 1024
nodelay = true
[server.tls]
timeout = "1m"
certificate = "default"
protocols = ["TLSv1.2", "TLSv1.3"]
ignore_client_order = true
sni = [ { subject = "otherdomain.org", certificate = "other" } ]
[tls.certificate.default]
cert = "/etc/postern/tls/fullchain.pem"
key = "/etc/postern/tls/privkey.pem"
default = true
[tls.certificate.other]
cert = "file:///etc/postern/tls/other.pem"
key = "file:///etc/postern/tls/other.key"
[listener.imap]
protocol = "imap"
bind = ["0.0.0.0:993", "[::]:993"]
tls = "implicit"
[listener.imap.tls_options]
protocols = ["TLSv1.3"]
[listener.imap.socket]
backlog = 2048
[listener.submission]
protocol = "submission"
bind = "[::]:587"
greeting = "Welcome!"
tls = { enable = true, implicit = false, timeout = "30s" }
[mapping]
source = "file"
[mapping.file]
path = "/etc/postern/mappings.tsv"
[routing]
default_destination = "legacy"
[destination.legacy]
host = "10.0.1.10"
tls_server_name = "mail.legacy.example.com"
[destination.legacy.protocol.imap]
port = 993
tls = "implicit"
[destination.legacy.protocol.submission]
port = 587
tls = "starttls"
)";

constexpr std::string_view yaml_document = R"(server:
  hostname: mail.example.com
  max_connections: 4096
  socket: { backlog: 1024, nodelay: true }
  tls:
    timeout: 1m
    certificate: default
    protocols: [TLSv1.2, TLSv1.3]
    ignore_client_order: true
    sni:
      - { subject: otherdomain.org, certificate: other }
tls:
  certificate:
    default:
      cert: /etc/postern/tls/fullchain.pem
      key: /etc/postern/tls/privkey.pem
      default: true
    other:
      cert: file:///etc/postern/tls/other.pem
      key: file:///etc/postern/tls/other.key
listener:
  imap:
    protocol: imap
    bind: ["0.0.0.0:993", "[::]:993"]
    tls: implicit
    tls_options: { protocols: [TLSv1.3] }
    socket: { backlog: 2048 }
  submission:
    protocol: submission
    bind: "[::]:587"
    greeting: Welcome!
    tls: { enable: true, implicit: false, timeout: 30s }
mapping:
  source: file
  file: { path: /etc/postern/mappings.tsv }
routing:
  default_destination: legacy
destination:
  legacy:
    host: 10.0.1.10
    tls_server_name: mail.legacy.example.com
    protocol:
      imap: { port: 993, tls: implicit }
      submission: { port: 587, tls: starttls }
)";

constexpr std::string_view json_document = R"({
 "server": {"hostname": "mail.example.com", "max_connections": "4096",
  "socket": {"backlog": "1024", "nodelay": "true"},
  "tls": {"timeout": "1m", "certificate": "default", "protocols": ["TLSv1.2", "TLSv1.3"],
   "ignore_client_order": "true", "sni": [{"subject": "otherdomain.org", "certificate": "other"}]}},
 "tls": {"certificate": {
   "default": {"cert": "/etc/postern/tls/fullchain.pem", "key": "/etc/postern/tls/privkey.pem", "default": "true"},
   "other": {"cert": "file:///etc/postern/tls/other.pem", "key": "file:///etc/postern/tls/other.key"}}},
 "listener": {
  "imap": {"protocol": "imap", "bind": ["0.0.0.0:993", "[::]:993"], "tls": "implicit",
   "tls_options": {"protocols": ["TLSv1.3"]}, "socket": {"backlog": "2048"}},
  "submission": {"protocol": "submission", "bind": "[::]:587", "greeting": "Welcome!",
   "tls": {"enable": "true", "implicit": "false", "timeout": "30s"}}},
 "mapping": {"source": "file", "file": {"path": "/etc/postern/mappings.tsv"}},
 "routing": {"default_destination": "legacy"},
 "destination": {"legacy": {"host": "10.0.1.10", "tls_server_name": "mail.legacy.example.com",
  "protocol": {"imap": {"port": "993", "tls": "implicit"}, "submission": {"port": "587", "tls": "starttls"}}}}
})";

Config loaded_without_name(const std::string& name, std::string_view text) {
  Loaded loaded = load_text(name, text, {}, no_files);
  CHECK(lines_of(loaded) == "");
  loaded.config.file.clear();
  return loaded.config;
}

}  // namespace

TEST_CASE("scenario 270: TOML, YAML and fully quoted JSON load to the same settings") {
  const Config toml = loaded_without_name("a.toml", toml_document);
  CHECK(toml == loaded_without_name("a.yaml", yaml_document));
  CHECK(toml == loaded_without_name("a.yml", yaml_document));
  CHECK(toml == loaded_without_name("a.json", json_document));
  CHECK(nlohmann::json::accept(json_document));
  // And they mean what they say.
  REQUIRE(toml.listeners.size() == 2);
  CHECK(toml.listeners[0].socket.backlog == 2048);
  CHECK(toml.listeners[0].max_connections == 4096);
  CHECK_FALSE(toml.listeners[0].tls.tls12);
  CHECK(toml.listeners[0].tls.certificate == "default");
  CHECK(toml.listeners[0].tls.sni.size() == 1);
  CHECK(toml.listeners[1].tls_mode == TlsMode::starttls);
  CHECK(toml.listeners[1].tls.timeout == std::chrono::seconds(30));
  CHECK(toml.listeners[1].greeting == "Welcome!");
  CHECK(toml.certificates[0].is_default);
  CHECK(toml.destinations[0].leg(Protocol::submission)->tls == TlsMode::starttls);
}

TEST_CASE("scalars of YAML become what the key wants") {
  const Loaded loaded = load_yaml(replaced(std::string(yaml_document), "    tls: implicit\n",
                                           "    tls: plain\n    proxy_protocol: off\n    greeting: 7\n") +
                                  "tls:\n");
  CHECK_FALSE(loaded.ok());  // "tls" twice
  const Loaded good = load_yaml(replaced(std::string(yaml_document), "    tls: implicit\n",
                                         "    tls: plain\n    proxy_protocol: off\n    greeting: 7\n"));
  CHECK(lines_of(good) == "");
  CHECK(good.config.listeners[0].greeting == "7");
}

TEST_CASE("a table of YAML may be empty") {
  CHECK(lines_of(load_yaml(std::string(yaml_document) + "capabilities:\noauth: ~\nhttp: {}\n")) == "");
}

TEST_CASE("what YAML adds to JSON and the configuration does not want is refused at its place") {
  struct {
    std::string_view text, message;
  } const rows[] = {
      {"server:\n  threads: 1\n  threads: 2\n", "x.yaml:3:3: the key \"threads\" is there twice"},
      {"server: {}\n---\nserver: {}\n", "x.yaml:2:1: only one document is allowed"},
      {"server: !!set {}\n", "x.yaml:1:9: the tag \"tag:yaml.org,2002:set\" is not supported here"},
      {"server: !thing {}\n", "x.yaml:1:9: the tag \"!thing\" is not supported here"},
      {"? [a]\n: b\n", "x.yaml:1:3: a key must be plain text"},
      {"~: b\n", "a key must be plain text"},
      {"a: &a [*a]\n", "an alias inside of what it stands for"},
      {"a: *b\n", "x.yaml:1:4"},
      {"a: { <<: 5 }\n", "x.yaml:1:10: only tables can be merged"},
      {"- a\n- b\n", "must be a table, not a list"},
      {"just text\n", "must be a table, not \"just text\""},
      {"server: 5\n", "server: must be a table, not \"5\""},
      {"server:\n  hostname:\n", "server.hostname: must be a string, not nothing"},
      {"server:\n  threads: 1.0\n", "server.threads: must be an integer, not \"1.0\""},
      {"server:\n  threads: -1\n", "server.threads: must not be negative"},
      {"server:\n  strict_keys: yes\n", "server.strict_keys: must be true or false, not \"yes\""},
      {"server:\n  bridge_idle: 30\n", "server.bridge_idle: \"30\" is not a duration"},
  };
  for (const auto& row : rows) {
    CAPTURE(row.text);
    const Loaded loaded = load_text("x.yaml", row.text, {}, no_files);
    CAPTURE(lines_of(loaded));
    CHECK_FALSE(loaded.ok());
    CHECK(lines_of(loaded).find(row.message) != std::string::npos);
  }
}

TEST_CASE("anchors and merge keys save repetition; what a table says itself wins") {
  const Loaded loaded = load_yaml(replaced(
      std::string(yaml_document), "listener:\n",
      "listener:\n  a: &a { protocol: imap, tls: plain, max_connections: 7, bind: \"127.0.0.1:1\" }\n"
      "  b: { <<: *a, bind: \"127.0.0.1:2\", max_connections: 8 }\n"
      "  c:\n    <<: [{ max_connections: 9 }, *a]\n    bind: \"127.0.0.1:3\"\n"));
  CHECK(lines_of(loaded) == "");
  REQUIRE(loaded.config.listeners.size() == 5);
  CHECK(loaded.config.listeners[1].max_connections == 8);
  CHECK(loaded.config.listeners[2].max_connections == 9);
  CHECK(loaded.config.listeners[2].protocol == Protocol::imap);
}

TEST_CASE("aliases cannot make a small file large") {
  std::string text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n";
  for (int i = 1; i < 12; ++i) {
    const std::string below = "*a" + std::to_string(i - 1);
    text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int k = 0; k < 10; ++k) text += (k == 0 ? "" : ",") + below;
    text += "]\n";
  }
  const Loaded loaded = load_yaml(text);
  CHECK(lines_of(loaded).find("aliases expand to too much") != std::string::npos);
}

TEST_CASE("depth is bounded in both notations") {
  const std::string deep(5000, '[');
  CHECK_FALSE(load_toml("a = " + deep).ok());
  CHECK_FALSE(load_yaml("a: " + deep).ok());
  CHECK(
      lines_of(load_yaml("a: " + std::string(100, '[') + std::string(100, ']'))).find("nested too deeply") !=
      std::string::npos);
  std::string dotted = "a";
  for (int i = 0; i < 200000; ++i) dotted += ".a";
  CHECK(lines_of(load_toml(dotted + " = 1")).find("too many parts") != std::string::npos);
  // Dots within strings and comments are nobody's business.
  CHECK(lines_of(load_toml(base_and("greeting = \"" + std::string(200, '.') + "\" # " +
                                    std::string(200, '.') + "\n"))) == "");
}

TEST_CASE("YAML keys with dots are not split, and names keep their spelling") {
  const Loaded loaded = load_yaml(
      replaced(std::string(yaml_document), "  imap:\n    protocol: imap", "  a.b-c_d:\n    protocol: imap"));
  CHECK(lines_of(loaded) == "");
  CHECK(loaded.config.listeners[0].name == "a.b-c_d");
  CHECK(loaded.config.listeners[0].path == "listener.\"a.b-c_d\"");
}

TEST_CASE("ten thousand listeners and certificates load in time that grows with their number") {
  std::string text(base_document);
  for (int i = 0; i < 10000; ++i) {
    const std::string n = std::to_string(i);
    text += "[tls.certificate.c" + n + "]\ncert = \"a\"\nkey = \"b\"\n[listener.l" + n +
            "]\nprotocol = \"imap\"\nbind = \"127.1." + std::to_string(i / 256) + "." +
            std::to_string(i % 256) + ":9\"\ntls = \"implicit\"\ntls_options = { certificate = \"c" + n +
            "\" }\n";
  }
  const auto start = std::chrono::steady_clock::now();
  const Loaded loaded = load_toml(text);
  CHECK(loaded.ok());
  CHECK(loaded.config.listeners.size() == 10001);
  // Far above what it takes, far below what anything quadratic would.
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(30));
}

}  // namespace postern::conf
