// SPDX-License-Identifier: GPL-3.0-or-later
// From cells to Prometheus text: names, help, labels and sums (management.md 8). Pure but for reading cells.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "proxy/observe/counters.hpp"
#include "proxy/observe/stale.hpp"

namespace postern::proxy {

/// What the kernel knows of this process; zero where it would not say.
struct ProcessFacts {
  double cpu_seconds = 0;
  uint64_t resident_bytes = 0;
  uint64_t virtual_bytes = 0;
  uint64_t open_fds = 0;
  uint64_t max_fds = 0;
};
ProcessFacts process_facts();

/// What is not counted but looked at when asked.
struct Observed {
  struct Listener {
    std::string name;
    conf::Protocol protocol = conf::Protocol::imap;
    uint64_t limit = 0;
  };
  struct Destination {
    std::string name;
    bool down = false;
    uint32_t consecutive_failures = 0;
  };
  struct Certificate {
    std::string id;
    int64_t not_before = 0;  // seconds since the epoch
    int64_t not_after = 0;
  };
  std::string version;
  std::string tls_library;
  std::vector<Listener> listeners;
  std::vector<Destination> destinations;
  std::vector<Certificate> certificates;
  std::array<uint64_t, stale_names.size()> stale{};  // by Stale::Item
  double ticket_key_age = 0;
  double start_time = 0;  // seconds since the epoch
  bool ready = false;
  uint64_t log_dropped = 0;
  uint64_t preauth_held = 0;
  uint64_t preauth_limit = 0;
  uint64_t cache_entries = 0;
  uint64_t mappings = 0;
  struct Store {
    std::string name;
    bool up = false;
    uint64_t connections = 0;
    std::string error;                   // while it is not up
    std::optional<double> snapshot_age;  // seconds; none: nothing is kept on disk
  };
  std::optional<Store> store;  // none: a mapping file
  NameCounts names;
  ProcessFacts process = process_facts();
};

/// The whole page in text format 0.0.4, made with prometheus-cpp's types and serializer.
std::string exposition(const Counters& counters, const Observed& observed);

}  // namespace postern::proxy
