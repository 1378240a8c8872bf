// SPDX-License-Identifier: GPL-3.0-or-later
// The process: workers, sockets, the current snapshot, and the main loop with its signals, reloads, watched
// files and the metrics listener. Nothing of a client's bytes passes here.
#pragma once

#include <uv.h>

#include <atomic>
#include <functional>
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

class Server {
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

  void reload(Scope scope);
  void reloaded(Reload& done);
  void swap_in(std::shared_ptr<Snapshot> made, bool full, std::vector<std::string> restart);
  void reload_over(bool full);
  void watch_files();
  void files_changed(const std::vector<std::string>& changed);
  void each_minute();
  void keep_watchdog();
  void age_cache();
  void drop_expired_trust();
  void sample();

  // The account store, if there is one: store.cpp.
  struct Copying;
  void start_store();
  void use_store(const Snapshot* before);
  void recall_answers();
  void copy_answers();
  void copy_last_answers();
  [[nodiscard]] bool store_seen() const;
  [[nodiscard]] std::optional<Observed::Store> observe_store() const;

  void drain(int signal);
  void worker_idle();
  void cut();
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
  ProcessState process_state_;
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

  bool reloading_ = false;
  bool ticket_file_bad_ = false;  // when it was read again between reloads
  bool config_refused_ = false;   // one that was published: tried again with the next change
  std::optional<Scope> reload_again_;
  bool draining_ = false;
  bool cutting_ = false;
  bool finished_ = false;
  size_t idle_workers_ = 0;
  double start_time_ = 0;
};

/// Asks the snapshot's store and waits, as a lookup would, for as long as one may take.
LookupAnswer ask_store_once(const Snapshot& snapshot, NameService& names, std::string name);

/// Prints problems in the form of configuration.md 0; returns whether there was an error among them.
bool print_problems(const conf::Problems& problems);

}  // namespace postern::proxy
