// SPDX-License-Identifier: GPL-3.0-or-later
// What differs between two configurations, and when it applies, is what the rows say.
#include "conf/schema/changes.hpp"

#include "test/unit/conf/fixture.hpp"

using namespace postern::conf;

namespace {

std::string changed(std::string_view running, std::string_view wanted) {
  const Loaded a = load_toml(running), b = load_toml(wanted);
  REQUIRE_MESSAGE(a.ok(), lines_of(a));
  REQUIRE_MESSAGE(b.ok(), lines_of(b));
  std::string out;
  for (const Change& change : changes(a.config, b.config))
    out += change.key + ": " + std::string(name(change.applies)) + "\n";
  return out;
}

/// With `to` instead of `from` in the base document, or behind it if `from` is empty.
std::string change_of(std::string_view from, std::string_view to) {
  const std::string base(base_document);
  return changed(base, from.empty() ? base_and(to) : replaced(base, from, to));
}

}  // namespace

TEST_CASE("a key that differs is named with the time its row says") {
  CHECK(change_of("", "").empty());
  CHECK(change_of("", "[server]\nthreads = 3\n") == "server.threads: restart\n");
  CHECK(change_of("", "[server]\nlog_level = \"debug\"\n") == "server.log_level: at once\n");
  CHECK(change_of("", "[server]\nhostname = \"mail.example.org\"\n") == "server.hostname: new connections\n");
  CHECK(change_of(":2143", ":2144") == "listener.front.bind: restart\n");
  CHECK(change_of("[listener.front]", "[listener.front]\nmax_errors = 3") ==
        "listener.front.max_errors: new connections\n");
  CHECK(change_of("port = 1143", "port = 1144") == "destination.legacy.protocol.imap.port: at once\n");
  CHECK(change_of("[mapping]", "[mapping]\npositive_ttl = \"1m\"") == "mapping.positive_ttl: restart\n");
  CHECK(change_of("@/M", "@/N") == "mapping.file.path: at once\n");
  CHECK(change_of("", "[capabilities.imap]\nbanner = \"x\"\n") == "capabilities.imap: new connections\n");
  CHECK(change_of("", "[metrics]\nbind = \"127.0.0.1:9090\"\n") == "metrics.bind: restart\n");
}

TEST_CASE("what is in force counts, not how it is written") {
  CHECK(change_of("", "[server]\nthreads = 0\nlog-level = \"info\"\nmax_connections = 8192\n").empty());
  CHECK(change_of("", "[server.socket]\nbacklog = 7\n") == "listener.front.socket.backlog: restart\n");
  CHECK(change_of("", "[server]\nmax_connections = 800\n") ==
        "listener.front.max_connections: new connections\n"
        "listener.front.max_connections_per_client: new connections\n");
}

TEST_CASE("a table that comes or goes is one change") {
  CHECK(change_of("[listener.front]", "[listener.other]") ==
        "listener.front (removed): restart\nlistener.other (added): restart\n");
  CHECK(
      change_of("",
                "[destination.new]\nhost = \"new.example.org\"\n[destination.new.protocol.imap]\nport = 143\n"
                "tls = \"starttls\"\n") == "destination.new (added): at once\n");
  CHECK(change_of("", "[destination.legacy.protocol.pop3]\nport = 110\ntls = \"plain\"\n") ==
        "destination.legacy.protocol.pop3 (added): at once\n");
}
