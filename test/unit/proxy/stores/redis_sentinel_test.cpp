// SPDX-License-Identifier: GPL-3.0-or-later
// A master, its replica and three sentinels: the master is found, a switch is followed, and whoever is no
// master is not asked.
#include "test/unit/proxy/stores/redis_world.hpp"

using namespace postern::proxy;
using namespace postern::proxy::test;

namespace {

const std::string pki = POSTERN_PKI;

/// As the operator would set it up; with TLS on every hop if asked for.
struct Watched {
  explicit Watched(bool tls = false)
      : master(options(tls), 0, tls),
        replica(options(tls, "127.0.0.1 " + std::to_string(master.port)), 0, tls) {
    if (!master) return;
    REQUIRE(eventually([this] {
      return replica.command("INFO replication").find("master_link_status:up") != std::string::npos;
    }));
    for (int i = 0; i < 3; ++i) {
      const uint16_t port = free_port();
      ports.push_back(port);
      std::string conf =
          (tls ? "port 0\ntls-port " : "port ") + std::to_string(port) +
          "\nbind 127.0.0.1\nsentinel monitor mail 127.0.0.1 " + std::to_string(master.port) +
          " 2\nsentinel down-after-milliseconds mail 500\nsentinel failover-timeout mail 3000\n";
      if (tls)
        conf += "tls-replication yes\ntls-auth-clients no\ntls-cert-file " + pki +
                "/alpha.crt\ntls-key-file " + pki + "/alpha.key\ntls-ca-cert-file " + pki + "/root.crt\n";
      const std::string name = "sentinel" + std::to_string(i);
      sentinels.push_back(std::make_unique<Process>(
          std::vector<std::string>{master.path, folder.write(name + ".conf", conf), "--sentinel"},
          folder / name));
      REQUIRE(eventually([port] { return accepts(port); }));
    }
  }
  static std::vector<std::string> options(bool tls, const std::string& of = {}) {
    std::vector<std::string> all = {"--repl-diskless-sync-delay", "0"};
    if (!of.empty()) {
      const size_t space = of.find(' ');
      all.insert(all.end(), {"--replicaof", of.substr(0, space), of.substr(space + 1)});
    }
    if (tls)
      all.insert(all.end(), {"--tls-replication", "yes", "--tls-auth-clients", "no", "--tls-cert-file",
                             pki + "/alpha.crt", "--tls-key-file", pki + "/alpha.key", "--tls-ca-cert-file",
                             pki + "/root.crt"});
    return all;
  }
  [[nodiscard]] std::string url(const std::string& scheme = "redis+sentinel") const {
    std::string hosts;
    for (const uint16_t port : ports) hosts += (hosts.empty() ? "" : ",") + local(port);
    return scheme + "://" + hosts + "/mail";
  }
  bool settled() {  // each sentinel knows the replica and the two others
    for (const uint16_t port : ports) {
      const std::string cli =
          "redis-cli --raw -p " + std::to_string(port) + " SENTINEL master mail 2>/dev/null";
      FILE* pipe = ::popen(cli.c_str(), "r");
      std::string out;
      char buffer[4096];
      while (size_t n = ::fread(buffer, 1, sizeof buffer, pipe)) out.append(buffer, n);
      ::pclose(pipe);
      if (out.find("num-slaves\n1") == std::string::npos ||
          out.find("num-other-sentinels\n2") == std::string::npos)
        return false;
    }
    return true;
  }

  Folder folder;
  RedisServer master, replica;
  std::vector<uint16_t> ports;
  std::vector<std::unique_ptr<Process>> sentinels;
};

}  // namespace

