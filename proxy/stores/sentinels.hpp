// SPDX-License-Identifier: GPL-3.0-or-later
// Who the master is, by the word of all sentinels: each one is asked, and each one's announcements are
// listened to, so that none of them is needed.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "proxy/stores/reach.hpp"
#include "proxy/stores/redis.hpp"
#include "proxy/stores/sentinel_conversation.hpp"

namespace postern::proxy {

class Sentinels {
 public:
  class Events {
   public:
    /// Another server is the master now, or the first is known.
    virtual void master_is(const RedisPlace& place) = 0;
    /// No sentinel could be reached, or none knows a master.
    virtual void no_master(const std::string& why) = 0;

   protected:
    ~Events() = default;
  };

  Sentinels(Loop& loop, const RedisSettings& settings, std::shared_ptr<const tls::ClientContext> tls,
            Events& owner);
  ~Sentinels();

  /// Begins, or asks again: the server that was named does not behave as the master.
  void ask();
  [[nodiscard]] const std::optional<RedisPlace>& master() const { return master_; }
  [[nodiscard]] bool asking() const;  // some sentinel has yet to answer for the first time
  [[nodiscard]] size_t connections() const;
  [[nodiscard]] const std::string& why() const { return why_; }  // the last failure of a sentinel

 private:
  class Link;
  void said(const SentinelConversation::News& news);
  void lost(const std::string& why);
  void choose(const RedisPlace& place);
  void vote();

  Loop& loop_;
  const RedisSettings& settings_;
  const std::shared_ptr<const tls::ClientContext> tls_;
  Events& owner_;
  std::vector<std::unique_ptr<Link>> links_;
  std::optional<RedisPlace> master_;
  uint64_t announced_at_ = 0;  // 0: never
  std::string why_ = "no sentinel answers";
};

}  // namespace postern::proxy
