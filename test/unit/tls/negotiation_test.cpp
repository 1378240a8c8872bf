// SPDX-License-Identifier: GPL-3.0-or-later
// What a server agrees to: versions, suites, groups, order, application protocols (scenarios 227 to 230,
// 233).
#include "test/unit/tls/raw_client.hpp"
#include "tls/library.hpp"
#include "tls/server_context.hpp"

namespace postern::tls {
namespace {

const std::vector<conf::CertificateConf> both_kinds = {entry("both", true), entry("both-rsa")};

struct Outcome {
  bool ok;
  Facts facts;
  Failure failure;
  int alert;
};
Outcome meet(const conf::TlsPolicy& policy, const RawOffer& offer, std::vector<std::string> alpn = {}) {
  static const auto store = store_of(both_kinds);
  const auto server = Engine::server(server_context(policy, store, {}, std::move(alpn)));
  RawClient client(offer);
  const bool ok = client.shake(*server);
  return {ok, server->facts(), server->failure(), client.alert()};
}

conf::TlsPolicy versions(bool tls12, bool tls13) {
  conf::TlsPolicy policy = default_policy();
  policy.tls12 = tls12;
  policy.tls13 = tls13;
  return policy;
}

TEST_CASE("the newest version both sides allow is agreed on, and nothing when there is none") {
  struct Row {
    bool ours12, ours13, theirs12, theirs13;
    std::string_view agreed;
  };
  const Row rows[] = {
      {true, true, true, true, "TLSv1.3"},   {true, true, true, false, "TLSv1.2"},
      {true, true, false, true, "TLSv1.3"},  {true, false, true, true, "TLSv1.2"},
      {false, true, true, true, "TLSv1.3"},  {true, false, true, false, "TLSv1.2"},
      {false, true, true, false, ""},        {true, false, false, true, ""},
      {false, true, false, true, "TLSv1.3"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.ours12);
    CAPTURE(row.ours13);
    CAPTURE(row.theirs12);
    CAPTURE(row.theirs13);
    RawOffer offer;
    offer.tls12 = row.theirs12;
    offer.tls13 = row.theirs13;
    const Outcome outcome = meet(versions(row.ours12, row.ours13), offer);
    CHECK(outcome.ok == !row.agreed.empty());
    CHECK(outcome.facts.version == row.agreed);
    if (!outcome.ok) {
      CHECK(outcome.failure == Failure::version);
      CHECK(outcome.alert == 70);
    }
  }
}

TEST_CASE("a policy whose suites fit one version offers only that version") {
  conf::TlsPolicy policy = default_policy();
  policy.suites = {conf::Suite::ecdhe_ecdsa_aes_128_gcm_sha256};
  Outcome outcome = meet(policy, {});
  CHECK(outcome.ok);
  CHECK(outcome.facts.version == "TLSv1.2");
  CHECK(outcome.facts.suite == "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256");
  policy.suites = {conf::Suite::tls13_chacha20_poly1305_sha256};
  outcome = meet(policy, {});
  CHECK(outcome.facts.suite == "TLS13_CHACHA20_POLY1305_SHA256");
  RawOffer old;
  old.tls13 = false;
  CHECK(meet(policy, old).failure == Failure::version);
}

TEST_CASE("each of the nine suites completes a handshake alone, offered by either side") {
  for (size_t i = 0; i < conf::suite_count; ++i) {
    const auto suite = static_cast<conf::Suite>(i);
    CAPTURE(conf::name(suite));
    const std::string wolfssl_name = suite_list(std::span(&suite, 1));
    RawOffer offer;
    offer.suites = wolfssl_name.c_str();
    offer.tls13 = conf::is_tls13(suite);
    offer.tls12 = !offer.tls13;
    Outcome outcome = meet(default_policy(), offer);
    CHECK(outcome.ok);
    CHECK(outcome.facts.suite == conf::name(suite));
    conf::TlsPolicy policy = default_policy();
    policy.suites = {suite};
    outcome = meet(policy, {});
    CHECK(outcome.ok);
    CHECK(outcome.facts.suite == conf::name(suite));
  }
}

TEST_CASE("no suite in common is a failure of its own, with an alert") {
  conf::TlsPolicy policy = default_policy();
  policy.suites = {conf::Suite::tls13_aes_256_gcm_sha384};
  RawOffer offer;
  offer.suites = "TLS13-AES128-GCM-SHA256";
  offer.tls12 = false;
  Outcome outcome = meet(policy, offer);
  CHECK_FALSE(outcome.ok);
  CHECK(outcome.failure == Failure::cipher);
  CHECK(outcome.alert == 40);
  policy.suites = {conf::Suite::ecdhe_ecdsa_aes_256_gcm_sha384};
  offer.suites = "ECDHE-ECDSA-AES128-GCM-SHA256";
  offer.tls12 = true;
  offer.tls13 = false;
  outcome = meet(policy, offer);
  CHECK(outcome.failure == Failure::cipher);
  CHECK(outcome.alert == 40);
}

TEST_CASE("each group completes a handshake alone, in both versions where it exists there") {
  for (const conf::Group group : library().groups) {
    CAPTURE(conf::name(group));
    for (const bool tls13 : {true, false}) {
      if (!tls13 && group == conf::Group::x25519mlkem768) continue;
      RawOffer offer;
      offer.tls13 = tls13;
      offer.tls12 = !tls13;
      offer.groups = {number(group)};
      if (!tls13) offer.suites = "ECDHE-RSA-AES128-GCM-SHA256";
      const Outcome outcome = meet(default_policy(), offer);
      CHECK(outcome.ok);
      CHECK(outcome.facts.group == conf::name(group));
    }
  }
}

TEST_CASE("a group outside the policy is not used, whatever the client prefers") {
  conf::TlsPolicy policy = default_policy();
  policy.groups = {conf::Group::secp384r1};
  for (const bool tls13 : {true, false}) {
    CAPTURE(tls13);
    RawOffer offer;
    offer.tls13 = tls13;
    offer.tls12 = !tls13;
    offer.groups = {29, 23, 24};
    if (!tls13) offer.suites = "ECDHE-RSA-AES128-GCM-SHA256";
    Outcome outcome = meet(policy, offer);
    CHECK(outcome.ok);
    CHECK(outcome.facts.group == "SECP384R1");
    offer.groups = {29};
    outcome = meet(policy, offer);
    CHECK_FALSE(outcome.ok);
    CHECK(outcome.failure == Failure::cipher);
    CHECK(outcome.alert == 40);
  }
}

TEST_CASE("a client without the group it is asked for in time gets a second round trip") {
  conf::TlsPolicy policy = default_policy();
  policy.groups = {conf::Group::secp256r1};
  RawOffer offer;
  offer.tls12 = false;
  offer.groups = {29, 23};
  const Outcome outcome = meet(policy, offer);
  CHECK(outcome.ok);
  CHECK(outcome.facts.group == "SECP256R1");
}

TEST_CASE("the client's order of suites decides unless it is to be ignored") {
  struct Row {
    bool ignore, tls13;
    const char* offer;
    std::string_view agreed;
  };
  const Row rows[] = {
      {false, true, "TLS13-CHACHA20-POLY1305-SHA256:TLS13-AES128-GCM-SHA256",
       "TLS13_CHACHA20_POLY1305_SHA256"},
      {true, true, "TLS13-CHACHA20-POLY1305-SHA256:TLS13-AES128-GCM-SHA256", "TLS13_AES_128_GCM_SHA256"},
      {false, false,
       "ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305",
       "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"},
      {false, false, "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256",
       "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"},
      {true, false, "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256",
       "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.offer);
    CAPTURE(row.ignore);
    conf::TlsPolicy policy = default_policy();
    policy.ignore_client_order = row.ignore;
    RawOffer offer;
    offer.tls13 = row.tls13;
    offer.tls12 = !row.tls13;
    offer.suites = row.offer;
    CHECK(meet(policy, offer).facts.suite == row.agreed);
  }
}

TEST_CASE("a disabled suite is passed over for the client's next one") {
  conf::TlsPolicy policy = default_policy();
  std::erase(policy.suites, conf::Suite::tls13_aes_256_gcm_sha384);
  RawOffer offer;
  offer.suites = "TLS13-AES256-GCM-SHA384:TLS13-AES128-GCM-SHA256";
  CHECK(meet(policy, offer).facts.suite == "TLS13_AES_128_GCM_SHA256");
}

TEST_CASE("the server's own order decides among its suites when it is configured") {
  conf::TlsPolicy policy = default_policy();
  policy.ignore_client_order = true;
  policy.suites = {conf::Suite::tls13_chacha20_poly1305_sha256, conf::Suite::tls13_aes_128_gcm_sha256};
  CHECK(meet(policy, {}).facts.suite == "TLS13_CHACHA20_POLY1305_SHA256");
}

TEST_CASE("application protocols: one in common, none offered, none in common, none of ours") {
  struct Row {
    std::vector<std::string> ours;
    std::string offered;
    bool ok;
    std::string_view agreed;
  };
  const Row rows[] = {
      {{"imap"}, "imap", true, "imap"},
      {{"imap"}, "", true, ""},
      {{"imap"}, "pop3", false, ""},
      {{"imap"}, "pop3,h2,imap", true, "imap"},
      {{"imap"}, "IMAP", false, ""},
      {{"imap"}, "imap2", false, ""},
      {{"h2", "http/1.1"}, "http/1.1,h2", true, "h2"},
      {{}, "imap", true, ""},
  };
  static const auto store = store_of(both_kinds);
  for (const bool tls13 : {true, false})
    for (const Row& row : rows) {
      CAPTURE(row.offered);
      const auto server = Engine::server(server_context(default_policy(), store, {}, row.ours));
      RawOffer offer;
      offer.alpn = row.offered;
      offer.tls13 = tls13;
      RawClient client(offer);
      CHECK(client.shake(*server) == row.ok);
      CHECK(server->alpn() == row.agreed);
      if (!row.ok) {
        CHECK(server->failure() == Failure::alpn);
        CHECK(client.alert() == 120);
      }
    }
}

TEST_CASE("listeners with equal policies share contexts, others do not") {
  const auto store = store_of(both_kinds);
  const auto one = server_context(default_policy(), store), two = server_context(default_policy(), store);
  auto policy = default_policy();
  policy.tls12 = false;
  const auto three = server_context(policy, store);
  CHECK(one != two);
  const auto memory = [](const auto& context) { return context->impl().pool; };
  CHECK(memory(one) == memory(two));
  CHECK(memory(one) != memory(three));
}

}  // namespace
}  // namespace postern::tls
