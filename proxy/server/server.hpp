// SPDX-License-Identifier: GPL-3.0-or-later
// The process: workers, sockets, the current snapshot, and the main loop with its signals, reloads, watched
// files and the metrics listener. Nothing of a client's bytes passes here.
#pragma once

#include <uv.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "conf/load.hpp"
#include "proxy/loop/loop.hpp"
#include "proxy/loop/name_service.hpp"
#include "proxy/manage/probe_server.hpp"
#include "proxy/observe/counters.hpp"
#include "proxy/observe/exposition.hpp"
#include "proxy/observe/status_history.hpp"
#include "proxy/server/make_snapshot.hpp"
#include "proxy/server/store_loop.hpp"
#include "proxy/server/worker.hpp"
#include "proxy/system/confinement.hpp"
#include "proxy/system/sockets.hpp"
#include "proxy/system/watcher.hpp"

namespace postern::proxy {

class Server final : Errand {
 public:
  /// `file` is read again at a reload.
  explicit Server(std::string file, Confinement confinement = {});
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Loads, binds, serves until told to stop. Returns the exit code; says on standard error why it is not 0.
  int run();

 private:
  struct Reload;
  enum class Scope : uint8_t { everything, watched_files };
  static constexpr uint64_t minute_ms = 60'000;

  bool prepare();  // false: problems were printed
  void open();     // workers, sockets, listeners of the main loop
  void heard(std::atomic<size_t>& count) noexcept;
  void perform() noexcept override;  // what workers have told

  // Of what runs later in the life of the process nothing throws: without memory it is done later, or left
  // undone and said to be.
  void reload(Scope scope) noexcept;
  void reloaded(Reload& done) noexcept;
  void swap_in(Reload& done) noexcept;
  void adopted() noexcept;
  void reload_over(bool full) noexcept;
  void starved(const char* what, const char* why) noexcept;
  void watch_files() noexcept;
  [[nodiscard]] std::vector<std::string> watched_files() const;
  void files_changed(const std::vector<std::string>& changed) noexcept;
  void each_minute();
  void keep_watchdog() noexcept;
  void age_cache() noexcept;
  void drop_expired_trust() noexcept;
  void sample();

  // The account store, if there is one: store.cpp.
  struct Copying;
  void start_store();
  void make_store_loop();
  void use_store(const Snapshot* before, LookupRules rules) noexcept;
  void recall_answers();
  void copy_answers();
  void copy_last_answers() noexcept;
  [[nodiscard]] bool store_seen() const;
  [[nodiscard]] std::optional<Observed::Store> observe_store() const;

  void drain(int signal) noexcept;
  void worker_idle() noexcept;
  void cut() noexcept;
  void finish();

  [[nodiscard]] std::string metrics() const;
  [[nodiscard]] std::string status() const;
  [[nodiscard]] Readiness readiness() const;
  [[nodiscard]] uint64_t live() const;
  [[nodiscard]] std::vector<Stale> stale_now() const;

  const std::string file_;
  const Confinement confinement_;
  std::unique_ptr<Counters> counters_;
  std::shared_ptr<std::vector<conf::SocketAddress>> own_;
  Lasting lasting_;
  std::shared_ptr<const Snapshot> snapshot_;
  std::optional<Bound> bound_;
  std::vector<conf::Problem> warnings_;  // of the start, logged once the log runs
  NameService names_;
  WorkerCells own_cells_;     // of the main loop, which counts nothing
  std::optional<Loop> loop_;  // from open() on
  std::vector<std::unique_ptr<Worker>> workers_;
  std::unique_ptr<StoreLoop> store_;  // from the first configuration on that has a store
  std::atomic<StoreLoop*> store_loop_{nullptr};
  bool store_reached_ = false;  // by an earlier one, or there were answers on disk
  bool copying_ = false;
  int64_t answers_written_ = 0;  // Unix time in milliseconds

  std::unique_ptr<ProbeServer> probes_;
  std::unique_ptr<Watcher> watcher_;
  uv_signal_t signals_[3]{};
  std::optional<Timer> minute_, sample_, grace_, watchdog_, age_cache_;
  size_t freed_ = 0;  // entries of the cache, since memory was last given back
  StatusHistory history_;
  std::atomic<size_t> idle_workers_{0};  // that have said so, which draining workers do once
  std::atomic<size_t> adoptions_{0};     // workers that have taken over the snapshot they were offered

  bool reloading_ = false;
  std::optional<bool> adopting_;  // a snapshot is on its way to the workers: whether everything is new
  bool watch_again_ = false;      // there was no memory for it
  bool ticket_file_bad_ = false;  // when it was read again between reloads
  bool config_refused_ = false;   // one that was published: tried again with the next change
  std::optional<Scope> reload_again_;
  bool draining_ = false;
  bool cutting_ = false;
  bool finished_ = false;
  double start_time_ = 0;
};

/// Asks the snapshot's store and waits, as a lookup would, for as long as one may take.
LookupAnswer ask_store_once(const Snapshot& snapshot, NameService& names, std::string name);

/// Prints problems in the form of configuration.md 0; returns whether there was an error among them.
bool print_problems(const conf::Problems& problems);

}  // namespace postern::proxy
