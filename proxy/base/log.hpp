// SPDX-License-Identifier: GPL-3.0-or-later
// One record a line on standard output, logfmt or JSON, written by a thread of its own so that a slow
// reader of the log never stops a loop. No value can forge a record or a field; what does not fit the
// queue is counted and the count is logged.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>

#include "conf/config.hpp"

namespace postern::proxy {

using conf::LogLevel;

struct Field {
  std::string_view key;
  std::variant<std::string_view, int64_t, uint64_t, double, bool> value;  // double: seconds, 3 decimals
  Field(std::string_view k, std::string_view v) : key(k), value(v) {}
  Field(std::string_view k, const char* v) : key(k), value(std::string_view(v)) {}
  Field(std::string_view k, const std::string& v) : key(k), value(std::string_view(v)) {}
  Field(std::string_view k, bool v) : key(k), value(v) {}
  Field(std::string_view k, double v) : key(k), value(v) {}
  template <class T>
  requires(std::is_integral_v<T> && !std::is_same_v<T, bool>) Field(std::string_view k, T v) : key(k) {
    if constexpr (std::is_signed_v<T>)
      value = static_cast<int64_t>(v);
    else
      value = static_cast<uint64_t>(v);
  }
};

/// Formats one record, line end included. Pure; `now` is wall-clock time. Fields with an empty string value
/// are left out.
std::string format_record(conf::LogFormat format, std::chrono::system_clock::time_point now, LogLevel level,
                          std::string_view message, std::span<const Field> fields);

namespace log {

/// Starts the writer thread. Until then, and after stop(), records go straight to standard output.
void start(LogLevel level, conf::LogFormat format, int fd = 1);
void configure(LogLevel level, conf::LogFormat format);  // reload
void stop();                                             // writes everything queued, then ends the thread
bool enabled(LogLevel level);
void write(LogLevel level, std::string_view message, std::span<const Field> fields);

inline void write(LogLevel level, std::string_view message, std::initializer_list<Field> fields) {
  if (enabled(level)) write(level, message, std::span<const Field>(fields.begin(), fields.size()));
}
inline void error(std::string_view m, std::initializer_list<Field> f = {}) { write(LogLevel::error, m, f); }
inline void warn(std::string_view m, std::initializer_list<Field> f = {}) { write(LogLevel::warn, m, f); }
inline void info(std::string_view m, std::initializer_list<Field> f = {}) { write(LogLevel::info, m, f); }
inline void debug(std::string_view m, std::initializer_list<Field> f = {}) { write(LogLevel::debug, m, f); }

uint64_t dropped();  // records lost to a full queue since start

}  // namespace log

/// At most `burst` records a second; the rest are counted. One per source of noise and thread.
class Throttle {
 public:
  explicit Throttle(unsigned burst = 1) : burst_(burst) {}
  /// True: log now, and `suppressed` says how many were not logged since the last one.
  bool allow(uint64_t now_ms, uint64_t& suppressed) {
    if (now_ms - window_start_ >= 1000) {
      window_start_ = now_ms;
      used_ = 0;
    }
    if (used_ >= burst_) {
      ++suppressed_;
      return false;
    }
    ++used_;
    suppressed = suppressed_;
    suppressed_ = 0;
    return true;
  }

 private:
  unsigned burst_;
  unsigned used_ = 0;
  uint64_t window_start_ = 0;
  uint64_t suppressed_ = 0;
};

/// One record a second over all threads that share it; the rest are counted.
class SharedThrottle {
 public:
  bool allow(uint64_t now_ms, uint64_t& suppressed) {
    uint64_t due = due_.load(std::memory_order_relaxed);
    if (now_ms < due || !due_.compare_exchange_strong(due, now_ms + 1000, std::memory_order_relaxed)) {
      suppressed_.fetch_add(1, std::memory_order_relaxed);
      return false;
    }
    suppressed = suppressed_.exchange(0, std::memory_order_relaxed);
    return true;
  }

 private:
  std::atomic<uint64_t> due_{0};
  std::atomic<uint64_t> suppressed_{0};
};

}  // namespace postern::proxy
