// SPDX-License-Identifier: GPL-3.0-or-later
// The circuit breaker of one destination (management.md 5). Shared by all workers; one short lock a dial.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "conf/address.hpp"
#include "proxy/fault.hpp"

namespace postern::proxy {

struct HealthPolicy {
  uint32_t threshold = 5;    // 0: never down
  uint32_t min_clients = 2;  // 0: only the number of failures matters
  uint64_t cooldown_ms = 30'000;
};

class Health {
 public:
  enum class Admission : uint8_t { pass, probe, refuse };

  /// May this attempt be made? A `probe` must end in success(), failure() or abandon().
  Admission admit(const HealthPolicy& policy, uint64_t now_ms);
  /// True: this success has just brought a downed destination back.
  bool success();
  /// True: this failure has just marked the destination down.
  bool failure(const HealthPolicy& policy, Admission admission, Stage stage, const conf::Ip& client,
               uint64_t now_ms);
  /// The attempt ended without telling anything about the destination (its client left, or a loop was found).
  void abandon(Admission admission);
  void reset();

  struct View {
    uint32_t consecutive_failures = 0;
    uint32_t failure_sources = 0;
    bool host_level_failure = false;
    bool down = false;
    bool tripped = false;  // marked down, and nobody has reached it since
    uint64_t down_since_ms = 0;
  };
  [[nodiscard]] View view(uint64_t now_ms) const;

 private:
  static constexpr size_t max_sources = 64;
  void clear();

  mutable std::mutex mutex_;
  uint32_t failures_ = 0;
  std::vector<conf::Ip> sources_;  // distinct clients of the streak, at most max_sources
  bool host_level_ = false;
  bool tripped_ = false;  // marked down; stays so after the cooldown until a probe succeeds
  bool probing_ = false;
  uint64_t down_since_ = 0, down_until_ = 0;
};

}  // namespace postern::proxy
