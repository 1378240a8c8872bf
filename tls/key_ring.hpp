// SPDX-License-Identifier: GPL-3.0-or-later
// One value that many threads read without a lock while one thread replaces it.
#pragma once

#include <array>
#include <atomic>
#include <thread>

namespace postern::tls {

/// Two copies of T: readers use the current one, the writer fills the other, turns the switch and waits for
/// the last reader of the old copy. Only the writer ever waits; nothing is freed, so secrets can be wiped.
template <class T>
class LeftRight {
 public:
  /// Calls `use(const T&)`, which must be short and must not call write().
  template <class Use>
  auto read(Use use) const {
    for (;;) {
      const unsigned side = current_.load();
      const Reader reader(readers_[side]);
      // The writer may have turned the switch in between; only a reader counted before that is waited for.
      if (current_.load() == side) return use(sides_[side]);
    }
  }

  /// From one thread at a time. `change(T&)` gets the value to replace; it is applied to both copies.
  template <class Change>
  void write(Change change) {
    const unsigned now = current_.load(), other = 1 - now;
    wait(other);
    change(sides_[other]);
    current_.store(other);
    wait(now);
    change(sides_[now]);
  }

 private:
  /// All atomics here are sequentially consistent: the proof needs one order of switch and counters.
  struct Reader {
    explicit Reader(std::atomic<unsigned>& count) : count_(count) { count_.fetch_add(1); }
    ~Reader() { count_.fetch_sub(1); }
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;
    std::atomic<unsigned>& count_;
  };
  void wait(unsigned side) const {
    while (readers_[side].load() != 0) std::this_thread::yield();
  }

  std::array<T, 2> sides_{};
  mutable std::array<std::atomic<unsigned>, 2> readers_{};
  std::atomic<unsigned> current_{0};
};

}  // namespace postern::tls
