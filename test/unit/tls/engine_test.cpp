// SPDX-License-Identifier: GPL-3.0-or-later
// Conversations of two engines.
#include "test/unit/tls/pair.hpp"

namespace postern::tls {
namespace {

TEST_CASE("two engines with default settings agree on TLS 1.3 with the best group and talk") {
  Joined pair(client_context(), server_context(default_policy(), store_of({entry("alpha")})));
  REQUIRE_MESSAGE(pair.shake(), pair.client->error(), " / ", pair.server->error());
  for (const Engine* engine : {pair.client.get(), pair.server.get()}) {
    const Facts facts = engine->facts();
    CHECK(facts.version == "TLSv1.3");
    CHECK(facts.suite == "TLS13_AES_256_GCM_SHA384");
    CHECK(facts.group == conf::name(library().groups.front()));
    CHECK_FALSE(facts.resumed);
    CHECK(engine->failure() == Failure::none);
  }
  CHECK(pair.server->server_name() == "alpha.test");
  CHECK(pair.server->certificate_id() == "alpha");
  CHECK(pair.client_writes("a1 NOOP\r\n"));
  CHECK(pair.server_reads().text == "a1 NOOP\r\n");
  CHECK(pair.server_writes("a1 OK\r\n"));
  CHECK(pair.client_reads().text == "a1 OK\r\n");
}

}  // namespace
}  // namespace postern::tls
