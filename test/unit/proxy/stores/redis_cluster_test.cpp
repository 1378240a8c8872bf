// SPDX-License-Identifier: GPL-3.0-or-later
// A cluster of three: every key is found wherever it lies, and a slot on the move is followed.
#include "test/unit/proxy/stores/redis_world.hpp"

using namespace postern::proxy;
using namespace postern::proxy::test;

namespace {

const std::string pki = POSTERN_PKI;

struct Cluster {
  Cluster() {
    for (int i = 0; i < 3; ++i)
      nodes.push_back(std::make_unique<RedisServer>(
          std::vector<std::string>{"--cluster-enabled", "yes", "--cluster-node-timeout", "2000",
                                   "--cluster-port", std::to_string(free_port())}));
    if (!*nodes[0]) return;
    const int bounds[] = {0, 5461, 10923, 16384};
    for (size_t i = 0; i < 3; ++i)
      CHECK(nodes[i]->command("CLUSTER ADDSLOTSRANGE " + std::to_string(bounds[i]) + " " +
                              std::to_string(bounds[i + 1] - 1)) == "OK");
    for (size_t i = 1; i < 3; ++i) {
      const std::string bus = nodes[i]->command("CONFIG GET cluster-port");
      CHECK(nodes[0]->command("CLUSTER MEET 127.0.0.1 " + std::to_string(nodes[i]->port) + " " +
                              bus.substr(bus.rfind('\n') + 1)) == "OK");
    }
    for (const auto& node : nodes)
      REQUIRE(eventually([&] {
        return node->command("CLUSTER INFO").find("cluster_state:ok") != std::string::npos &&
               node->command("CLUSTER INFO").find("cluster_known_nodes:3") != std::string::npos;
      }));
  }
  std::string id(size_t node) { return nodes[node]->command("CLUSTER MYID"); }
  std::vector<std::unique_ptr<RedisServer>> nodes;
};

}  // namespace

TEST_CASE("Cluster: keys are found on all servers, also while a slot moves, and after it") {
  Cluster cluster;
  if (!*cluster.nodes[0]) return;
  Asking asking;
  asking.store = redis_store(asking, settings_of("redis://" + local(cluster.nodes[0]->port)));
  std::vector<std::string> names;
  for (int i = 0; i < 300; ++i) {
    names.push_back("user" + std::to_string(i));
    CHECK(text(asking.put(names.back(), "d" + std::to_string(i))) == "found ");
  }
  const auto check = [&] {
    const auto answers = asking.find(names);
    size_t wrong = 0;
    for (size_t i = 0; i < names.size(); ++i) wrong += text(answers[i]) != "found d" + std::to_string(i);
    CHECK(wrong == 0);
  };
  check();
  check();
  CHECK(asking.store->state().connections == 3);
  CHECK(cluster.nodes[1]->command("DBSIZE") != "0");
  // user0's slot goes from its server to the next one: first ASK, then MOVED.
  const std::string slot = cluster.nodes[0]->command("CLUSTER KEYSLOT route:user0");
  const int number = std::stoi(slot);
  const size_t from = number < 5461 ? 0 : number < 10923 ? 1 : 2, to = (from + 1) % 3;
  CHECK(cluster.nodes[to]->command("CLUSTER SETSLOT " + slot + " IMPORTING " + cluster.id(from)) == "OK");
  CHECK(cluster.nodes[from]->command("CLUSTER SETSLOT " + slot + " MIGRATING " + cluster.id(to)) == "OK");
  CHECK(cluster.nodes[from]->command("MIGRATE 127.0.0.1 " + std::to_string(cluster.nodes[to]->port) +
                                     " route:user0 0 5000") == "OK");
  check();
  for (const auto& node : cluster.nodes) node->command("CLUSTER SETSLOT " + slot + " NODE " + cluster.id(to));
  check();
  // A server that is gone: its keys fail, the others do not.
  cluster.nodes[2]->process->signal(SIGSTOP);
  size_t found = 0, late = 0;
  for (const auto& answer : asking.find(names, 500)) {
    found += answer.kind == StoreAnswer::Kind::found;
    late += answer.kind == StoreAnswer::Kind::timeout || answer.kind == StoreAnswer::Kind::failed;
  }
  CHECK(found > 100);
  CHECK(found + late == names.size());
  cluster.nodes[2]->process->signal(SIGCONT);
  asking.store.reset();
}

TEST_CASE("Cluster: a redirection out of the network is not followed") {
  // A server that sends everybody to the world.
  const uint16_t port = free_port();
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  REQUIRE(::listen(listener, 4) == 0);
  std::string target = "192.0.2.1:6379";
  std::thread server([&] {
    for (int peer; (peer = ::accept(listener, nullptr, nullptr)) >= 0; ::close(peer)) {
      char buffer[4096];
      while (::recv(peer, buffer, sizeof buffer, 0) > 0) {
        const std::string answer = "-MOVED 1 " + target + "\r\n";
        ::send(peer, answer.data(), answer.size(), MSG_NOSIGNAL);
      }
    }
  });
  Asking asking;
  asking.store = redis_store(asking, settings_of("redis://" + local(port)));
  CHECK(text(asking.find("alice", 3000)) ==
        "failed sent on to 192.0.2.1:6379, where credentials must not go without TLS");
  target = local(port);  // and round in circles
  asking.store = redis_store(asking, settings_of("redis://" + local(port)));
  CHECK(text(asking.find("alice", 3000)) == "failed the cluster sends from server to server");
  asking.store.reset();
  ::shutdown(listener, SHUT_RDWR);
  ::close(listener);
  server.join();
}
