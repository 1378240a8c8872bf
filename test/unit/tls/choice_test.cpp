// SPDX-License-Identifier: GPL-3.0-or-later
// Which certificate a client is shown (scenarios 223 to 226, 233), and which of two key types.
#include "test/unit/tls/raw_client.hpp"
#include "tls/server_context.hpp"

namespace postern::tls {
namespace {

/// The id presented to a default client that asks for `name`, or why there was none.
std::string presented(const std::shared_ptr<const ServerContext>& context, const std::string& name,
                      RawOffer offer = {}) {
  const auto server = Engine::server(context);
  offer.server_name = name;
  RawClient client(offer);
  if (!client.shake(*server)) return std::string("failed: ") + server->error();
  CHECK(server->server_name() == name);
  return std::string(server->certificate_id());
}

struct Row {
  const char* name;
  const char* shown;
};

TEST_CASE("scenario 223: exact name, parent, then the catch-all") {
  const auto context =
      server_context(default_policy(), store_of({entry("alpha"), entry("wild"), entry("default", true)}));
  const Row rows[] = {{"alpha.test", "alpha"}, {"host.alpha.test", "alpha"},  {"x.wild.test", "wild"},
                      {"wild.test", "wild"},   {"a.b.alpha.test", "default"}, {"unknown.example", "default"},
                      {"", "default"}};
  for (const Row& row : rows) CHECK(presented(context, row.name) == row.shown);
  const auto server = Engine::server(context);
  RawOffer loud;
  loud.server_name = "ALPHA.Test";
  RawClient client(loud);
  CHECK(client.shake(*server));
  CHECK(server->certificate_id() == "alpha");
  CHECK(server->server_name() == "alpha.test");
}

TEST_CASE("scenario 224: the only entry serves every name") {
  const auto context = server_context(default_policy(), store_of({entry("two")}));
  for (const char* name : {"alpha2.test", "beta.test", "unknown.example", ""})
    CHECK(presented(context, name) == "two");
}

TEST_CASE("scenario 225: nothing matches, so the self-signed certificate is shown") {
  const auto context = server_context(default_policy(), store_of({entry("alpha"), entry("wild")}));
  CHECK(presented(context, "unknown.example") == "self-signed");
  CHECK(presented(context, "") == "self-signed");
  CHECK(presented(context, "alpha.test") == "alpha");
  CHECK(presented(server_context(default_policy(), store_of({})), "alpha.test") == "self-signed");
}

TEST_CASE("scenario 226: subjects override the names in the certificate") {
  const auto context = server_context(
      default_policy(), store_of({entry("alpha", false, {"renamed.test"}), entry("default", true)}));
  CHECK(presented(context, "renamed.test") == "alpha");
  CHECK(presented(context, "alpha.test") == "default");
}

TEST_CASE("a listener's own list comes before the registered names, its own certificate after them") {
  const auto store = store_of({entry("alpha"), entry("wild"), entry("default", true), entry("two")});
  conf::TlsPolicy policy = default_policy();
  policy.sni = {{"alpha.test", "two"}, {"list.test", "wild"}, {"deep.list.test", "alpha"}};
  policy.certificate = "two";
  const auto context = server_context(policy, store);
  const Row rows[] = {{"alpha.test", "two"},       {"x.alpha.test", "two"},
                      {"list.test", "wild"},       {"x.list.test", "wild"},
                      {"deep.list.test", "alpha"}, {"x.deep.list.test", "alpha"},
                      {"a.b.list.test", "two"},    {"wild.test", "wild"},
                      {"unknown.example", "two"},  {"", "two"}};
  for (const Row& row : rows) CHECK(presented(context, row.name) == row.shown);
}

TEST_CASE("a policy that names a certificate the store has not is refused") {
  const auto store = store_of({entry("alpha")});
  conf::TlsPolicy policy = default_policy();
  policy.certificate = "ghost";
  CHECK_FALSE(ServerContext::make(policy, store, {}, {}));
  policy.certificate.clear();
  policy.sni = {{"a.test", "ghost"}};
  CHECK_FALSE(ServerContext::make(policy, store, {}, {}));
}

TEST_CASE("with both key types for a name, ECDSA is shown to those who can verify it and RSA to the others") {
  struct KeyRow {
    const char* what;
    RawOffer offer;
    const char* shown;
  };
  const KeyRow rows[] = {
      {"a modern client", {}, "both"},
      {"TLS 1.2", {.tls13 = false}, "both"},
      {"TLS 1.2 with RSA suites alone",
       {.suites = "ECDHE-RSA-AES128-GCM-SHA256", .tls13 = false},
       "both-rsa"},
      {"TLS 1.2 without the key's curve", {.groups = {29}, .tls13 = false}, "both-rsa"},
  };
  for (const bool by_name : {true, false}) {
    const auto context = server_context(default_policy(), store_of({entry("both", true), entry("both-rsa")}));
    for (const KeyRow& row : rows) {
      CAPTURE(row.what);
      CHECK(presented(context, by_name ? "both.test" : "", row.offer) == row.shown);
    }
  }
}

TEST_CASE("the signatures a client can verify choose between two key types") {
  const auto context =
      server_context(default_policy(), store_of({entry("both"), entry("both-rsa"), entry("wild")}));
  const std::vector<uint8_t> tls13_suites = {0x13, 1}, ecdsa_suites = {0xc0, 0x2b, 0xc0, 0x2f},
                             rsa_suites = {0xc0, 0x2f};
  struct SignatureRow {
    const char* what;
    bool tls13;
    const std::vector<uint8_t>& suites;
    std::vector<uint8_t> signatures;
    std::vector<uint8_t> groups;
    const char* shown;
  };
  const SignatureRow rows[] = {
      {"TLS 1.3, P-256 and PSS", true, tls13_suites, {8, 4, 4, 3}, {0, 29}, "both"},
      {"TLS 1.3, PSS alone", true, tls13_suites, {8, 4}, {0, 29, 0, 23}, "both-rsa"},
      {"TLS 1.3, P-384 alone of ECDSA", true, tls13_suites, {5, 3, 8, 4}, {0, 29}, "both-rsa"},
      {"TLS 1.2, ECDSA", false, ecdsa_suites, {5, 3}, {0, 29, 0, 23}, "both"},
      {"TLS 1.2, ECDSA with SHA-1", false, ecdsa_suites, {2, 3, 4, 1}, {0, 23}, "both-rsa"},
      {"TLS 1.2, ECDSA without its curve", false, ecdsa_suites, {4, 3}, {0, 29}, "both-rsa"},
      {"TLS 1.2, no word of curves", false, ecdsa_suites, {4, 3}, {}, "both"},
      {"TLS 1.2, RSA suites", false, rsa_suites, {4, 3, 4, 1}, {0, 23}, "both-rsa"},
      {"TLS 1.2, no word of signatures", false, ecdsa_suites, {}, {0, 23}, "both-rsa"},
  };
  for (const SignatureRow& row : rows) {
    CAPTURE(row.what);
    ClientHello hello;
    hello.server_name = "both.test";
    hello.tls13 = row.tls13;
    hello.tls12 = !row.tls13;
    hello.suites = row.suites;
    hello.signature_algorithms = row.signatures;
    hello.has_signature_algorithms = !row.signatures.empty();
    hello.groups = row.groups;
    hello.has_groups = !row.groups.empty();
    CHECK(context->impl().choose(hello)->id == row.shown);
    hello.server_name = "x.wild.test";  // one key type: the only chance there is
    CHECK(context->impl().choose(hello)->id == "wild");
  }
}

TEST_CASE("every curve and key size of certificates completes a handshake in both versions") {
  for (const char* name : {"alpha", "wild", "p521", "both-rsa", "rsa3072"})
    for (const bool tls13 : {true, false}) {
      CAPTURE(name);
      const auto context = server_context(default_policy(), store_of({entry(name, true)}));
      CHECK(presented(context, "", {.tls12 = !tls13, .tls13 = tls13}) == name);
    }
}

TEST_CASE("a new certificate serves new handshakes while old conversations go on") {
  auto context = server_context(default_policy(), store_of({entry("alpha", true)}));
  Joined old(client_context(), context);
  REQUIRE(old.shake());
  context = server_context(default_policy(), store_of({entry("default", true)}));
  CHECK(presented(context, "") == "default");
  CHECK(old.client_writes("still here"));
  CHECK(old.server_reads().text == "still here");
  CHECK(old.server->certificate_id() == "alpha");
}

}  // namespace
}  // namespace postern::tls
