// SPDX-License-Identifier: GPL-3.0-or-later
// Counts, a histogram of latencies, and one line of JSON.
#include "test/bench/tally.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace postern::bench {
namespace {

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text)
    if (c != '"' && c != '\\' && static_cast<unsigned char>(c) >= 0x20) out += c;
  return out + '"';
}

std::string decimal(double value, int digits) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%.*f", digits, value);
  return text.data();
}

}  // namespace

void Tally::count(uint64_t size, Clock::duration took) {
  ++units;
  bytes += size;
  const double microseconds = std::chrono::duration<double, std::micro>(took).count();
  const double cell = microseconds < 1 ? 0 : std::log2(microseconds) * per_octave;
  ++latency[std::min<size_t>(static_cast<size_t>(cell), cells - 1)];
}

void Tally::add(const Tally& other) {
  units += other.units;
  bytes += other.bytes;
  failed += other.failed;
  retries += other.retries;
  if (first_failure.empty()) first_failure = other.first_failure;
  for (size_t i = 0; i < latency.size(); ++i) latency[i] += other.latency[i];
}

double Tally::percentile(double share) const {
  const double rank = share * static_cast<double>(units);
  double seen = 0;
  for (size_t i = 0; i < latency.size(); ++i) {
    seen += latency[i];
    if (seen > 0 && seen >= rank) return std::exp2((static_cast<double>(i) + 0.5) / per_octave);
  }
  return 0;
}

std::string Tally::json(double seconds) const {
  std::string histogram;  // cell: count; the caller may add rounds up before it asks for the last per mille
  for (size_t i = 0; i < latency.size(); ++i) {
    if (latency[i] == 0) continue;
    histogram +=
        (histogram.empty() ? "\"" : ", \"") + std::to_string(i) + "\": " + std::to_string(latency[i]);
  }
  return "{\"units\": " + std::to_string(units) + ", \"bytes\": " + std::to_string(bytes) +
         ", \"failed\": " + std::to_string(failed) + ", \"retries\": " + std::to_string(retries) +
         ", \"failure\": " + quoted(first_failure) + ", \"seconds\": " + decimal(seconds, 6) +
         ", \"p50_us\": " + decimal(percentile(0.5), 1) + ", \"p99_us\": " + decimal(percentile(0.99), 1) +
         ", \"per_octave\": " + std::to_string(per_octave) + ", \"latency\": {" + histogram + "}}";
}

}  // namespace postern::bench
