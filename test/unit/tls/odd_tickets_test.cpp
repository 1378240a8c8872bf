// SPDX-License-Identifier: GPL-3.0-or-later
// Backends whose tickets are odd: none from one day on, only at first, too large, of another version. None
// may make the destination unreachable, whatever it did before.
#include <fmt/format.h>

#include "test/unit/tls/raw_server.hpp"
#include "tls/library.hpp"

namespace postern::tls {
namespace {

/// A destination as a worker sees it: one context, and what it keeps for the next handshake.
struct Destination {
  std::shared_ptr<const ClientContext> context = client_context();
  std::unique_ptr<Resumption> kept;

  struct Login {
    bool works = false, offered = false, resumed = false;
    std::string error;
  };
  /// One connection: the handshake, a greeting, and what is left of it.
  Login log_in(const RawServerContext& backend, bool tickets) {
    RawServer server(backend, tickets);
    const auto client = Engine::client(context, "alpha.test", kept.get());
    REQUIRE(client);
    Login login;
    login.offered = client->offers_resumption();
    login.works = server.shake(*client) && server.says("hello") && server.heard_by(*client) == "hello";
    login.error = client->error();
    login.resumed = client->facts().resumed;
    client->renew(kept);
    return login;
  }
};

TEST_CASE("a TLS 1.3 backend that resumes but gives no new ticket is resumed with the old one") {
  const RawServerContext backend(true);
  Destination destination;
  CHECK(destination.log_in(backend, true).works);
  for (int i = 0; i < 4; ++i) {
    const auto login = destination.log_in(backend, false);
    INFO("login ", i + 2, ": ", login.error);
    CHECK(login.works);
    CHECK(login.resumed);
  }
  CHECK(destination.log_in(backend, true).resumed);
}

TEST_CASE("a TLS 1.2 backend that stops giving tickets goes on with full handshakes") {
  if (!resumes_tls12) return;
  const RawServerContext backend(false);
  Destination destination;
  CHECK(destination.log_in(backend, true).works);
  CHECK(destination.log_in(backend, true).resumed);
#ifdef POSTERN_WOLFSSL_BUNDLED  // another library fails once, and the dialer tries again without
  for (int i = 0; i < 4; ++i) {
    const auto login = destination.log_in(backend, false);
    INFO("login ", i + 3, ": ", login.error);
    CHECK(login.works);
  }
  CHECK(destination.log_in(backend, true).works);
  CHECK(destination.log_in(backend, true).works);
#endif
}

TEST_CASE("a backend whose keys for tickets have changed is shaken hands with in full, then resumed") {
  for (const bool tls13 : {true, false}) {
    CAPTURE(tls13);
    if (!tls13 && !resumes_tls12) continue;
    Destination destination;
    const RawServerContext old(tls13), fresh(tls13);
    CHECK(destination.log_in(old, true).works);
    const auto login = destination.log_in(fresh, true);
    INFO(login.error);
    CHECK(login.works);
    CHECK_FALSE(login.resumed);
    (void)destination.log_in(fresh, true);
    CHECK(destination.log_in(fresh, true).resumed);
  }
}

TEST_CASE("a backend that changes its version of TLS is reached at the latest without resumption") {
  for (const bool tls13 : {true, false}) {
    CAPTURE(tls13);
    Destination destination;
    const RawServerContext old(tls13), fresh(!tls13);
    CHECK(destination.log_in(old, true).works);
    const auto login = destination.log_in(fresh, true);
    if (!login.works) {
      CHECK(login.offered);  // so the dialer forgets it and tries again
      destination.kept.reset();
    }
    CHECK(destination.log_in(fresh, true).works);
    CHECK(destination.log_in(fresh, true).works);
  }
}

#ifdef POSTERN_WOLFSSL_BUNDLED
TEST_CASE("a ticket above the limit is not kept, and what was kept before still is") {
  for (const size_t size : {Engine::ticket_limit, Engine::ticket_limit + 1, size_t{15'500}}) {
    CAPTURE(size);
    const RawServerContext backend(true);
    Destination destination;
    CHECK(destination.log_in(backend, true).works);
    const Resumption* before = destination.kept.get();
    REQUIRE(before);
    RawServer server(backend, false);
    const auto client = Engine::client(destination.context, "alpha.test", before);
    REQUIRE(server.shake(*client));
    server.gives_ticket(size, 8);
    CHECK(server.says("hello"));
    CHECK(server.heard_by(*client) == "hello");
    client->renew(destination.kept);
    const bool kept = size <= Engine::ticket_limit;
    CHECK((destination.kept.get() != before) == kept);
    // Offered or not, the next handshake with a server of ours is an ordinary one.
    Joined next(destination.context,
                server_context(default_policy(), store_of({entry("alpha", true)}), ticket_keys()),
                "alpha.test", destination.kept.get());
    const bool shook = next.shake();
    const std::string why = fmt::format("{} / {}", next.server->error(), next.client->error());
    INFO(why);
    CHECK(shook);
  }
}

TEST_CASE("a ticket's nonce may have any length that the protocol allows") {
  const RawServerContext backend(true);
  for (const size_t nonce : {0, 8, 9, 32, 255}) {
    CAPTURE(nonce);
    Destination destination;
    RawServer server(backend, false);
    const auto client = Engine::client(destination.context, "alpha.test", nullptr);
    REQUIRE(server.shake(*client));
    server.gives_ticket(100, nonce);
    CHECK(server.says("hello"));
    CHECK(server.heard_by(*client) == "hello");
    client->renew(destination.kept);
    CHECK(destination.kept);
    CHECK(destination.log_in(backend, true).works);  // it opens nothing: a full handshake
  }
}
#endif

}  // namespace
}  // namespace postern::tls
