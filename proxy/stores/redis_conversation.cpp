// SPDX-License-Identifier: GPL-3.0-or-later
// GETs in a row and not MGET: that one says "nothing" of a key that holds no text, and does not cross slots.
#include "proxy/stores/redis_conversation.hpp"

#include <utility>

#include "proxy/stores/value.hpp"

namespace postern::proxy {

void RedisConversation::open(const RedisLogin& login, std::string& out) {
  const std::string_view password = login.password.reveal();
  if (!login.user.empty())
    send(What::auth, {"AUTH", login.user, password}, out);
  else if (!password.empty())
    send(What::auth, {"AUTH", password}, out);
  if (login.database != 0) send(What::select, {"SELECT", std::to_string(login.database)}, out);
  if (login.master) send(What::role, {"ROLE"}, out);
  opening_left_ = sent_.size();
  if (opening_left_ == 0) state_ = State::ready;
}

RedisConversation::Ticket RedisConversation::send(What what, std::initializer_list<std::string_view> command,
                                                  std::string& out) {
  append_command(out, command);
  sent_.push_back(what);
  return first_ + sent_.size() - 1;
}

std::string RedisConversation::key(std::string_view name) const {
  std::string key;
  key.reserve(prefix_.size() + name.size());
  return key.append(prefix_).append(name);
}

RedisConversation::Ticket RedisConversation::get(std::string_view name, bool asking, std::string& out) {
  if (asking) send(What::asking, {"ASKING"}, out);
  return send(What::get, {"GET", key(name)}, out);
}
RedisConversation::Ticket RedisConversation::put(std::string_view name, std::string_view destination,
                                                 bool asking, std::string& out) {
  if (asking) send(What::asking, {"ASKING"}, out);
  return send(What::put, {"SET", key(name), destination}, out);
}
RedisConversation::Ticket RedisConversation::erase(std::string_view name, bool asking, std::string& out) {
  if (asking) send(What::asking, {"ASKING"}, out);
  return send(What::erase, {"DEL", key(name)}, out);
}

void RedisConversation::forget(Ticket ticket) {
  if (ticket >= first_ && ticket - first_ < sent_.size()) sent_[ticket - first_] = What::forgotten;
}

void RedisConversation::break_off(std::string why) {
  if (state_ == State::broken) return;
  state_ = State::broken;
  error_ = std::move(why);
}

void RedisConversation::receive(std::span<const uint8_t> bytes, std::vector<Outcome>& done) {
  // In pieces, so that many small answers in one large read are not taken for one that is too large.
  constexpr size_t piece = RedisReader::most_bytes / 4;
  while (state_ != State::broken && !bytes.empty()) {
    const auto now = bytes.first(std::min(bytes.size(), piece));
    bytes = bytes.subspan(now.size());
    if (!reader_.feed(now)) return break_off("the server sent an answer that is too large");
    RedisReply reply;
    for (;;) {
      if (state_ == State::broken) return;
      const auto got = reader_.next(reply);
      if (got == RedisReader::Got::more) break;
      if (got == RedisReader::Got::broken) return break_off("what the server says is not Redis' protocol");
      if (sent_.empty()) {
        // A server that is full says so unasked, and goes.
        return break_off(reply.kind == RedisReply::Kind::error ? read_error(reply.text).words
                                                               : "the server said something unasked");
      }
      const What what = sent_.front();
      const Ticket ticket = first_++;
      sent_.pop_front();
      if (what <= What::role) {
        opened(what, reply);
        continue;
      }
      if (what == What::forgotten) {
        ++late_;
        continue;
      }
      if (what == What::asking) continue;  // refused, the answer behind it says the same
      Outcome outcome;
      outcome.ticket = ticket;
      answered(what, reply, outcome);
      done.push_back(std::move(outcome));
    }
  }
}

void RedisConversation::opened(What what, const RedisReply& reply) {
  if (reply.kind == RedisReply::Kind::error) return break_off(read_error(reply.text).words);
  if (what == What::role) {
    if (reply.kind != RedisReply::Kind::list || reply.items.empty() || !reply.items[0].is_text())
      return break_off("what the server says is not Redis' protocol");
    if (reply.items[0].text != "master") {
      not_master_ = true;
      return break_off("the server that Sentinel named is not a master");
    }
  } else if (reply.kind != RedisReply::Kind::status || reply.text != "OK") {
    return break_off("what the server says is not Redis' protocol");
  }
  if (--opening_left_ == 0) state_ = State::ready;
}

void RedisConversation::answered(What what, RedisReply& reply, Outcome& outcome) {
  using Kind = RedisReply::Kind;
  if (reply.kind == Kind::error) return refused(reply, outcome);
  if (what == What::get && reply.kind == Kind::nil) {
    outcome.answer = absent();
  } else if (what == What::get && reply.kind == Kind::text) {
    outcome.answer = answer_of(reply.text);
  } else if (what == What::put && reply.kind == Kind::status && reply.text == "OK") {
    outcome.answer = {StoreAnswer::Kind::found, {}};
  } else if (what == What::erase && reply.kind == Kind::number && (reply.number == 0 || reply.number == 1)) {
    outcome.answer = {reply.number == 1 ? StoreAnswer::Kind::found : StoreAnswer::Kind::absent, {}};
  } else {
    // No answer to such a question: whose it is cannot be told, nor whose the next ones are.
    break_off("the server answered something else than was asked");
    outcome.answer = failed(error_);
  }
}

void RedisConversation::refused(const RedisReply& reply, Outcome& outcome) {
  RedisError error = read_error(reply.text);
  outcome.refusal = error.refusal;
  outcome.slot = error.slot;
  outcome.place = std::move(error.place);
  outcome.answer = failed(error.words);
  if (error.refusal == RedisRefusal::read_only) not_master_ = true;
  if (error.refusal == RedisRefusal::read_only || error.refusal == RedisRefusal::login)
    break_off(std::move(error.words));
}

}  // namespace postern::proxy
