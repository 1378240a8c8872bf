// SPDX-License-Identifier: GPL-3.0-or-later
// One connection to a Redis server: reaching it, logging in, and the conversation on it.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "proxy/stores/reach.hpp"
#include "proxy/stores/redis_conversation.hpp"

namespace postern::proxy {

class RedisLink final : Reach::Events, StreamEvents {
 public:
  class Events {
   public:
    virtual void link_ready(RedisLink& link) = 0;
    /// `id` is what ask() was given.
    virtual void link_answered(RedisLink& link, uint64_t id, RedisConversation::Outcome outcome) = 0;
    virtual void link_heard(RedisLink& link) = 0;  // behind the last of a batch of answers
    /// It is over. What is still open is told by open_ids().
    virtual void link_lost(RedisLink& link, const std::string& why) = 0;

   protected:
    ~Events() = default;
  };

  RedisLink(Loop& loop, Reach::Where where, const std::string& key_prefix, Events& owner);
  ~RedisLink();

  /// `login` is ready to be sent, password included. May tell its owner before it returns.
  void start(RedisLogin login, uint64_t deadline_ms);
  /// Drops the connection without a word to its owner.
  void close();

  [[nodiscard]] bool ready() const {
    return !over_ && conversation_.state() == RedisConversation::State::ready && stream_;
  }
  [[nodiscard]] bool over() const { return over_; }
  [[nodiscard]] bool served() const { return served_; }  // it has been ready
  [[nodiscard]] bool not_master() const { return conversation_.not_master(); }
  [[nodiscard]] size_t outstanding() const { return conversation_.outstanding(); }
  [[nodiscard]] const conf::Ip& ip() const { return ip_; }

  enum class What : uint8_t { get, put, erase };
  /// When ready; flush() sends it. The ticket is for forget().
  uint64_t ask(uint64_t id, What what, std::string_view name, std::string_view destination, bool asking);
  void forget(uint64_t ticket) { conversation_.forget(ticket); }
  /// Sends what was asked; may lose the link.
  void flush();
  [[nodiscard]] std::vector<uint64_t> open_ids() const;

  /// Since when something is asked and nothing at all has come; 0: nothing is open.
  [[nodiscard]] uint64_t silent_since() const { return conversation_.outstanding() ? silent_since_ : 0; }
  [[nodiscard]] uint64_t used_at() const { return used_at_; }
  void give_up(const std::string& why) { lose(why); }

 private:
  void reached(std::unique_ptr<Stream> stream, const conf::Ip& ip) override;
  void not_reached(const std::string& why) override { lose(why); }
  void stream_secured(Stream&) override {}
  void stream_data(Stream& stream, std::span<const uint8_t> plain) override;
  void stream_ended(Stream& stream, StreamEnd end) override;
  void stream_drained(Stream&) override {}
  void send();
  void serve();
  void lose(const std::string& why);

  Loop& loop_;
  Events& owner_;
  Timer timer_;
  RedisLogin login_;
  RedisConversation conversation_;
  std::unique_ptr<Reach> reach_;
  std::unique_ptr<Stream> stream_;
  conf::Ip ip_;
  std::string out_;
  struct Asked {
    uint64_t ticket, id;
  };
  std::deque<Asked> asked_;  // in the order of the tickets
  uint64_t silent_since_ = 0;
  uint64_t used_at_ = 0;
  bool over_ = false;
  bool served_ = false;
};

}  // namespace postern::proxy
