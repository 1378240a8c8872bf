// SPDX-License-Identifier: GPL-3.0-or-later
// One thread, one loop, and everything that lives on it. Nothing here is touched by another thread but
// the inbox; what others want done arrives there as a task.
#pragma once

#include <uv.h>

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "proxy/base/log.hpp"
#include "proxy/loop/resolver.hpp"
#include "proxy/loop/timers.hpp"
#include "proxy/observe/counters.hpp"
#include "tls/outbox.hpp"

namespace postern::proxy {

class Acceptor;
class Probes;
class Session;
class Stream;
struct Snapshot;

class Worker {
 public:
  /// `idle` is called on this thread whenever draining has left no session.
  Worker(size_t index, Counters& counters, NameService& names, std::function<void()> idle);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // --- any thread -----------------------------------------------------------------------------------
  void start();
  void join();
  void post(std::function<void()> task);

  // --- this worker's thread, by way of post() ---------------------------------------------------------
  void listen(int fd, size_t listener);  // begin accepting for the snapshot's listener of that index
  void adopt(std::shared_ptr<const Snapshot> snapshot);
  void drain();  // stop accepting; call `idle` when the last session ends
  void cut();    // close every session (Fault::shutdown)
  void stop();   // close everything and end the loop

  void add(std::unique_ptr<Session> session);
  /// The session is done: out of the list now, destroyed before the loop next waits.
  void retire(Session& session);

  [[nodiscard]] uv_loop_t* loop() { return &loop_; }
  [[nodiscard]] uint64_t now() const { return uv_now(&loop_); }
  [[nodiscard]] const std::shared_ptr<const Snapshot>& snapshot() const { return snapshot_; }
  [[nodiscard]] size_t sessions() const { return session_count_; }
  [[nodiscard]] bool draining() const { return draining_; }

  const size_t index;
  WorkerCells& cells;
  Throttle refusals{1};  // the log of refused dials and the like, per worker

  /// Where reads land and plaintext is decrypted to; valid only within one callback.
  static constexpr size_t wire_size = 128 * 1024;
  static constexpr size_t plain_size = wire_size + 20 * 1024;  // and a record held back from the read before
  std::unique_ptr<uint8_t[]> wire{new uint8_t[wire_size]};
  std::unique_ptr<uint8_t[]> plain{new uint8_t[plain_size]};
  tls::Outbox outbox{plain_size + 4096};  // empty between engine calls: whoever fills it flushes it at once
  tls::Outbox flight;  // the end of a handshake, until its owner has spoken or has nothing to say
  const Stream* flight_of = nullptr;  // whose; set only within one callback

 private:
  uv_loop_t loop_{};

 public:
  std::optional<Timers> timers;
  std::optional<Resolver> resolver;
  std::unique_ptr<Probes> probes;

 private:
  void run_inbox();
  void bury();
  void measure_lag();

  uv_async_t inbox_signal_{};
  uv_prepare_t undertaker_{};  // frees what died in this turn
  std::optional<Timer> lag_probe_;
  uint64_t lag_due_ = 0;
  std::mutex inbox_mutex_;
  std::vector<std::function<void()>> inbox_;

  std::vector<std::unique_ptr<Acceptor>> acceptors_;
  std::shared_ptr<const Snapshot> snapshot_;
  Session* first_ = nullptr;  // live sessions, intrusive list
  size_t session_count_ = 0;
  std::vector<std::unique_ptr<Session>> dead_;
  bool draining_ = false;
  bool stopping_ = false;
  std::function<void()> idle_;
  std::thread thread_;
};

}  // namespace postern::proxy
