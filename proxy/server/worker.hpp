// SPDX-License-Identifier: GPL-3.0-or-later
// One thread with its loop, the sockets it accepts from, and its sessions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "proxy/loop/loop.hpp"
#include "proxy/server/acceptor.hpp"
#include "proxy/session/roster.hpp"

namespace postern::proxy {

class Worker {
 public:
  /// `idle` is called on this thread, once, when draining has left no session.
  Worker(size_t index, Counters& counters, NameService& names, std::function<void()> idle);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // --- any thread -----------------------------------------------------------------------------------
  void start();
  void join();
  void post(std::function<void()> task) { loop_.post(std::move(task)); }

  // --- this worker's thread, by way of post(); or before start() ----------------------------------------
  void listen(int fd, std::shared_ptr<Listener> listener);  // begin accepting
  void adopt(std::shared_ptr<const Snapshot> snapshot) { roster_.adopt(std::move(snapshot)); }
  /// Where questions go from now on that no table and no cache answers.
  void connect(LookupDesk::Send send) { roster_.desk.connect(std::move(send)); }
  void answered(std::vector<LookupDesk::Answer> answers) { roster_.desk.answered(std::move(answers)); }
  void drain();  // stop accepting; call `idle` when the last session ends
  void cut() { roster_.cut(Fault::shutdown); }
  void stop();  // close everything and end the loop

 private:
  void measure_lag();

  Loop loop_;
  Roster roster_;
  Timer lag_probe_;
  uint64_t lag_due_ = 0;
  std::vector<std::unique_ptr<Acceptor>> acceptors_;
  bool stopping_ = false;
  std::function<void()> idle_;
  std::thread thread_;
};

}  // namespace postern::proxy
