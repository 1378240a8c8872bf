// SPDX-License-Identifier: GPL-3.0-or-later
// A reload is prepared aside: one that fails changes nothing that anybody could notice, and of watched files
// each counts for itself.
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "conf/load.hpp"
#include "proxy/routing/router.hpp"
#include "proxy/server/make_snapshot.hpp"
#include "test/unit/tls/key_file.hpp"
#include "test/unit/tls/pair.hpp"

using namespace postern;
using namespace postern::proxy;

namespace {

constexpr const char* nonsense = "this is no such file\n";

/// Every kind of file that a configuration leads to, and a configuration that leads to them.
struct World {
  std::filesystem::path folder;
  Counters counters{2};
  ProcessState state;
  std::shared_ptr<Snapshot> current;
  conf::Problems problems;

  World() {
    std::string name = (std::filesystem::temp_directory_path() / "postern-reload-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()));
    folder = name;
    tls::init();
    state.counters = &counters;
    state.tickets = std::make_shared<tls::TicketKeys>();
    conf::MappingConf no_cache;
    no_cache.cache_max_entries = 0;
    state.cache = std::make_shared<RouteCache>(no_cache);
    state.own = std::make_shared<std::vector<conf::SocketAddress>>();
    first();
    current = make({}, Rotation::strict);
    REQUIRE(current);
    publish(*current, state);
  }
  ~World() {
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
  }
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(folder / name, std::ios::binary | std::ios::trunc) << text;
    ::chmod((folder / name).c_str(), 0600);
  }
  void copy(const std::string& name, const std::string& pki_name) const {
    write(name, tls::slurp(tls::pki(pki_name)));
  }
  /// The state of the start, and another one that differs in every file.
  void first() const {
    copy("tls.crt", "alpha.crt");
    copy("tls.key", "alpha.key");
    copy("client.crt", "alpha.crt");
    copy("client.key", "alpha.key");
    copy("roots.pem", "root.crt");
    write("accounts", "alice@example.com one\n");
    write("tickets", tls::hex('a', 'a') + "\n");
  }
  void second() const {
    copy("tls.crt", "default.crt");
    copy("tls.key", "default.key");
    copy("client.crt", "default.crt");
    copy("client.key", "default.key");
    write("roots.pem", tls::slurp(tls::pki("root.crt")) + "\n# another\n");
    write("accounts", "alice@example.com two\n");
    write("tickets", tls::hex('b', 'b') + "\n");
  }
  [[nodiscard]] std::string text(const std::string& more) const {
    const std::string at = folder.string() + "/";
    std::string text = "mapping.source = \"file\"\nmapping.file.path = \"" + at + "accounts\"\n";
    text += "tls.tickets.file = \"" + at + "tickets\"\n";
    text += "tls.certificate.main = { cert = \"" + at + "tls.crt\", key = \"" + at + "tls.key\" }\n";
    text += "routing.default_destination = \"one\"\n";
    for (const char* name : {"one", "two"})
      text += std::string("[destination.") + name +
              "]\nhost = \"mail.example.com\"\nforwarding = \"none\"\n" +
              "protocol.imap = { port = 993, tls = \"implicit\" }\n" + "tls_client_cert = \"" + at +
              "client.crt\"\ntls_client_key = \"" + at + "client.key\"\n";
    return text + "[listener.imap]\nprotocol = \"imap\"\nbind = [\"127.0.0.1:2993\"]\ntls = \"implicit\"\n" +
           more;
  }
  std::shared_ptr<Snapshot> make(const std::string& more, Rotation rotation) {
    conf::LoadOptions options;
    options.touch_files = false;
    conf::Loaded loaded = conf::load_text("test.toml", text(more), {}, options);
    REQUIRE(loaded.ok());
    problems = loaded.problems;
    std::vector<std::string> restart;
    ::unsetenv("SSL_CERT_DIR");
    ::setenv("SSL_CERT_FILE", (folder / "roots.pem").c_str(), 1);
    auto made = make_snapshot(loaded.config, state, current.get(), rotation, problems, restart);
    ::unsetenv("SSL_CERT_FILE");
    return made;
  }
  std::shared_ptr<Snapshot> rotate() {
    auto made = make({}, Rotation::keep_last_good);
    REQUIRE(made);
    publish(*made, state);
    current = made;
    return made;
  }
};

/// What a client sees: which certificate, and whether it could resume.
struct Seen {
  std::array<uint8_t, 32> certificate{};
  bool resumed = false;
  std::unique_ptr<tls::Resumption> session;
};
Seen visit(const Snapshot& snapshot, const tls::Resumption* resume = nullptr) {
  static const auto any = [] {
    conf::DestinationConf conf;
    conf.tls_allow_invalid_certs = true;
    return tls::client_context(conf);
  }();
  tls::Joined pair(any, snapshot.listeners[0]->tls, "alpha.test", resume);
  REQUIRE(pair.shake());
  REQUIRE(pair.server_writes("* OK\r\n"));
  REQUIRE(pair.client_reads().text == "* OK\r\n");
  return {snapshot.certificates->by_id("main")->sha256, pair.server->facts().resumed,
          tls::left_by(*pair.client)};
}

std::string leads_to(World& world, const std::string& account) {
  return find_route(world.current->routes, account, 0, world.counters.workers[0]).destination->conf.name;
}

/// All of it together, before and after.
struct Behaviour {
  std::array<uint8_t, 32> certificate{};
  std::string alice, nobody;
  std::array<uint8_t, 16> ticket_key{};
  size_t listeners = 0, destinations = 0;
  const void *context = nullptr, *backend = nullptr;
  bool operator==(const Behaviour&) const = default;
};
Behaviour behaviour(World& world) {
  Behaviour b;
  b.certificate = visit(*world.current).certificate;
  b.alice = leads_to(world, "alice@example.com");
  b.nobody = leads_to(world, "nobody@example.com");
  tls::TicketKey key;
  if (world.state.tickets->making(key)) b.ticket_key = key.name;
  b.listeners = world.counters.listeners().size();
  b.destinations = world.counters.destinations().size();
  b.context = world.current->listeners[0]->tls.get();
  b.backend = world.current->routes.destinations.at("one")->tls.get();
  return b;
}

const std::string another =
    "[destination.three]\nhost = \"127.0.0.1\"\nforwarding = \"none\"\n"
    "protocol.imap = { port = 143, tls = \"plain\" }\nallow_plaintext_auth = true\n";

}  // namespace

