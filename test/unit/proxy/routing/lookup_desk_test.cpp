// SPDX-License-Identifier: GPL-3.0-or-later
// Questions of a turn leave together; answers find whoever still waits.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "proxy/routing/lookup_desk.hpp"

using namespace postern::proxy;

namespace {

struct Desk {
  LookupDesk desk;
  std::vector<std::vector<LookupDesk::Question>> sent;
  Desk() {
    desk.connect(
        [this](std::vector<LookupDesk::Question> questions) { sent.push_back(std::move(questions)); });
  }
};

struct Client {
  LookupDesk* desk = nullptr;
  uint64_t leaves = 0;  // whom its answer ends
  std::string heard;
  static void hear(void* self, LookupAnswer answer) noexcept {
    auto& client = *static_cast<Client*>(self);
    client.heard += answer.destination + ";";
    if (client.leaves) client.desk->forget(client.leaves);
  }
};

LookupDesk::Answer leads_to(uint64_t number, std::string destination) {
  LookupAnswer answer;
  answer.kind = LookupAnswer::Kind::mapped;
  answer.destination = std::move(destination);
  return {number, std::move(answer)};
}

}  // namespace

TEST_CASE("the questions of one turn leave together, and each answer goes where it belongs") {
  Desk world;
  Client alice, bob;
  const uint64_t a = world.desk.ask("alice", 10, Client::hear, &alice);
  const uint64_t b = world.desk.ask("bob", 20, Client::hear, &bob);
  CHECK(world.sent.empty());
  world.desk.flush();
  world.desk.flush();
  REQUIRE(world.sent.size() == 1);
  REQUIRE(world.sent[0].size() == 2);
  CHECK(world.sent[0][1].name == "bob");
  CHECK(world.sent[0][1].deadline_ms == 20);
  std::vector<LookupDesk::Answer> answers;
  answers.push_back(leads_to(b, "new"));
  answers.push_back(leads_to(a, "old"));
  answers.push_back(leads_to(a, "twice"));
  answers.push_back(leads_to(99, "nobody"));
  world.desk.answered(std::move(answers));
  CHECK(alice.heard == "old;");
  CHECK(bob.heard == "new;");
  CHECK(world.desk.waiting() == 0);
}

TEST_CASE("whoever is gone hears nothing, also if an answer to another ends it") {
  Desk world;
  Client alice{&world.desk, 0, {}}, bob, carol;
  const uint64_t a = world.desk.ask("alice", 10, Client::hear, &alice);
  const uint64_t b = world.desk.ask("bob", 10, Client::hear, &bob);
  const uint64_t c = world.desk.ask("carol", 10, Client::hear, &carol);
  world.desk.forget(c);
  alice.leaves = b;
  world.desk.flush();
  CHECK(world.sent.at(0).size() == 3);  // the answer is worth keeping all the same
  std::vector<LookupDesk::Answer> answers;
  for (const uint64_t number : {a, b, c}) answers.push_back(leads_to(number, "new"));
  world.desk.answered(std::move(answers));
  CHECK(alice.heard == "new;");
  CHECK(bob.heard.empty());
  CHECK(carol.heard.empty());
}
