// SPDX-License-Identifier: GPL-3.0-or-later
// Deadlines of one loop: a heap of small intrusive timers behind a single timer of the kernel's, so that ten
// thousand idle connections cost 32 bytes each and no system call. A descriptor (timerfd) and not libuv's
// timer: with that each wait for events has a time-out, which the kernel arms and cancels each time, and that
// is a twentieth of what a short exchange costs.
#pragma once

#include <uv.h>

#include <cstdint>
#include <vector>

namespace postern::proxy {

class Timers;

/// Fires once. Disarms itself when destroyed. Its place in the heap is there from the beginning, so that
/// setting a deadline cannot fail for want of memory.
class Timer {
 public:
  using Run = void (*)(void* self) noexcept;
  Timer(Timers& timers, Run run, void* self);
  ~Timer();
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
  /// Keeps the loop running while a timer is armed. Throws std::system_error without a descriptor to be had.
  explicit Timers(uv_loop_t* loop);
  ~Timers();
  Timers(const Timers&) = delete;
  Timers& operator=(const Timers&) = delete;
  /// Begins closing the libuv handle; the loop must run once more before this object goes.
  void close();

  /// Monotonic milliseconds as of this turn of the loop.
  [[nodiscard]] uint64_t now() const { return uv_now(loop_); }
  [[nodiscard]] size_t size() const { return heap_.size(); }

  /// A timer fires this much after it is due: by then the loop's clock, which may be coarse, has got there.
  static constexpr uint64_t slack_ms = 1;

 private:
  friend class Timer;
  void insert(Timer& timer);
  void remove(Timer& timer);
  void place(Timer* timer, size_t slot);
  void up(size_t slot);
  void down(size_t slot);
  void arm();
  void set(uint64_t ns);
  void fire();

  uv_loop_t* loop_;
  int clock_;  // the timerfd
  uv_poll_t handle_{};
  uint64_t armed_for_ = UINT64_MAX;  // the deadline clock_ is set for; UINT64_MAX: none
  bool firing_ = false;
  bool closed_ = false;
  size_t timers_ = 0;         // that exist, armed or not; the heap has room for them all
  std::vector<Timer*> heap_;  // invariant: every parent is due no later than its children
};

}  // namespace postern::proxy
