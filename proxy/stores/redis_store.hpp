// SPDX-License-Identifier: GPL-3.0-or-later
// The store that asks Redis or Valkey: questions find a server, a connection to it and their answer, or an
// end.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "proxy/loop/timers.hpp"
#include "proxy/stores/pause.hpp"
#include "proxy/stores/redis.hpp"
#include "proxy/stores/redis_link.hpp"
#include "proxy/stores/sentinels.hpp"

namespace postern::proxy {

class RedisStore final : public Store, RedisLink::Events, Sentinels::Events {
 public:
  RedisStore(Loop& loop, RedisSettings settings, std::shared_ptr<const tls::ClientContext> tls);
  ~RedisStore() override;

  void find(std::vector<Question> questions, uint64_t deadline_ms) override;
  void put(std::string name, std::string destination, uint64_t deadline_ms, Answered answered) override;
  void erase(std::string name, uint64_t deadline_ms, Answered answered) override;
  [[nodiscard]] StoreState state() const override;

 private:
  /// A server: the one of the URL, the master, or one of a cluster.
  struct Server {
    explicit Server(RedisPlace at) : place(std::move(at)) {}
    RedisPlace place;
    std::vector<std::unique_ptr<RedisLink>> links;
    std::vector<uint64_t> waiting;  // questions without a connection yet
    Pause pause{50, 500};
    uint64_t not_before = 0;
    std::string why_not;      // of the pause
    bool redirected = false;  // known from another server's word alone
    conf::Ip told_by;         // whose word
  };
  /// A question on its way.
  struct Asked {
    Asked(RedisStore& store, uint64_t number);
    RedisStore& owner;
    const uint64_t id;
    Timer timer;
    RedisLink::What what = RedisLink::What::get;
    std::string name, destination;
    Answered answered;
    uint64_t deadline = 0;
    RedisLink* link = nullptr;
    uint64_t ticket = 0;
    uint8_t redirections = 0;
    bool lost_once = false;
    bool asking = false;
  };

  // RedisLink::Events
  void link_ready(RedisLink& link) override;
  void link_answered(RedisLink& link, uint64_t id, RedisConversation::Outcome outcome) override;
  void link_heard(RedisLink& link) override;
  void link_lost(RedisLink& link, const std::string& why) override;
  // Sentinels::Events
  void master_is(const RedisPlace& place) override;
  void no_master(const std::string& why) override;

  uint64_t admit(RedisLink::What what, std::string name, std::string destination, uint64_t deadline_ms,
                 Answered answered);
  void place(Asked& asked);
  void place_at(Server& server, Asked& asked);
  static bool has_ready(const Server& server);
  void hand(RedisLink& link, Asked& asked);
  void open_link(Server& server);
  void redirect(Asked& asked, RedisLink& from, RedisConversation::Outcome outcome);
  void expired(uint64_t id);
  void finish(uint64_t id, StoreAnswer answer, bool counts);
  void fail_waiting(Server& server, const std::string& why);
  void drop_links(Server& server);
  void flush();
  void look_after();
  Server* server_of(const RedisLink& link);
  Server& server_at(const RedisPlace& place);
  [[nodiscard]] size_t link_count() const;

  Loop& loop_;
  const RedisSettings settings_;
  const std::shared_ptr<const tls::ClientContext> tls_;
  std::unordered_map<uint64_t, std::unique_ptr<Asked>> asked_;
  uint64_t last_id_ = 0;
  std::vector<std::unique_ptr<Server>> servers_;             // the first is the one of the URL, or the master
  std::unique_ptr<std::array<uint8_t, redis_slots>> slots_;  // index of a server; null: no cluster
  std::unique_ptr<Sentinels> sentinels_;
  Timer timer_;
  bool up_ = false;
  std::string last_error_ = "not asked yet";
};

}  // namespace postern::proxy