TEST_CASE("Sentinel: the master is found, and after a switch the new one answers") {
  Watched world;
  if (!world.master) return;
  world.master.command("SET route:alice new");
  Asking asking;
  asking.store = redis_store(asking, settings_of(world.url()));
  CHECK(text(asking.find("alice")) == "found new");
  CHECK(asking.store->state().connections >= 2);
  REQUIRE(eventually([&] { return world.settled(); }, std::chrono::seconds(30)));
  REQUIRE(eventually([&] { return world.replica.command("GET route:alice") == "new"; }));
  world.master.process->signal(SIGSTOP);
  // While it is being found out: no answer, or the right one. Never "no mapping".
  bool back = false;
  uint64_t promoted = 0, served = 0;
  for (int i = 0; i < 400 && !back; ++i) {
    const auto answer = asking.find("alice", 100);
    CHECK(answer.kind != StoreAnswer::Kind::absent);
    back = answer.kind == StoreAnswer::Kind::found;
    if (!promoted && world.replica.command("ROLE").starts_with("master")) promoted = uv_hrtime();
    asking.rest(10);
  }
  served = uv_hrtime();
  CHECK(back);
  MESSAGE("served ", promoted ? (served - promoted) / 1'000'000 : 0,
          " ms after the replica was seen promoted");
  CHECK((!promoted || served - promoted < 1'500'000'000));
  CHECK(text(asking.put("bob", "new")) == "found ");
  CHECK(world.replica.command("GET route:bob") == "new");
  // The old one comes back, believing for a moment that it is the master; it is not asked.
  world.replica.command("SET route:alice newer");
  world.master.process->signal(SIGCONT);
  for (int i = 0; i < 20; ++i) {
    CHECK(text(asking.find("alice", 1000)) == "found newer");
    asking.rest(20);
  }
  asking.store.reset();
}

TEST_CASE("Sentinel: one that is alive is enough, and none is a failure with words") {
  Watched world;
  if (!world.master) return;
  world.master.command("SET route:alice new");
  world.sentinels[0]->signal(SIGSTOP);
  world.sentinels[2].reset();
  Asking asking;
  asking.store = redis_store(asking, settings_of(world.url()));
  CHECK(text(asking.find("alice")) == "found new");
  asking.store.reset();
  world.sentinels[0].reset();
  world.sentinels[1].reset();
  asking.store = redis_store(asking, settings_of(world.url()));
  CHECK(text(asking.find("alice", 3000)).starts_with("failed sentinel 127.0.0.1:"));
  CHECK(text(asking.find("alice", 3000)).starts_with("failed sentinel 127.0.0.1:"));
  asking.store.reset();
}

TEST_CASE("Sentinel: a service that it does not know, and a master that is none") {
  Watched world;
  if (!world.master) return;
  Asking asking;
  auto settings = settings_of(world.url());
  settings.url.service = "other";
  asking.store = redis_store(asking, settings);
  CHECK(text(asking.find("alice", 3000)) == "failed the sentinels know no master of this name");
  world.sentinels.clear();
  world.master.command("REPLICAOF 127.0.0.1 " + std::to_string(world.replica.port));
  // A sentinel that has not heard yet.
  const std::string conf = "port " + std::to_string(world.ports[0]) + "\nsentinel monitor mail 127.0.0.1 " +
                           std::to_string(world.master.port) + " 3\n";
  Process sentinel({world.master.path, world.folder.write("late.conf", conf), "--sentinel"},
                   world.folder / "late");
  REQUIRE_MESSAGE(eventually([&] { return accepts(world.ports[0]); }, std::chrono::seconds(20)),
                  read_all(world.folder / "late"));
  asking.store = redis_store(asking, settings_of("redis+sentinel://" + local(world.ports[0]) + "/mail"));
  CHECK(text(asking.find("alice", 3000)) == "failed the server that Sentinel named is not a master");
  asking.store.reset();
}

TEST_CASE("Sentinel with TLS: both hops are verified") {
  Watched world(true);
  if (!world.master) return;
  world.master.command("SET route:alice new");
  Asking asking;
  auto settings = settings_of(world.url("rediss+sentinel"));
  settings.tls_ca = pki + "/root.crt";
  asking.store = redis_store(asking, settings);
  CHECK(text(asking.find("alice")) == "found new");
  settings.tls_ca = pki + "/stranger.crt";
  asking.store = redis_store(asking, settings);
  CHECK(text(asking.find("alice", 5000)).starts_with("failed sentinel 127.0.0.1:"));
  asking.store.reset();
  // The sentinel is genuine, the master is not.
  world.master.process.reset();
  RedisServer impostor({"--tls-auth-clients", "no", "--tls-cert-file", pki + "/foreign.crt", "--tls-key-file",
                        pki + "/foreign.key", "--tls-ca-cert-file", pki + "/root.crt"},
                       world.master.port, true);
  settings.tls_ca = pki + "/root.crt";
  asking.store = redis_store(asking, settings);
  CHECK(text(asking.find("alice", 300)).starts_with("failed TLS with 127.0.0.1"));
  CHECK(impostor.command("INFO commandstats").find("cmdstat_get") == std::string::npos);
  asking.store.reset();
}
