// SPDX-License-Identifier: GPL-3.0-or-later
// One connection to PostgreSQL by libpq, which never blocks: names are resolved before it starts, and it is
// called when its socket is ready.
#pragma once

#include <libpq-fe.h>
#include <uv.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "proxy/loop/timers.hpp"
#include "proxy/stores/reach.hpp"
#include "proxy/stores/sql.hpp"

namespace postern::proxy {

class PostgresLink {
 public:
  class Events {
   public:
    virtual void link_ready(PostgresLink& link) = 0;
    /// `about_key`: the answer says nothing about the store.
    virtual void link_answered(PostgresLink& link, uint64_t id, StoreAnswer answer, bool about_key) = 0;
    /// What is still open is told by open_ids().
    virtual void link_lost(PostgresLink& link, const std::string& why) = 0;

   protected:
    ~Events() = default;
  };
  enum class What : uint8_t { setup, rollback, find, put, erase };

  PostgresLink(Loop& loop, const SqlSettings& settings, Events& owner);
  ~PostgresLink() { close(); }
  PostgresLink(const PostgresLink&) = delete;
  PostgresLink& operator=(const PostgresLink&) = delete;

  /// May tell its owner before it returns.
  void start(uint64_t deadline_ms);
  void close();
  void give_up(const std::string& why) { lose(why); }

  [[nodiscard]] bool ready() const { return served_ && !over_; }
  [[nodiscard]] bool served() const { return served_; }
  [[nodiscard]] bool over() const { return over_; }
  [[nodiscard]] size_t outstanding() const { return flights_.size(); }
  /// Questions that may be under way at once.
  [[nodiscard]] size_t room() const;
  [[nodiscard]] uint64_t silent_since() const { return flights_.empty() ? 0 : silent_since_; }
  [[nodiscard]] uint64_t used_at() const { return used_at_; }
  [[nodiscard]] std::vector<uint64_t> open_ids() const;

  /// When ready, and there is room; flush() sends it. May lose the link.
  void ask(uint64_t id, What what, const std::string& name, const std::string& destination);
  void flush();

 private:
  /// Commands up to a synchronisation, whose results belong together.
  struct Flight {
    What what = What::setup;
    uint64_t id = 0;
    size_t main = 0;     // which of the results is the answer
    size_t results = 0;  // that have come
    bool told = false;
    bool about_key = false;
    StoreAnswer answer;
  };

  void resolve();
  void connect();
  void poll_connection();
  void connected();
  void watch(int events);
  void unwatch();
  void turn(int status, int events);
  void read();
  void take_results();
  void result(const PGresult* result);
  void error(Flight& flight, const PGresult* result);
  void landed();
  bool command(bool sent);
  bool sync(Flight flight);
  [[nodiscard]] bool by_transaction() const { return !settings_.prepared && !settings_.writable(); }
  void lose(const std::string& why);
  [[nodiscard]] std::string connection_error() const;

  Loop& loop_;
  const SqlSettings& settings_;
  Events& owner_;
  Timer timer_;
  uint64_t deadline_ = 0;
  std::vector<std::unique_ptr<HostLookup>> lookups_;
  std::vector<Addresses> addresses_;
  size_t unresolved_ = 0;
  std::string last_error_;
  PGconn* connection_ = nullptr;
  uv_poll_t* poll_ = nullptr;
  int watching_ = 0;
  bool served_ = false;
  bool over_ = false;
  bool put_prepared_ = false, erase_prepared_ = false;
  std::deque<Flight> flights_;
  uint64_t silent_since_ = 0, used_at_ = 0;
};

}  // namespace postern::proxy
