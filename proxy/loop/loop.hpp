// SPDX-License-Identifier: GPL-3.0-or-later
// One libuv loop and what everything on it shares. Nothing here is touched by another thread but the inbox;
// what others want done arrives there as a task.
#pragma once

#include <uv.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "proxy/base/log.hpp"
#include "proxy/loop/resolver.hpp"
#include "proxy/loop/timers.hpp"
#include "proxy/observe/counters.hpp"
#include "tls/outbox.hpp"

namespace postern::proxy {

class Stream;

class Loop {
 public:
  /// `index`: of the rows that others keep for each loop. Throws std::system_error without descriptors.
  Loop(size_t index, WorkerCells& cells, NameService& names);
  /// After stop(), and after run() has returned.
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // --- any thread -----------------------------------------------------------------------------------
  void post(std::function<void()> task);  // dropped once stop() has run

  // --- this loop's thread -----------------------------------------------------------------------------
  void run();  // until nothing on it is active
  /// Closes what belongs to the loop itself; run() returns once everybody else has closed theirs.
  void stop();
  /// Called each time before the loop waits.
  void each_turn(std::function<void()> run) { each_turn_.push_back(std::move(run)); }
  /// Destroyed before the loop next waits, and not earlier: it may be on the stack.
  template <class T>
  void bury(std::unique_ptr<T> dead) {
    if (dead) dead_.push_back({dead.release(), [](void* gone) { delete static_cast<T*>(gone); }});
  }

  [[nodiscard]] uv_loop_t* uv() { return &uv_; }
  [[nodiscard]] uint64_t now() const { return uv_now(&uv_); }

  const size_t index;
  WorkerCells& cells;
  Throttle complaints{1};  // the warnings that strangers can bring about

  /// Where reads land and plaintext is decrypted to; valid only within one callback.
  static constexpr size_t wire_size = 128 * 1024;
  static constexpr size_t plain_size = wire_size + 20 * 1024;  // and a record held back from the read before
  std::unique_ptr<uint8_t[]> wire{new uint8_t[wire_size]};
  std::unique_ptr<uint8_t[]> plain{new uint8_t[plain_size]};
  tls::Outbox outbox{plain_size + 4096};  // empty between engine calls: whoever fills it flushes it at once
  tls::Outbox flight;  // the end of a handshake, until its owner has spoken or has nothing to say
  const Stream* flight_of = nullptr;  // whose; set only within one callback

 private:
  struct Dead {
    void* what;
    void (*destroy)(void*);
  };
  void run_inbox();
  void bury_all();

  uv_loop_t uv_{};

 public:
  std::optional<Timers> timers;
  std::optional<Resolver> resolver;  // gone once the loop is stopped

 private:
  uv_async_t inbox_signal_{};
  uv_prepare_t undertaker_{};
  std::mutex inbox_mutex_;
  std::vector<std::function<void()>> inbox_;
  bool closed_ = false;  // the inbox
  std::vector<std::function<void()>> each_turn_;
  std::vector<Dead> dead_;
};

}  // namespace postern::proxy
