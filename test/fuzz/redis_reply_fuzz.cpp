// SPDX-License-Identifier: GPL-3.0-or-later
// What a server or a sentinel may send: the same comes of it wherever the bytes are split, nothing is
// answered that was not asked, nothing forgotten is answered, and what is found is text.
#include <algorithm>
#include <string>
#include <vector>

#include "conf/text.hpp"
#include "proxy/stores/redis_conversation.hpp"
#include "proxy/stores/sentinel_conversation.hpp"
#include "test/fuzz/require.hpp"

using namespace postern;
using namespace postern::proxy;
using fuzz::require;

namespace {

const std::string prefix = "route:";

/// A talk in pieces of `step` bytes, with a login first if `with_login`; what came of it, as text.
std::string talk(std::span<const uint8_t> bytes, size_t step, bool with_login) {
  RedisConversation conversation(prefix);
  std::string out, told;
  RedisLogin login;
  if (with_login) login = {"user", conf::Secret("password"), 2, true};
  conversation.open(login, out);
  std::vector<RedisConversation::Ticket> tickets;
  std::vector<RedisConversation::Outcome> done;
  const auto ask = [&] {
    if (!tickets.empty() || conversation.state() != RedisConversation::State::ready) return;
    for (const char* name : {"a", "b", "c", "d"}) tickets.push_back(conversation.get(name, false, out));
    tickets.push_back(conversation.put("e", "x", true, out));
    tickets.push_back(conversation.erase("f", false, out));
    conversation.forget(tickets[1]);
  };
  ask();
  while (!bytes.empty()) {
    const auto piece = bytes.first(std::min(step, bytes.size()));
    bytes = bytes.subspan(piece.size());
    conversation.receive(piece, done);
    // Questions go out once the login is through, which may be within a piece: only then is a split of no
    // matter.
    if (step == 1 || !with_login) ask();
  }
  RedisConversation::Ticket last = 0;
  for (const auto& one : done) {
    require(one.ticket > last, "answers out of order, or twice");
    last = one.ticket;
    require(std::find(tickets.begin(), tickets.end(), one.ticket) != tickets.end(),
            "an answer nobody asked for");
    require(one.ticket != tickets[1], "an answer to a forgotten question");
    const auto kind = one.answer.kind;
    require(kind != StoreAnswer::Kind::timeout, "a conversation has no clock");
    if (kind == StoreAnswer::Kind::found)
      require(one.answer.text.size() <= 1024 && !conf::has_control(one.answer.text) &&
                  conf::is_utf8(one.answer.text),
              "found what is no text");
    if (one.refusal == RedisRefusal::moved || one.refusal == RedisRefusal::ask)
      require(one.place.port != 0 && one.slot < redis_slots, "sent to nowhere");
    else if (kind == StoreAnswer::Kind::failed)
      require(!one.answer.text.empty() && !conf::has_control(one.answer.text), "a failure without words");
    told += std::to_string(one.ticket) + std::to_string(static_cast<int>(kind)) + one.answer.text +
            one.place.host + ";";
  }
  require((conversation.state() == RedisConversation::State::broken) == !conversation.error().empty(),
          "broken without words");
  return told + std::to_string(static_cast<int>(conversation.state())) + conversation.error();
}

std::string listen(std::span<const uint8_t> bytes, size_t step) {
  SentinelConversation conversation("mail");
  std::string out, told;
  std::vector<SentinelConversation::News> news;
  conversation.open({}, out);
  while (!bytes.empty()) {
    const auto piece = bytes.first(std::min(step, bytes.size()));
    bytes = bytes.subspan(piece.size());
    conversation.receive(piece, news);
  }
  for (const auto& one : news) {
    require(one.master || !one.switched, "a switch to nobody");
    if (one.master) require(!one.master->host.empty() && one.master->port != 0, "a master nowhere");
    told +=
        one.master ? one.master->host + std::to_string(one.master->port) + (one.switched ? "!" : "") : "-";
  }
  return told + conversation.error();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span bytes(data, size);
  const std::string whole = talk(bytes, size + 1, false), heard = listen(bytes, size + 1);
  for (const size_t step : {size_t{1}, size_t{2}, size_t{7}, size / 2 + 1}) {
    require(talk(bytes, step, false) == whole, "another outcome by another split");
    require(listen(bytes, step) == heard, "another master by another split");
  }
  talk(bytes, 1, true);
  return 0;
}
