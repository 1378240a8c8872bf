// SPDX-License-Identifier: GPL-3.0-or-later
// One libuv loop and what everything on it shares. Nothing here is touched by another thread but the inbox;
// what others want done arrives there as a task.
#pragma once

#include <uv.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "proxy/base/log.hpp"
#include "proxy/loop/errand.hpp"
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
  void post(std::function<void()> task);               // dropped once stop() has run
  void post(std::shared_ptr<Errand> errand) noexcept;  // the same

  // --- this loop's thread -----------------------------------------------------------------------------
  void run();  // until nothing on it is active
  /// Closes what belongs to the loop itself; run() returns once everybody else has closed theirs.
  void stop();
  /// Called each time before the loop waits.
  void each_turn(std::function<void()> run) { each_turn_.push_back(std::move(run)); }
  /// Destroyed before the loop next waits, and not earlier: it may be on the stack. T::grave() is a pointer
  /// of the dead that it needs no more: burying takes no memory.
  template <class T>
  void bury(std::unique_ptr<T> dead) noexcept {
    if (!dead) return;
    Graves& graves = graves_of(&destroy_all<T>);
    T* const gone = dead.release();
    gone->grave() = static_cast<T*>(graves.first);
    graves.first = gone;
  }
  /// Something ends, or is put off, for want of memory: counted, and said at most once a second.
  void starved(std::string_view what, std::string_view listener, std::string_view session,
               std::string_view why) noexcept;

  [[nodiscard]] uv_loop_t* uv() { return &uv_; }
  [[nodiscard]] uint64_t now() const { return uv_now(&uv_); }

  const size_t index;
  WorkerCells& cells;
  Throttle complaints{1};   // the warnings that strangers can bring about
  Throttle starvations{1};  // and those about memory

  /// Where reads land and plaintext is decrypted to; valid only within one callback.
  static constexpr size_t wire_size = 128 * 1024;
  static constexpr size_t plain_size = wire_size + 20 * 1024;  // and a record held back from the read before
  std::unique_ptr<uint8_t[]> wire{new uint8_t[wire_size]};
  std::unique_ptr<uint8_t[]> plain{new uint8_t[plain_size]};
  tls::Outbox outbox{plain_size + 4096};  // empty between engine calls: whoever fills it flushes it at once
  tls::Outbox flight;  // the end of a handshake, until its owner has spoken or has nothing to say
  const Stream* flight_of = nullptr;  // whose; set only within one callback

 private:
  /// Of one type, linked through grave().
  struct Graves {
    void (*destroy)(void* first) noexcept = nullptr;
    void* first = nullptr;
  };
  template <class T>
  static void destroy_all(void* first) noexcept {
    for (T* at = static_cast<T*>(first); at;) {
      T* const next = at->grave();
      delete at;
      at = next;
    }
  }
  Graves& graves_of(void (*destroy)(void*) noexcept) noexcept;
  void run_inbox();
  std::shared_ptr<Errand> next_errand() noexcept;
  void bury_all() noexcept;

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
  std::shared_ptr<Errand> errands_;  // the one that was asked for last
  bool names_lost_ = false;          // something was learned, and there was no memory to say of which name
  std::array<Graves, 8> graves_{};   // more than there are types that are buried
};

}  // namespace postern::proxy
