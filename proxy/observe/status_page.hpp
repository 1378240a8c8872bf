// SPDX-License-Identifier: GPL-3.0-or-later
// The page at / of the metrics listener: one HTML document that needs nothing else, for a person without a
// dashboard. No account name and no client address can get into it: Status has no place for one.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/observe/counters.hpp"
#include "proxy/observe/status_history.hpp"

namespace postern::proxy {

struct Status {
  std::vector<std::string> stale;  // what is served from an older state of its file
  struct Listener {
    std::string name;
    std::string_view protocol, tls;
    std::vector<std::string> addresses;
    uint64_t active = 0, limit = 0, accepted = 0;
    std::array<uint64_t, rejected_names.size()> rejected{};
  };
  struct Sessions {
    std::string destination;
    std::string_view protocol;
    uint64_t active = 0;
    std::array<uint64_t, end_reason_names.size()> ended{};
  };
  struct Destination {
    enum class State : uint8_t { up, down, testing };  // testing: a trial decides whether it is down
    std::string name;
    State state = State::up;
    int64_t since = 0;      // down: seconds since the epoch
    uint64_t failures = 0;  // in a row
    uint64_t active = 0;
    std::array<uint64_t, attempt_names.size()> attempts{};
  };
  struct Certificate {
    std::string id;
    std::vector<std::string> names;
    int64_t not_before = 0;  // seconds since the epoch
    int64_t not_after = 0;
  };
  struct Logins {
    std::string_view protocol;
    std::array<uint64_t, auth_result_names.size()> results{};
  };
  struct Tls {
    std::string_view side;
    std::array<uint64_t, tls_version_names.size()> versions{};  // completed
    std::array<uint64_t, tls_group_count> groups{};
    std::array<uint64_t, tls_result_count> results{};  // the first: completed
    uint64_t resumed = 0;
  };

  std::string version, tls_library, hostname;
  int64_t now = 0, started = 0;  // seconds since the epoch
  bool ready = false;
  std::string reason;  // why not
  std::vector<Listener> listeners;
  std::vector<Sessions> sessions;
  std::vector<Destination> destinations;
  std::vector<Certificate> certificates;
  std::vector<Logins> logins;
  std::array<Tls, 2> tls;
  struct Store {
    std::string name;
    bool up = false;
    std::string error;
    uint64_t connections = 0, served_stale = 0;
    std::array<uint64_t, lookup_names.size()> lookups{};
    std::optional<double> snapshot_age;  // seconds
  };
  std::optional<Store> store;  // none: a mapping file
  uint64_t resident_bytes = 0, open_fds = 0, max_fds = 0, workers = 0;
  uint64_t reloads = 0, reloads_failed = 0, log_dropped = 0, accept_pauses = 0, out_of_memory = 0;
};

/// Which rows a table shows at most; the rest are counted.
inline constexpr size_t status_rows_max = 100;
/// Header fields for a document that runs nothing and loads nothing.
inline constexpr std::string_view status_headers =
    "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action"
    " 'none'; frame-ancestors 'none'\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n";

/// Pure. Everything that came from a configuration is escaped and cut to a bounded length.
std::string status_page(const Status& status, const StatusHistory& history);

/// For text and attributes alike; control characters and what is no UTF-8 become U+FFFD.
std::string html_text(std::string_view text);

/// An inline SVG of some curves over the last hour, and its legend.
struct Curve {
  std::string_view name;
  std::vector<double> values;  // oldest first, the last one is now
};
std::string status_chart(std::string_view title, std::string_view unit, const std::vector<Curve>& curves);

/// 1234567 to "1,234,567"; a rate to few digits; bytes to "1.2 MiB"; seconds to "3 d 4 h".
std::string grouped(uint64_t n);
std::string short_number(double n);
std::string bytes_text(double n);
std::string span_text(int64_t seconds);

}  // namespace postern::proxy
