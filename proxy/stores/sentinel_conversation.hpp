// SPDX-License-Identifier: GPL-3.0-or-later
// The talk with one sentinel, without the connection: which server is the master now, and the news when that
// changes.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "conf/secret.hpp"
#include "proxy/stores/redis_reply.hpp"
#include "proxy/stores/redis_words.hpp"

namespace postern::proxy {

class SentinelConversation {
 public:
  struct News {
    std::optional<RedisPlace> master;  // nothing: this sentinel knows no such service, or no master
    bool switched = false;             // it has just become the master
  };

  explicit SentinelConversation(std::string service) : service_(std::move(service)) {}

  /// Once, first. An empty password: none is asked for.
  void open(const conf::Secret& password, std::string& out);
  /// Asks again, which also shows whether the sentinel still answers. Once an earlier question is answered.
  void ask(std::string& out);
  [[nodiscard]] bool asking() const { return !sent_.empty(); }
  [[nodiscard]] bool broken() const { return !error_.empty(); }
  [[nodiscard]] const std::string& error() const { return error_; }

  void receive(std::span<const uint8_t> bytes, std::vector<News>& news);

 private:
  enum class What : uint8_t { auth, master, subscribe, unsubscribe };
  void send(What what, std::initializer_list<std::string_view> command, std::string& out);
  void heard(const RedisReply& reply, std::vector<News>& news);
  void announced(const std::string& text, std::vector<News>& news);

  const std::string service_;
  RedisReader reader_;
  std::deque<What> sent_;
  std::string error_;
};

}  // namespace postern::proxy