TEST_CASE("whichever step of a reload fails, handshakes, resumptions and logins are what they were") {
  World world;
  const Behaviour before = behaviour(world);
  Seen last = visit(*world.current);
  const auto unchanged = [&](const auto& made) {
    CHECK_FALSE(made);
    CHECK_FALSE(world.problems.ok());
    CHECK(behaviour(world) == before);
    Seen now = visit(*world.current, last.session.get());
    CHECK(now.resumed);
    last = std::move(now);
  };
  SUBCASE("a step") {
    for (const char* step : {"settings", "certificates", "destinations", "tickets", "mapping", "listeners"}) {
      CAPTURE(step);
      world.second();
      bool reached = false;
      world.state.step_done = [&](std::string_view name, conf::Problems& problems) {
        if (name != step) return;
        reached = true;
        problems.add("test", "this step fails");
      };
      unchanged(world.make(another, Rotation::strict));
      CHECK(reached);
    }
  }
  SUBCASE("a file") {
    for (const char* name :
         {"tls.crt", "tls.key", "client.crt", "client.key", "roots.pem", "accounts", "tickets"}) {
      CAPTURE(name);
      world.second();
      world.write(name, nonsense);
      unchanged(world.make(another, Rotation::strict));
      std::filesystem::remove(world.folder / name);
      unchanged(world.make(another, Rotation::strict));
    }
  }
  world.state.step_done = nullptr;
  world.second();
  const auto good = world.make(another, Rotation::strict);
  REQUIRE(good);
  CHECK(world.counters.destinations().size() == before.destinations);  // not yet
  publish(*good, world.state);
  CHECK(world.counters.destinations().size() == before.destinations + 1);
  CHECK_FALSE(good->tickets);
}

TEST_CASE("of watched files each counts for itself") {
  struct Row {
    const char* file;
    Stale::Item item;
    const char* name;
  };
  using enum Stale::Item;
  for (const Row& row :
       {Row{"tls.crt", certificate, "main"}, Row{"tls.key", certificate, "main"},
        Row{"client.crt", client_certificate, "one"}, Row{"client.key", client_certificate, "one"},
        Row{"roots.pem", roots, ""}, Row{"accounts", mapping, ""}, Row{"tickets", ticket_keys, ""}}) {
    CAPTURE(row.file);
    World world;
    const Behaviour before = behaviour(world);
    world.second();
    world.write(row.file, nonsense);
    const auto made = world.rotate();
    const Behaviour after = behaviour(world);
    REQUIRE_FALSE(made->stale.empty());
    CHECK(made->stale[0].item == row.item);
    CHECK(made->stale[0].name == row.name);
    for (const Stale& stale : made->stale) CHECK(stale.item == row.item);
    CHECK((after.certificate == before.certificate) == (row.item == certificate));
    CHECK((after.alice == before.alice) == (row.item == mapping));
    CHECK((after.ticket_key == before.ticket_key) == (row.item == ticket_keys));
    CHECK(made->trust->roots() == 1);
    CHECK((made->routes.destinations.at("one")->tls == nullptr) == false);
    // What was bad is good again: nothing is held back any more.
    world.second();
    const auto whole = world.rotate();
    CHECK(whole->stale.empty());
    const Behaviour at_last = behaviour(world);
    CHECK(at_last.certificate != before.certificate);
    CHECK(at_last.alice != before.alice);
    CHECK(at_last.ticket_key != before.ticket_key);
  }
}

TEST_CASE("what has not changed is not made again") {
  World world;
  const auto before = world.current;
  const auto after = world.rotate();
  CHECK(after != before);
  CHECK(after->certificates == before->certificates);
  CHECK(after->trust == before->trust);
  CHECK(after->routes.destinations.at("one") == before->routes.destinations.at("one"));
  world.copy("client.crt", "default.crt");
  world.copy("client.key", "default.key");
  CHECK(world.rotate()->routes.destinations.at("one") != after->routes.destinations.at("one"));
}
