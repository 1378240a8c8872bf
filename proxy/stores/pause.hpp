// SPDX-License-Identifier: GPL-3.0-or-later
// Pauses between attempts: each about twice the last one, and no two replicas in step.
#pragma once

#include <algorithm>
#include <cstdint>
#include <random>

namespace postern::proxy {

class Pause {
 public:
  Pause(uint64_t first_ms, uint64_t most_ms) : first_(first_ms), most_(most_ms), now_(first_ms) {}
  /// Half to one and a half times what is due.
  uint64_t next() {
    std::uniform_int_distribution<uint64_t> spread(now_ / 2, now_ + now_ / 2);
    now_ = std::min(most_, now_ * 2);
    return spread(random());
  }
  void reset() { now_ = first_; }

 private:
  static std::minstd_rand& random() {
    thread_local std::minstd_rand engine{std::random_device{}()};
    return engine;
  }
  const uint64_t first_, most_;
  uint64_t now_;
};

}  // namespace postern::proxy
