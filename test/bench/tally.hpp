// SPDX-License-Identifier: GPL-3.0-or-later
// What a command of the generator achieved. Only sessions that got every byte right count as units.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string>

namespace postern::bench {

using Clock = std::chrono::steady_clock;

struct Tally {
  // Microseconds; 32 cells to a power of two: 2 % wide.
  static constexpr size_t per_octave = 32;
  static constexpr size_t cells = 30 * per_octave;

  uint64_t units = 0;
  uint64_t bytes = 0;
  uint64_t failed = 0;
  uint64_t retries = 0;  // storm: attempts that had to be made again
  std::string first_failure;
  std::array<uint32_t, cells> latency{};

  void count(uint64_t size, Clock::duration took);
  void add(const Tally& other);
  double percentile(double share) const;
  std::string json(double seconds) const;
};

}  // namespace postern::bench
