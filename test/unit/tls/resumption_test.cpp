// SPDX-License-Identifier: GPL-3.0-or-later
// Resumption: what a ticket opens, for whom, for how long, and what it must not.
#include <thread>

#include "test/unit/tls/key_file.hpp"
#include "test/unit/tls/raw_client.hpp"
#include "tls/library.hpp"

namespace postern::tls {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::system_clock;

std::shared_ptr<const CertificateStore> names() {
  static const auto store = store_of({entry("alpha"), entry("default", true), entry("wild")});
  return store;
}
std::shared_ptr<const ServerContext> serving(bool tls13, const Tickets& keys) {
  conf::TlsPolicy policy = default_policy();
  policy.tls13 = tls13;
  return server_context(policy, names(), keys);
}

/// A handshake; the session it leaves behind, or null where the one it resumed stays good.
std::unique_ptr<Resumption> visit(const std::shared_ptr<const ClientContext>& client,
                                  const std::shared_ptr<const ServerContext>& server, const std::string& name,
                                  const Resumption* resume, bool& resumed) {
  Joined pair(client, server, name, resume);
  REQUIRE_MESSAGE(pair.shake(), std::string(pair.client->error()), " / ", std::string(pair.server->error()));
  resumed = pair.server->facts().resumed;
  CHECK(pair.client->facts().resumed == resumed);
  REQUIRE(pair.server_writes("hello"));
  CHECK(pair.client_reads().text == "hello");
  REQUIRE(pair.client_writes("hello"));
  CHECK(pair.server_reads().text == "hello");
  return left_by(*pair.client);
}
/// The versions in which our client resumes: with an old library not TLS 1.2.
const std::vector<bool> resumable = resumes_tls12 ? std::vector{true, false} : std::vector{true};

bool resumes(const std::shared_ptr<const ClientContext>& client,
             const std::shared_ptr<const ServerContext>& server, const std::string& name,
             const Resumption* resume) {
  bool resumed = false;
  visit(client, server, name, resume, resumed);
  return resumed;
}
std::unique_ptr<Resumption> session(const std::shared_ptr<const ClientContext>& client,
                                    const std::shared_ptr<const ServerContext>& server,
                                    const std::string& name) {
  bool resumed = true;
  auto saved = visit(client, server, name, nullptr, resumed);
  CHECK_FALSE(resumed);
  REQUIRE(saved);
  return saved;
}

TEST_CASE("a session resumes again and again, in both versions") {
  const auto keys = ticket_keys();
  for (const bool tls13 : resumable) {
    const auto client = client_context();
    const auto server = serving(tls13, keys);
    auto saved = session(client, server, "alpha.test");
    for (int i = 0; i < 3; ++i) {
      bool resumed = false;
      auto next = visit(client, server, "alpha.test", saved.get(), resumed);
      CHECK(resumed);
      CHECK(resumes(client, server, "alpha.test", saved.get()));  // the same one twice
      if (next) saved = std::move(next);
    }
  }
}

TEST_CASE("a client may resume from the newest ticket for ever; now and then it shakes hands in full") {
  const auto client = client_context();
  for (const bool tls13 : resumable) {
    const auto server = serving(tls13, ticket_keys());
    auto saved = session(client, server, "alpha.test");
    int full = 0;
    for (int i = 0; i < 600; ++i) {
      bool resumed = false;
      if (auto next = visit(client, server, "alpha.test", saved.get(), resumed)) saved = std::move(next);
      full += !resumed;
    }
    CHECK(full == (tls13 ? 2 : 0));  // TLS 1.2 keeps its ticket
  }
}

TEST_CASE("without tickets nothing resumes and nothing breaks") {
  for (const bool tls13 : {true, false}) {
    conf::TicketConf off;
    off.enable = false;
    for (const auto& keys : {Tickets(), ticket_keys(off)}) {
      const auto client = client_context();
      const auto server = serving(tls13, keys);
      bool resumed = true;
      const auto saved = visit(client, server, "alpha.test", nullptr, resumed);
      CHECK_FALSE(resumed);
      CHECK_FALSE(resumes(client, server, "alpha.test", saved.get()));
    }
  }
}

TEST_CASE("a handshake never fails for want of a ticket") {
  for (const bool tls13 : {true, false}) {
    CAPTURE(tls13);
    const auto keys = ticket_keys();
    const auto client = client_context();
    const auto server = serving(tls13, keys);  // goes on issuing tickets, whatever becomes of the keys
    bool resumed = false;
    const auto before = visit(client, server, "alpha.test", nullptr, resumed);
    CHECK(resumes(client, server, "alpha.test", before.get()));
    conf::TicketConf off;
    off.enable = false;
    REQUIRE(configure(*keys.keys, off));
    const auto without = visit(client, server, "alpha.test", nullptr, resumed);
    CHECK_FALSE(resumed);
    CHECK_FALSE(resumes(client, server, "alpha.test", before.get()));
    CHECK_FALSE(resumes(client, server, "alpha.test", without.get()));
    REQUIRE(configure(*keys.keys, {}));
    CHECK_FALSE(
        resumes(client, server, "alpha.test", without.get()));  // nothing opens what was made without a key
    const auto after = visit(client, server, "alpha.test", nullptr, resumed);
    CHECK(resumes(client, server, "alpha.test", after.get()));
  }
}

TEST_CASE("a ticket of one certificate does not resume under another") {
  const auto keys = ticket_keys();
  for (const bool tls13 : {true, false}) {
    CAPTURE(tls13);
    const auto server = serving(tls13, keys);
    RawOffer offer;
    offer.server_name = "alpha.test";
    offer.tls13 = tls13;
    offer.tls12 = !tls13;
    RawClient first(offer);
    const auto engine = Engine::server(server);
    REQUIRE(first.shake(*engine));
    CHECK(engine->certificate_id() == "alpha");
    (void)first.read();
    WOLFSSL_SESSION* saved = wolfSSL_get1_session(first.ssl.get());
    REQUIRE(saved);
    struct Row {
      const char *name, *shown;
      bool resumed;
    };
    for (const Row& row : {Row{"alpha.test", "alpha", true}, Row{"x.wild.test", "wild", false},
                           Row{"", "default", false}, Row{"alpha.test", "alpha", true}}) {
      CAPTURE(row.name);
      RawOffer again = offer;
      again.server_name = row.name;
      again.session = wolfSSL_SESSION_dup(saved);
      RawClient client(again);
      const auto other = Engine::server(server);
      CHECK(client.shake(*other) == (row.resumed || tls13 || resumes_tls12));  // see resumes_tls12
      CHECK(other->certificate_id() == row.shown);
      CHECK(other->facts().resumed == row.resumed);
      wolfSSL_SESSION_free(again.session);
    }
    wolfSSL_SESSION_free(saved);
  }
}

TEST_CASE("a ticket does not resume under another policy or a new certificate") {
  const auto keys = ticket_keys();
  const auto client = client_context();
  const auto saved = session(client, serving(true, keys), "alpha.test");
  conf::TlsPolicy strict = default_policy();
  strict.tls12 = false;
  CHECK_FALSE(resumes(client, server_context(strict, names(), keys), "alpha.test", saved.get()));
  auto renewed = entry("default", true);
  renewed.subjects = {"alpha.test"};
  conf::DestinationConf any;
  any.tls_allow_invalid_certs = true;
  const auto trusting = client_context(any);
  const auto loose = session(trusting, serving(true, keys), "alpha.test");
  CHECK_FALSE(resumes(trusting, server_context(default_policy(), store_of({renewed}), keys), "alpha.test",
                      loose.get()));
  CHECK(resumes(client, serving(true, keys), "alpha.test", saved.get()));
}

TEST_CASE("a session is only resumed by the context and for the name it came from") {
  const auto keys = ticket_keys();
  for (const bool tls13 : resumable) {
    const auto server = serving(tls13, keys);
    conf::DestinationConf any;
    any.tls_allow_invalid_certs = true;
    const auto trusting = client_context(any), strict = client_context(), strict_too = client_context();
    const auto loose = session(trusting, server, "alpha.test");
    CHECK(resumes(trusting, server, "alpha.test", loose.get()));
    CHECK_FALSE(resumes(strict, server, "alpha.test", loose.get()));
    const auto good = session(strict, server, "alpha.test");
    CHECK(resumes(strict, server, "alpha.test", good.get()));
    CHECK_FALSE(resumes(strict_too, server, "alpha.test", good.get()));
    Joined other(strict, server, "other.test", good.get());
    CHECK_FALSE(other.shake());
    CHECK(other.client->error() == std::string("name does not match"));
  }
}

TEST_CASE("pinned destinations resume too") {
  conf::DestinationConf conf;
  const auto leaf = names()->by_id("alpha")->sha256;
  conf.tls_pinned_cert_sha256.emplace(leaf.begin(), leaf.end());
  const auto client = client_context(conf);
  const auto server = serving(true, ticket_keys());
  const auto saved = session(client, server, "alpha.test");
  CHECK(resumes(client, server, "alpha.test", saved.get()));
}

TEST_CASE("two processes with one key file resume each other's sessions, others do not") {
  const KeyFile file(hex('a', 'a') + "\n"), other(hex('a', 'b') + "\n");  // the same name, another secret
  for (const bool tls13 : resumable) {
    const auto client = client_context();
    const auto one = serving(tls13, ticket_keys(file.conf())), two = serving(tls13, ticket_keys(file.conf()));
    const auto saved = session(client, one, "alpha.test");
    CHECK(resumes(client, two, "alpha.test", saved.get()));
    CHECK(resumes(client, one, "alpha.test", saved.get()));
    CHECK_FALSE(resumes(client, serving(tls13, ticket_keys(other.conf())), "alpha.test", saved.get()));
    CHECK_FALSE(resumes(client, serving(tls13, ticket_keys()), "alpha.test", saved.get()));
  }
}

TEST_CASE("replicas rotate in two steps without losing a session") {
  const KeyFile file(hex('a', 'a') + "\n");
  const auto one_keys = ticket_keys(file.conf()), two_keys = ticket_keys(file.conf());
  for (const bool tls13 : resumable) {
    file.write(hex('a', 'a') + "\n");
    REQUIRE(one_keys->refresh(Clock::now()));
    REQUIRE(two_keys->refresh(Clock::now()));
    const auto client = client_context();
    const auto one = serving(tls13, one_keys), two = serving(tls13, two_keys);
    const auto old = session(client, one, "alpha.test");
    file.write(hex('a', 'a') + "\n" + hex('b', 'b') + "\n");  // the new key opens everywhere
    REQUIRE(one_keys->refresh(Clock::now()));
    REQUIRE(two_keys->refresh(Clock::now()));
    file.write(hex('b', 'b') + "\n" + hex('a', 'a') + "\n");  // then makes
    REQUIRE(one_keys->refresh(Clock::now()));                 // and one replica is slow to see it
    CHECK(resumes(client, one, "alpha.test", old.get()));
    CHECK(resumes(client, two, "alpha.test", old.get()));
    const auto fresh = session(client, one, "alpha.test");
    CHECK(resumes(client, two, "alpha.test", fresh.get()));
    // A session opened with the old key is given a ticket of the new one.
    bool resumed = false;
    const auto renewed = visit(client, one, "alpha.test", old.get(), resumed);
    CHECK(resumed);
    file.write(hex('b', 'b') + "\n");
    REQUIRE(one_keys->refresh(Clock::now()));
    REQUIRE(two_keys->refresh(Clock::now()));
    CHECK(resumes(client, one, "alpha.test", renewed.get()));
    CHECK(resumes(client, two, "alpha.test", renewed.get()));
    CHECK_FALSE(resumes(client, one, "alpha.test", old.get()));
  }
}

TEST_CASE("a ticket is refused after its lifetime") {
  conf::TicketConf conf;
  conf.lifetime = 1s;
  const auto keys = ticket_keys(conf);
  const auto client = client_context();
  std::vector<std::pair<bool, std::unique_ptr<Resumption>>> saved;
  for (const bool tls13 : resumable) {
    saved.emplace_back(tls13, session(client, serving(tls13, keys), "alpha.test"));
    CHECK(resumes(client, serving(tls13, keys), "alpha.test", saved.back().second.get()));
  }
  std::this_thread::sleep_for(2100ms);
  for (const auto& [tls13, resume] : saved)
    CHECK_FALSE(resumes(client, serving(tls13, keys), "alpha.test", resume.get()));
}

TEST_CASE("key updates while a ticket is on its way do no harm, and a session may be asked for at any time") {
  const auto client = client_context();
  const auto server = serving(true, ticket_keys());
  Joined pair(client, server);
  CHECK(left_by(*pair.client) == nullptr);
  REQUIRE(pair.shake());
  CHECK(left_by(*pair.server) == nullptr);
  CHECK(left_by(*pair.client) == nullptr);  // before the ticket was read
  (void)pair.client_reads();
  const auto late = left_by(*pair.client);
  CHECK(resumes(client, server, "alpha.test", late.get()));
}

}  // namespace
}  // namespace postern::tls
