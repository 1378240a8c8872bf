// SPDX-License-Identifier: GPL-3.0-or-later
// The circuit breaker of one destination (management.md 5). Logins raise suspicion; only a
// trial of our own marks a destination down or brings it back. Shared by all workers; one short lock a dial.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "conf/address.hpp"
#include "proxy/base/fault.hpp"

namespace postern::proxy {

struct HealthPolicy {
  uint32_t threshold = 5;    // 0: never down
  uint32_t min_clients = 2;  // 0: only the number of failures matters
  uint64_t cooldown_ms = 30'000;
};

/// Whoever is told to make a trial begins one at once and reports it with tried(). No second one is asked for
/// until then.
///
///          enough failures            the trial fails            cooldown over, a login comes
///     up -----------------> suspected --------------> down ---------------------------------> tried again
///      ^        the trial succeeds |                   ^          the trial fails                |   |
///      +---------------------------+                   +-----------------------------------------+   |
///      +---------------------------------------------------------- the trial succeeds ---------------+
class Health {
 public:
  enum class Admission : uint8_t {
    pass,
    trial,  // the caller makes the trial, and may go on if it succeeds
    refuse,
  };
  /// May this login be made?
  Admission admit(const HealthPolicy& policy, uint64_t now_ms);
  /// The backend answered a login. True: that has brought a downed destination back.
  bool success();
  /// A login got no answer. True: the count says "down", and the caller makes a trial to be sure.
  bool failure(const HealthPolicy& policy, Stage stage, const conf::Ip& client);

  enum class Finding : uint8_t {
    up,
    down,
    unknown,  // the trial failed for a reason of our own
  };
  enum class Change : uint8_t { none, went_down, came_up };
  /// The trial is over.
  Change tried(const HealthPolicy& policy, Finding finding, uint64_t now_ms);
  void reset();

  struct View {
    uint32_t consecutive_failures = 0;
    uint32_t failure_sources = 0;
    bool host_level_failure = false;
    bool down = false;
    bool tripped = false;  // marked down, and nobody has reached it since
    uint64_t down_since_ms = 0;
    bool trying = false;  // a trial is under way
  };
  [[nodiscard]] View view(uint64_t now_ms) const;

 private:
  static constexpr size_t max_sources = 64;
  static constexpr uint64_t unknown_pause_ms = 1000;  // before a trial that told nothing is repeated
  void clear();

  mutable std::mutex mutex_;
  uint32_t failures_ = 0;
  std::vector<conf::Ip> sources_;  // distinct clients of the streak, at most max_sources; IPv6 by /64
  bool host_level_ = false;
  bool tripped_ = false;   // marked down; stays so after the cooldown until a trial succeeds
  bool trying_ = false;    // a trial is under way
  bool answered_ = false;  // a login was answered since that trial began, so its failure proves nothing
  uint64_t down_since_ = 0, down_until_ = 0;
};

}  // namespace postern::proxy
