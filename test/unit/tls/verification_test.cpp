// SPDX-License-Identifier: GPL-3.0-or-later
// What the client side demands of a backend (scenarios 234 to 237): issuer, dates, name, pin; and what it
// shows.
#include "test/unit/tls/raw_client.hpp"
#include "tls/client_context.hpp"
#include "tls/der.hpp"
#include "tls/pem.hpp"
#include "tls/server_context.hpp"

namespace postern::tls {
namespace {

std::shared_ptr<const ServerContext> showing(const std::string& certificate, bool tls13 = true) {
  conf::TlsPolicy policy = default_policy();
  policy.tls13 = tls13;
  return server_context(policy, store_of({entry(certificate, true)}));
}

conf::DestinationConf pinning(const std::array<uint8_t, 32>& pin) {
  conf::DestinationConf conf;
  conf.tls_pinned_cert_sha256.emplace(pin.begin(), pin.end());
  return conf;
}
std::array<uint8_t, 32> pin_of(const std::string& file) {
  return sha256(*pem_bytes(pem_blocks(slurp(pki(file)))[0]));
}

struct Outcome {
  bool ok;
  std::string error;
  Failure client, server;
};
Outcome call(const std::shared_ptr<const ClientContext>& client,
             const std::shared_ptr<const ServerContext>& server, const std::string& name) {
  Joined pair(client, server, name);
  const bool ok = pair.shake();
  Outcome outcome{ok, pair.client->error(), pair.client->failure(), pair.server->failure()};
  // In TLS 1.3 the server hears of a refusal as a record behind the handshake.
  if (ok && pair.server_reads().end == ReadEnd::failed) outcome.server = pair.server->failure();
  return outcome;
}

TEST_CASE("scenario 234: a backend is trusted for its chain, its dates and its name, and for nothing less") {
  struct Row {
    const char *shown, *name, *error;
  };
  const Row rows[] = {
      {"alpha", "alpha.test", ""},
      {"alpha", "ALPHA.test", ""},
      {"alpha", "alpha.test.", ""},
      {"alpha", "127.0.0.1", ""},
      {"alpha", "::1", ""},
      {"alpha", "127.0.0.2", "name does not match"},
      {"alpha", "::2", "name does not match"},
      {"alpha", "beta.test", "name does not match"},
      {"alpha", "x.alpha.test", "name does not match"},
      {"alpha", "ignored.test", "name does not match"},  // a common name beside DNS names says nothing
      {"alpha", "test", "name does not match"},
      {"alpha", "", "name does not match"},
      {"wild", "x.wild.test", ""},
      {"wild", "wild.test", "name does not match"},
      {"wild", "a.b.wild.test", "name does not match"},
      {"wild", ".wild.test", "name does not match"},
      {"two", "beta.test", ""},
      {"rsa3072", "rsa3072.test", ""},  // no DNS names at all: the common name
      {"both-rsa", "both.test", ""},
      {"p521", "p521.test", ""},
      {"expired", "alpha.test", "the certificate has expired"},
      {"future", "alpha.test", "the certificate is not yet valid"},
      {"foreign", "alpha.test", "unknown issuer"},
  };
  const auto client = client_context();
  for (const bool tls13 : {true, false})
    for (const Row& row : rows) {
      CAPTURE(row.shown);
      CAPTURE(row.name);
      const Outcome outcome = call(client, showing(row.shown, tls13), row.name);
      CHECK(outcome.ok == (*row.error == '\0'));
      CHECK(outcome.error == row.error);
      CHECK(outcome.client == (outcome.ok ? Failure::none : Failure::certificate));
      if (!outcome.ok) CHECK(outcome.server == Failure::alert);
    }
  const Outcome self = call(client, server_context(default_policy(), store_of({})), "localhost");
  CHECK(self.client == Failure::certificate);
}

TEST_CASE("an issuer trusted in one connection does not become trusted in the next") {
  const auto client = client_context();
  for (int i = 0; i < 3; ++i) {
    CHECK(call(client, showing("foreign"), "alpha.test").error == "unknown issuer");
    CHECK(call(client, showing("alpha"), "alpha.test").ok);
  }
}

TEST_CASE("an intermediate that a backend has shown is trusted until it ends, and then no more") {
  const auto trust = trust_in();
  const auto leaf_alone = [] {
    conf::CertificateConf conf = entry("alpha", true);
    conf.cert = std::string(pem_blocks(slurp(pki("alpha.crt")))[0].text) + "\n";
    return server_context(default_policy(), store_of({conf}));
  }();
  const auto client = client_context({}, trust);
  CHECK_FALSE(call(client, leaf_alone, "alpha.test").ok);
  const std::time_t root_ends = trust->impl().until;
  CHECK(call(client, showing("alpha"), "alpha.test").ok);
  const auto middle = read_certificate(*pem_bytes(pem_blocks(slurp(pki("middle.crt")))[0]));
  REQUIRE(middle);
  CHECK(trust->impl().until == std::min(root_ends, middle->not_after));
  CHECK(call(client, leaf_alone, "alpha.test").ok);  // the library has learned it
  CHECK_FALSE(trust->outlived(middle->not_after));
  CHECK(trust->outlived(middle->not_after + 1));

  const auto again = [&trust] {
    ::setenv("SSL_CERT_FILE", pki("root.crt").c_str(), 1);
    auto next = TrustStore::load(trust);
    ::unsetenv("SSL_CERT_FILE");
    return next;
  };
  CHECK(again() == trust);
  trust->impl().trusted_until(std::time(nullptr) - 1);  // as if it had ended
  const auto next = again();
  REQUIRE(next != trust);
  CHECK_FALSE(next->outlived(std::time(nullptr)));
  CHECK_FALSE(call(client_context({}, next), leaf_alone, "alpha.test").ok);
  CHECK(call(client_context({}, next), showing("alpha"), "alpha.test").ok);
}

TEST_CASE("without roots nothing is trusted, and the operator can be told") {
  const auto empty = trust_in("alpha.key");
  CHECK(empty->roots() == 0);
  CHECK(empty->problem().find("no root certificate") == 0);
  CHECK(call(client_context({}, empty), showing("alpha"), "alpha.test").error == "unknown issuer");
  CHECK(trust_in()->roots() == 1);
  CHECK(trust_in()->problem().empty());
}

TEST_CASE("roots come from a directory as well, and from the machine when nothing is said") {
  ::setenv("SSL_CERT_DIR", (pki("absent") + ":" + pki("")).c_str(), 1);
  const auto trust = TrustStore::load();
  ::unsetenv("SSL_CERT_DIR");
  CHECK(trust->roots() >= 2);
  CHECK(call(client_context({}, trust), showing("foreign"), "alpha.test").ok);
  CHECK(call(client_context({}, trust), showing("alpha"), "alpha.test").ok);
  CHECK_FALSE(call(client_context({}, TrustStore::load()), showing("alpha"), "alpha.test").ok);
}

TEST_CASE("scenario 235: the pinned leaf is accepted whatever else it is, and no other") {
  for (const bool tls13 : {true, false}) {
    CHECK(call(client_context(pinning(pin_of("alpha.crt"))), showing("alpha", tls13), "other.example").ok);
    CHECK(
        call(client_context(pinning(pin_of("expired.crt"))), showing("expired", tls13), "other.example").ok);
    CHECK(call(client_context(pinning(pin_of("foreign.crt"))), showing("foreign", tls13), "").ok);
    for (const char* wrong : {"default.crt", "middle.crt", "root.crt", "expired.crt"}) {
      CAPTURE(wrong);
      conf::DestinationConf conf = pinning(pin_of(wrong));
      for (const bool allow : {false, true}) {
        conf.tls_allow_invalid_certs = allow;
        const Outcome outcome = call(client_context(conf), showing("alpha", tls13), "alpha.test");
        CHECK(outcome.error == "pin mismatch");
        CHECK(outcome.client == Failure::certificate);
        CHECK(outcome.server == Failure::alert);
      }
    }
  }
  const auto self = self_signed();
  CHECK(call(client_context(pinning(self->sha256)), server_context(default_policy(), store_of({})), "x").ok);
  conf::DestinationConf nonsense;
  nonsense.tls_pinned_cert_sha256.emplace(20);
  CHECK_FALSE(ClientContext::make(nonsense, trust_in()));
}

TEST_CASE("what a pin lets through does not become trusted for the next connection") {
  const auto pinned = client_context(pinning(pin_of("foreign.crt")));
  CHECK(call(pinned, showing("foreign"), "alpha.test").ok);
  CHECK_FALSE(call(pinned, showing("alpha"), "alpha.test").ok);
  CHECK(call(client_context(), showing("foreign"), "alpha.test").error == "unknown issuer");
}

TEST_CASE("with invalid certificates allowed nothing is checked") {
  conf::DestinationConf conf;
  conf.tls_allow_invalid_certs = true;
  const auto client = client_context(conf);
  for (const char* shown : {"alpha", "expired", "future", "foreign"})
    CHECK(call(client, showing(shown), "x.example").ok);
  CHECK(call(client, server_context(default_policy(), store_of({})), "").ok);
}

TEST_CASE("scenario 236: the server name is sent, except for an IP address") {
  struct Row {
    const char *name, *sent;
  };
  const Row rows[] = {{"mail7.example.net", "mail7.example.net"},
                      {"localhost", "localhost"},
                      {"localhost.", "localhost"},
                      {"127.0.0.1", ""},
                      {"::1", ""},
                      {"", ""}};
  conf::DestinationConf conf;
  conf.tls_allow_invalid_certs = true;
  const auto client = client_context(conf);
  const auto server = showing("alpha");
  for (const Row& row : rows) {
    CAPTURE(row.name);
    Joined pair(client, server, row.name);
    CHECK(pair.shake());
    CHECK(pair.server->server_name() == row.sent);
  }
}

/// A bare server that demands a certificate signed by pki/root.crt and remembers what it saw.
struct DemandingServer {
  ContextHandle context;
  SslHandle ssl;
  std::vector<uint8_t> in, out;
  explicit DemandingServer(bool tls13)
      : context(wolfSSL_CTX_new(tls13 ? wolfTLSv1_3_server_method() : wolfTLSv1_2_server_method())) {
    WOLFSSL_CTX* c = context.get();
    REQUIRE(wolfSSL_CTX_use_certificate_chain_file(c, pki("alpha.crt").c_str()) == WOLFSSL_SUCCESS);
    REQUIRE(wolfSSL_CTX_use_PrivateKey_file(c, pki("alpha.key").c_str(), WOLFSSL_FILETYPE_PEM) ==
            WOLFSSL_SUCCESS);
    REQUIRE(wolfSSL_CTX_load_verify_locations(c, pki("root.crt").c_str(), nullptr) == WOLFSSL_SUCCESS);
    wolfSSL_CTX_set_verify(c, WOLFSSL_VERIFY_PEER | WOLFSSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    wolfSSL_CTX_SetIORecv(c, [](WOLFSSL*, char* to, int wanted, void* user) {
      auto& from = static_cast<DemandingServer*>(user)->in;
      const size_t n = std::min(static_cast<size_t>(wanted), from.size());
      if (n == 0) return static_cast<int>(WOLFSSL_CBIO_ERR_WANT_READ);
      std::memcpy(to, from.data(), n);
      from.erase(from.begin(), from.begin() + static_cast<std::ptrdiff_t>(n));
      return static_cast<int>(n);
    });
    wolfSSL_CTX_SetIOSend(c, [](WOLFSSL*, char* from, int size, void* user) {
      auto& to = static_cast<DemandingServer*>(user)->out;
      to.insert(to.end(), from, from + size);
      return size;
    });
    ssl.reset(wolfSSL_new(c));
    wolfSSL_SetIOReadCtx(ssl.get(), this);
    wolfSSL_SetIOWriteCtx(ssl.get(), this);
  }
  /// True if both sides are satisfied in the end; TLS 1.3 clients learn of a refusal when they read.
  bool meet(Engine& client) {
    bool mine = false;
    Progress theirs = Progress::want_input;
    for (int round = 0; round < 10; ++round) {
      Outbox box;
      Input input{out.data(), out.size()};
      if (theirs == Progress::want_input) {
        theirs = client.handshake(input, box);
      } else if (theirs == Progress::established) {
        uint8_t plain[1000];
        if (client.read(input, plain, box).end == ReadEnd::failed) theirs = Progress::failed;
      }
      out.erase(out.begin(), out.end() - static_cast<std::ptrdiff_t>(input.size));
      in.insert(in.end(), box.bytes().begin(), box.bytes().end());
      if (!mine) mine = wolfSSL_accept(ssl.get()) == WOLFSSL_SUCCESS;
    }
    return mine && theirs == Progress::established;
  }
};

TEST_CASE("scenario 237: a client certificate is shown to a backend that asks for one") {
  conf::DestinationConf conf;
  conf.tls_client_cert = pki("both-rsa.crt");
  conf.tls_client_key = conf::Secret(pki("both-rsa.key"));
  for (const bool tls13 : {true, false}) {
    for (const char* own : {"both-rsa", "two"}) {
      conf.tls_client_cert = pki(std::string(own) + ".crt");
      conf.tls_client_key = conf::Secret(slurp(pki(std::string(own) + ".key")));
      const auto with = Engine::client(client_context(conf), "alpha.test", nullptr);
      CHECK(DemandingServer(tls13).meet(*with));
    }
    const auto without = Engine::client(client_context(), "alpha.test", nullptr);
    CHECK_FALSE(DemandingServer(tls13).meet(*without));
    if (library().bundled) CHECK(without->failure() == Failure::alert);  // old servers hang up without a word
    // Nobody asks: nothing is shown, and all is well.
    CHECK(call(client_context(conf), showing("alpha", tls13), "alpha.test").ok);
  }
}

TEST_CASE("a client certificate that cannot be used is refused when the configuration is read") {
  struct Row {
    std::string cert, key, says;
  };
  const Row rows[] = {
      {pki("alpha.crt"), "", "tls_client_cert without tls_client_key"},
      {"", pki("alpha.key"), "tls_client_key without tls_client_cert"},
      {pki("nowhere.pem"), pki("alpha.key"), "tls_client_cert: cannot read"},
      {pki("alpha.crt"), pki("nowhere.pem"), "tls_client_key: cannot read"},
      {pki("alpha.key"), pki("alpha.key"), "tls_client_cert: no certificate in it"},
      {pki("alpha.crt"), pki("default.key"), "tls_client_key: certificate and key do not belong together"},
      {pki("alpha.crt"), pki("encrypted.key"), "tls_client_key: the private key is encrypted"},
  };
  for (const Row& row : rows) {
    conf::DestinationConf conf;
    conf.tls_client_cert = row.cert;
    conf.tls_client_key = conf::Secret(row.key);
    const auto context = ClientContext::make(conf, trust_in());
    REQUIRE_FALSE(context);
    CHECK_MESSAGE(context.error().text.find(row.says) == 0, context.error().text);
  }
}

TEST_CASE("destinations share the roots: a thousand contexts cost next to nothing") {
  const auto trust = trust_in();
  std::vector<std::shared_ptr<const ClientContext>> contexts;
  for (int i = 0; i < 1000; ++i) contexts.push_back(client_context({}, trust));
  CHECK(contexts.front()->impl().context == contexts.back()->impl().context);
}

}  // namespace
}  // namespace postern::tls
