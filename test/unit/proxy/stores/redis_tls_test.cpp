// SPDX-License-Identifier: GPL-3.0-or-later
// Redis over TLS: what must be shown before a password is said.
#include "test/unit/proxy/stores/redis_world.hpp"
#include "tls/context.hpp"

using namespace postern::proxy;
using namespace postern::proxy::test;

namespace {

const std::string pki = POSTERN_PKI;

std::vector<std::string> served(const std::string& name) {
  return {"--tls-cert-file",    pki + "/" + name + ".crt", "--tls-key-file", pki + "/" + name + ".key",
          "--tls-ca-cert-file", pki + "/root.crt",         "--requirepass",  "pw"};
}

}  // namespace

TEST_CASE("Redis with TLS: served to whom its certificate convinces, and to nobody else") {
  auto options = served("alpha");
  options.insert(options.end(), {"--tls-auth-clients", "no"});
  RedisServer server(options, 0, true);
  if (!server) return;
  server.command("SET route:alice new", "--no-auth-warning -a pw");
  Asking asking;
  const std::string url = "rediss://:pw@" + local(server.port);
  const auto ask = [&](const RedisSettings& settings) {
    asking.store = redis_store(asking, settings);
    return text(asking.find("alice", 5000));
  };
  auto settings = settings_of(url);
  settings.tls_ca = pki + "/root.crt";
  CHECK(ask(settings) == "found new");  // the certificate is for the address
  settings.tls_server_name = "alpha.test";
  CHECK(ask(settings) == "found new");
  settings.tls_server_name = "beta.test";
  CHECK(ask(settings).starts_with("failed TLS with 127.0.0.1"));
  settings.tls_server_name.clear();
  settings.tls_ca = pki + "/stranger.crt";
  CHECK(ask(settings).starts_with("failed TLS with 127.0.0.1"));
  CHECK(asking.store->state().connections == 0);
  settings.tls_pinned_cert_sha256 = std::vector<uint8_t>(32, 7);
  CHECK(ask(settings).starts_with("failed TLS with 127.0.0.1"));
  // The other way round: no TLS against TLS, TLS against none.
  CHECK(ask(settings_of("redis://:pw@" + local(server.port))).starts_with("failed "));
  RedisServer plain;
  auto wrong = settings_of("rediss://:pw@" + local(plain.port));
  wrong.tls_ca = pki + "/root.crt";
  CHECK(ask(wrong).starts_with("failed "));
  asking.store.reset();
}

TEST_CASE("Redis with TLS: a client certificate where the server wants one") {
  RedisServer server(served("alpha"), 0, true);
  if (!server) return;
  Asking asking;
  auto settings = settings_of("rediss://:pw@" + local(server.port));
  settings.tls_ca = pki + "/root.crt";
  asking.store = redis_store(asking, settings);
  CHECK(asking.find("alice", 3000).kind != StoreAnswer::Kind::absent);
  settings.tls_client_cert = pki + "/alpha.crt";
  settings.tls_client_key = postern::conf::Secret(pki + "/alpha.key");
  asking.store = redis_store(asking, settings);
  CHECK(text(asking.find("alice", 5000)) == "absent ");
  asking.store.reset();
}

TEST_CASE("Redis with TLS: files that are missing or wrong are told by their key") {
  auto settings = settings_of("rediss://localhost");
  settings.tls_ca = pki + "/missing.crt";
  CHECK(redis_tls(settings).error().text.starts_with("tls_ca: "));
  settings.tls_ca = pki + "/alpha.key";
  CHECK(redis_tls(settings).error().text.find("holds no certificate") != std::string::npos);
  settings.tls_ca = pki + "/root.crt";
  settings.tls_client_cert = pki + "/alpha.crt";
  CHECK(redis_tls(settings).error().text == "tls_client_cert without tls_client_key");
  settings.tls_client_key = postern::conf::Secret(pki + "/missing.key");
  CHECK(redis_tls(settings).error().text.starts_with("tls_client_key: "));
  CHECK(*redis_tls(settings_of("redis://localhost")) == nullptr);
}
