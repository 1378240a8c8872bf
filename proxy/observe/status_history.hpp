// SPDX-License-Identifier: GPL-3.0-or-later
// The last hour in a ring of fixed size: what the status page draws. Totals and gauges only; nothing in it
// tells one client or account from another.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "conf/config.hpp"
#include "proxy/observe/counters.hpp"

namespace postern::proxy {

/// One moment. Gauges are as they were, totals count since the process started.
struct StatusSample {
  uint64_t connections = 0;                               // gauge: client connections open
  std::array<uint64_t, conf::protocol_count> sessions{};  // gauge: joined to a backend
  std::array<uint64_t, conf::protocol_count> ended{};     // total, of those
  uint64_t accepted = 0;                                  // total
  uint64_t logins_ok = 0, logins_failed = 0;              // totals
  uint64_t to_backend = 0, to_client = 0;                 // totals, bytes
};
StatusSample status_sample(const Counters& counters);

class StatusHistory {
 public:
  static constexpr uint64_t interval_s = 15;
  static constexpr size_t capacity = 241;  // an hour, both ends included

  void add(const StatusSample& sample);
  [[nodiscard]] size_t size() const { return used_; }
  /// 0 is the oldest.
  [[nodiscard]] const StatusSample& operator[](size_t i) const {
    return ring_[(next_ + capacity - used_ + i) % capacity];
  }
  /// The value of a gauge at each sample.
  template <class Of>
  [[nodiscard]] std::vector<double> level(Of of) const {
    std::vector<double> out;
    out.reserve(used_);
    for (size_t i = 0; i < used_; ++i) out.push_back(static_cast<double>(of((*this)[i])));
    return out;
  }
  /// How many there were at any moment since the sample before, also of those that are gone again: a gauge
  /// and the total of what has left it.
  template <class Of, class Left>
  [[nodiscard]] std::vector<double> presence(Of of, Left left) const {
    std::vector<double> out = level(of);
    for (size_t i = 1; i < used_; ++i) {
      const uint64_t before = left((*this)[i - 1]), now = left((*this)[i]);
      if (now > before) out[i] += static_cast<double>(now - before);
    }
    return out;
  }
  /// What a total grew by per `seconds`, at each sample but the first.
  template <class Of>
  [[nodiscard]] std::vector<double> growth(Of of, double seconds) const {
    std::vector<double> out;
    out.reserve(used_);
    for (size_t i = 1; i < used_; ++i) {
      const uint64_t before = of((*this)[i - 1]), now = of((*this)[i]);
      out.push_back(now > before ? static_cast<double>(now - before) * seconds / interval_s : 0.0);
    }
    return out;
  }

 private:
  std::array<StatusSample, capacity> ring_{};
  size_t next_ = 0, used_ = 0;
};

}  // namespace postern::proxy
