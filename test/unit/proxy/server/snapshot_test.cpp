// SPDX-License-Identifier: GPL-3.0-or-later
// What a reload applies, what it keeps, and what it says must wait for a restart.
#include <doctest/doctest.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "conf/load.hpp"
#include "proxy/server/make_snapshot.hpp"

using namespace postern;
using namespace postern::proxy;

namespace {

/// An empty mapping file for as long as the program runs.
struct NoMappings {
  std::string path = "/tmp/postern-unit-XXXXXX";
  NoMappings() { ::close(::mkstemp(path.data())); }
  ~NoMappings() { ::unlink(path.c_str()); }
  NoMappings(const NoMappings&) = delete;
  NoMappings& operator=(const NoMappings&) = delete;
};
const NoMappings no_mappings;

const std::string base = "mapping.source = \"file\"\nmapping.file.path = \"" + no_mappings.path + "\"\n" + R"(
[routing]
default_destination = "relay"
smtp_passthrough_destination = "relay"
[destination.relay]
host = "127.0.0.1"
forwarding = "none"
protocol.smtp = { port = 25, tls = "plain" }
protocol.lmtp = { port = 24, tls = "plain" }
[listener.mx]
protocol = "smtp"
bind = ["127.0.0.1:2025"]
tls = "plain"
max_connections = 10
[listener.local]
protocol = "lmtp"
bind = ["127.0.0.1:2024"]
tls = "plain"
)";

std::string with(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

struct Made {
  std::shared_ptr<const Snapshot> snapshot;
  std::vector<std::string> restart;
  conf::Problems problems;
};

struct Maker {
  Counters counters{2};
  ProcessState state;
  Maker() {
    tls::init();
    state.counters = &counters;
    state.tickets = std::make_shared<tls::TicketKeys>();
    state.own = std::make_shared<std::vector<conf::SocketAddress>>();
  }
  Made make(const std::string& text, const Snapshot* previous = nullptr) {
    conf::LoadOptions options;
    options.touch_files = false;
    conf::Loaded loaded = conf::load_text("test.toml", text, {}, options);
    for (const conf::Problem& problem : loaded.problems.all()) MESSAGE(problem.line());
    REQUIRE(loaded.ok());
    Made made;
    made.snapshot =
        make_snapshot(loaded.config, state, previous, Rotation::strict, loaded.problems, made.restart);
    made.problems = loaded.problems;
    return made;
  }
};

}  // namespace

TEST_CASE("a first snapshot has every listener with its destination, in the file's order") {
  Maker maker;
  const auto made = maker.make(base);
  REQUIRE(made.snapshot);
  REQUIRE(made.snapshot->listeners.size() == 2);
  CHECK(made.snapshot->listeners[0]->conf.name == "mx");
  CHECK(made.snapshot->listeners[1]->conf.name == "local");
  for (const auto& listener : made.snapshot->listeners) {
    REQUIRE(listener->passthrough);
    CHECK(listener->passthrough->conf.name == "relay");
    CHECK(listener->tls == nullptr);
  }
  CHECK(made.restart.empty());
}

TEST_CASE("a reload applies what it can and keeps what it must") {
  Maker maker;
  const auto first = maker.make(base);

  SUBCASE("limits change at once; the count of connections goes on") {
    const auto next =
        maker.make(with(base, "max_connections = 10", "max_connections = 20"), first.snapshot.get());
    REQUIRE(next.snapshot);
    CHECK(next.snapshot->listeners[0]->conf.max_connections == 20);
    CHECK(next.snapshot->listeners[0]->listener->occupancy ==
          first.snapshot->listeners[0]->listener->occupancy);
    CHECK(next.snapshot->listeners[0]->listener->counters ==
          first.snapshot->listeners[0]->listener->counters);
    CHECK(next.restart.empty());
  }
  SUBCASE("the health of a destination stays with its host and legs") {
    const auto same =
        maker.make(with(base, "forwarding = \"none\"", "forwarding = \"proxy\""), first.snapshot.get());
    CHECK(same.snapshot->routes.destinations.at("relay")->health ==
          first.snapshot->routes.destinations.at("relay")->health);
    const auto moved = maker.make(with(base, "port = 25", "port = 26"), first.snapshot.get());
    CHECK(moved.snapshot->routes.destinations.at("relay")->health !=
          first.snapshot->routes.destinations.at("relay")->health);
    CHECK(moved.snapshot->listeners[0]->passthrough->conf.leg(conf::Protocol::smtp)->port == 26);
  }
  SUBCASE("an address needs a restart and is named; the rest of the listener is applied") {
    std::string text = with(base, "127.0.0.1:2025", "127.0.0.1:3025");
    text = with(text, "max_connections = 10", "max_connections = 30");
    const auto next = maker.make(text, first.snapshot.get());
    REQUIRE(next.restart.size() == 1);
    CHECK(next.restart[0] == "listener.mx.bind");
    CHECK(next.snapshot->listeners[0]->conf.bind == first.snapshot->listeners[0]->conf.bind);
    CHECK(next.snapshot->listeners[0]->conf.max_connections == 30);
  }
  SUBCASE("another order of listeners does not mix them up") {
    std::string text = base;
    const size_t at = text.find("[listener.mx]");
    const size_t local = text.find("[listener.local]");
    text = text.substr(0, at) + text.substr(local) + text.substr(at, local - at);
    const auto next = maker.make(text, first.snapshot.get());
    CHECK(next.snapshot->listeners[0]->conf.name == "mx");
    CHECK(next.snapshot->listeners[1]->conf.name == "local");
  }
  SUBCASE("a listener the file no longer has goes on as it was; a new one waits") {
    const auto next = maker.make(with(base, "[listener.local]", "[listener.other]"), first.snapshot.get());
    REQUIRE(next.snapshot->listeners.size() == 2);
    CHECK(next.snapshot->listeners[1]->conf.name == "local");
    REQUIRE(next.snapshot->listeners[1]->passthrough);
    REQUIRE(next.restart.size() == 2);
    CHECK(next.restart[0] == "listener.local (removed)");
    CHECK(next.restart[1] == "listener.other (added)");
  }
  SUBCASE("a listener that changes its kind goes on as it was") {
    const auto next =
        maker.make(with(base, "tls = \"plain\"\nmax_connections", "tls = \"implicit\"\nmax_connections"),
                   first.snapshot.get());
    REQUIRE(next.restart.size() == 1);
    CHECK(next.restart[0] == "listener.mx.tls");
    CHECK(next.snapshot->listeners[0]->tls == nullptr);
  }
}

TEST_CASE("bad ticket keys and bad client certificates are problems with a place, and nothing is made") {
  Maker maker;
  const auto tickets = maker.make(base + "[tls.tickets]\nfile = \"/nonexistent/keys\"\n");
  CHECK_FALSE(tickets.snapshot);
  CHECK(
      std::ranges::any_of(tickets.problems.all(), [](const auto& p) { return p.key == "tls.tickets.file"; }));
}
