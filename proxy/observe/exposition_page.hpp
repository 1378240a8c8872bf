// SPDX-License-Identifier: GPL-3.0-or-later
// The page while it is written, and sums over workers. For exposition*.cpp.
#pragma once

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <limits>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "proxy/observe/exposition.hpp"

namespace postern::proxy {

using prometheus::MetricType;

struct Label {
  const char* name;
  std::string_view value;
};
using Labels = std::initializer_list<Label>;

class Page {
 public:
  /// Begins a family; the series added next belong to it.
  void family(const char* name, MetricType type, const char* help) {
    auto& f = families_.emplace_back();
    f.name = name;
    f.type = type;
    f.help = help;
  }
  void counter(Labels labels, double value) { series(labels).counter.value = value; }
  void counter(Labels labels, uint64_t value) { counter(labels, static_cast<double>(value)); }
  void gauge(Labels labels, double value) { series(labels).gauge.value = value; }
  void gauge(Labels labels, uint64_t value) { gauge(labels, static_cast<double>(value)); }

  /// Cells count microseconds; the page speaks of seconds.
  template <size_t N>
  void histogram(Labels labels, const std::array<uint64_t, N>& bounds,
                 const std::array<uint64_t, N + 1>& counts, uint64_t sum_us) {
    auto& h = series(labels).histogram;
    for (size_t i = 0; i <= N; ++i) {
      h.sample_count += counts[i];
      const double bound =
          i < N ? static_cast<double>(bounds[i]) / 1e6 : std::numeric_limits<double>::infinity();
      h.bucket.push_back({h.sample_count, bound});
    }
    h.sample_sum = static_cast<double>(sum_us) / 1e6;
  }

  [[nodiscard]] std::string text() {
    std::erase_if(families_, [](const auto& f) { return f.metric.empty(); });
    std::ostringstream out;
    prometheus::TextSerializer().Serialize(out, families_);
    return std::move(out).str();
  }

 private:
  prometheus::ClientMetric& series(Labels labels) {
    auto& m = families_.back().metric.emplace_back();
    for (const Label& label : labels) m.label.push_back({label.name, std::string(label.value)});
    return m;
  }
  std::vector<prometheus::MetricFamily> families_;
};

/// Over all workers: the sum of what `of` picks from each one's cells.
template <class Cells, class Of>
uint64_t sum(const std::vector<Cells>& workers, Of of) {
  uint64_t total = 0;
  for (const Cells& cells : workers) total += of(cells);
  return total;
}

/// Opened minus closed. Cells are read one after another, so a busy moment may look like less than none.
inline uint64_t active(uint64_t opened, uint64_t closed) { return opened > closed ? opened - closed : 0; }

template <size_t N>
struct HistogramSum {
  std::array<uint64_t, N + 1> counts{};
  uint64_t sum_us = 0;
  void add(const Histogram<N>& h) {
    for (size_t i = 0; i <= N; ++i) counts[i] += h.buckets[i].get();
    sum_us += h.sum_us.get();
  }
  [[nodiscard]] bool empty() const {
    return std::ranges::all_of(counts, [](uint64_t n) { return n == 0; });
  }
};

template <size_t N>
uint64_t total(const std::array<Cell, N>& cells) {
  uint64_t n = 0;
  for (const Cell& cell : cells) n += cell.get();
  return n;
}

inline std::string_view protocol_name(size_t i) { return conf::name(static_cast<conf::Protocol>(i)); }

/// What logins and lookups add to the page.
void expose_logins(Page& page, const Counters& counters, const Observed& seen);

}  // namespace postern::proxy
