// SPDX-License-Identifier: GPL-3.0-or-later
// Deadlines of one loop: a heap of small intrusive timers behind a single libuv timer, so that ten thousand
// idle connections cost 32 bytes each and no system call.
#pragma once

#include <uv.h>

#include <cstdint>
#include <vector>

namespace postern::proxy {

class Timers;

/// Fires once. Disarms itself when destroyed.
class Timer {
 public:
  using Run = void (*)(void* self);
  Timer(Timers& timers, Run run, void* self) : timers_(timers), run_(run), self_(self) {}
  ~Timer() { stop(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  /// Milliseconds on the loop's clock (Timers::now). Re-arming moves it.
  void at(uint64_t due);
  void in(uint64_t ms);
  void stop();
  [[nodiscard]] bool armed() const { return slot_ != unarmed; }

 private:
  friend class Timers;
  static constexpr uint32_t unarmed = UINT32_MAX;
  Timers& timers_;
  Run run_;
  void* self_;
  uint64_t due_ = 0;
  uint32_t slot_ = unarmed;  // index in the heap
};

class Timers {
 public:
  explicit Timers(uv_loop_t* loop);
  Timers(const Timers&) = delete;
  Timers& operator=(const Timers&) = delete;
  /// Begins closing the libuv handle; the loop must run once more before this object goes.
  void close();

  /// Monotonic milliseconds as of this turn of the loop.
  [[nodiscard]] uint64_t now() const { return uv_now(loop_); }
  [[nodiscard]] size_t size() const { return heap_.size(); }

 private:
  friend class Timer;
  void insert(Timer& timer);
  void remove(Timer& timer);
  void place(Timer* timer, size_t slot);
  void up(size_t slot);
  void down(size_t slot);
  void arm();
  void fire();

  uv_loop_t* loop_;
  uv_timer_t handle_{};
  uint64_t armed_for_ = UINT64_MAX;  // when handle_ will fire; UINT64_MAX: it is not running
  bool firing_ = false;
  bool closed_ = false;
  std::vector<Timer*> heap_;  // invariant: every parent is due no later than its children
};

}  // namespace postern::proxy
