// SPDX-License-Identifier: GPL-3.0-or-later
// One connection's talk with Redis or Valkey, without the connection: bytes in, bytes out. Each answer is
// matched with its question by order alone, so whatever does not fit its question ends the conversation.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "conf/secret.hpp"
#include "proxy/stores/redis_reply.hpp"
#include "proxy/stores/redis_words.hpp"
#include "proxy/stores/store.hpp"

namespace postern::proxy {

struct RedisLogin {
  std::string user;
  conf::Secret password;  // empty, with an empty user: nobody logs in
  uint32_t database = 0;
  bool master = false;  // must be one: ROLE is asked first
};

class RedisConversation {
 public:
  enum class State : uint8_t { opening, ready, broken };
  using Ticket = uint64_t;

  /// What became of a question.
  struct Outcome {
    Ticket ticket = 0;
    StoreAnswer answer;
    RedisRefusal refusal = RedisRefusal::other;  // moved, ask: `slot` and `place` say where to; no answer yet
    uint16_t slot = 0;
    RedisPlace place;
  };

  /// `key_prefix` must outlive this.
  explicit RedisConversation(const std::string& key_prefix) : prefix_(key_prefix) {}

  /// Once, first: what is said before the first question.
  void open(const RedisLogin& login, std::string& out);
  [[nodiscard]] State state() const { return state_; }
  /// Of broken: why. The same for every question that is still open.
  [[nodiscard]] const std::string& error() const { return error_; }
  /// Of broken: another master is to be looked for.
  [[nodiscard]] bool not_master() const { return not_master_; }

  // When ready. `asking`: an ASK has sent us here.
  Ticket get(std::string_view name, bool asking, std::string& out);
  Ticket put(std::string_view name, std::string_view destination, bool asking, std::string& out);
  Ticket erase(std::string_view name, bool asking, std::string& out);
  /// Nobody waits for it any more: its answer, should it come, is dropped.
  void forget(Ticket ticket);

  /// What these bytes have answered, oldest first, is added to `done`. Questions still open when this breaks
  /// are their asker's to end.
  void receive(std::span<const uint8_t> bytes, std::vector<Outcome>& done);

  [[nodiscard]] size_t outstanding() const { return sent_.size(); }  // commands, the forgotten ones included
  [[nodiscard]] uint64_t late() const { return late_; }              // answers that were dropped

 private:
  enum class What : uint8_t { auth, select, role, asking, get, put, erase, forgotten };
  Ticket send(What what, std::initializer_list<std::string_view> command, std::string& out);
  std::string key(std::string_view name) const;
  void opened(What what, const RedisReply& reply);
  void answered(What what, RedisReply& reply, Outcome& outcome);
  void refused(const RedisReply& reply, Outcome& outcome);
  void break_off(std::string why);

  const std::string& prefix_;
  RedisReader reader_;
  State state_ = State::opening;
  std::deque<What> sent_;  // in order; the ticket of the first is first_
  Ticket first_ = 1;
  size_t opening_left_ = 0;
  uint64_t late_ = 0;
  bool not_master_ = false;
  std::string error_;
};

}  // namespace postern::proxy
