// SPDX-License-Identifier: GPL-3.0-or-later
// What is counted. Each worker writes cells of its own (no lock, no shared cache line); the exporter adds
// them up when Prometheus asks. Cells outlive reloads: they belong to names, not to one configuration.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "conf/config.hpp"
#include "proxy/base/outcome.hpp"

namespace postern::proxy {

/// Written by one thread, read by any. Gauges may wrap below zero in one cell; sums are right.
class Cell {
 public:
  void add(uint64_t n = 1) { v_.store(v_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed); }
  void sub(uint64_t n = 1) { v_.store(v_.load(std::memory_order_relaxed) - n, std::memory_order_relaxed); }
  void set(uint64_t n) { v_.store(n, std::memory_order_relaxed); }
  [[nodiscard]] uint64_t get() const { return v_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> v_{0};
};

/// Upper bounds in microseconds; the last bucket is +Inf.
template <size_t N>
struct Histogram {
  std::array<Cell, N + 1> buckets;  // not cumulative
  Cell sum_us;
  void observe(const std::array<uint64_t, N>& bounds, uint64_t us) {
    size_t i = 0;
    while (i < N && us > bounds[i]) ++i;
    buckets[i].add();
    sum_us.add(us);
  }
};
inline constexpr std::array<uint64_t, 10> connect_bounds = {500,    1'000,   2'500,   5'000,     10'000,
                                                            25'000, 100'000, 500'000, 2'500'000, 10'000'000};
inline constexpr std::array<uint64_t, 9> session_bounds = {100'000,       1'000'000,      5'000'000,
                                                           30'000'000,    120'000'000,    600'000'000,
                                                           3'600'000'000, 14'400'000'000, 86'400'000'000};
inline constexpr std::array<uint64_t, 8> lag_bounds = {100,    500,    1'000,   5'000,
                                                       10'000, 50'000, 100'000, 1'000'000};

/// postern_backend_attempts_total{result}
enum class AttemptResult : uint8_t { ok, connect, later, unanswered, refused };
inline constexpr std::array<const char*, 5> attempt_names = {"ok", "connect", "later", "unanswered",
                                                             "refused"};

/// postern_destination_probes_total{result}, in the order of Health::Finding.
inline constexpr std::array<const char*, 3> probe_result_names = {"up", "down", "unknown"};

/// postern_auth_total{protocol, mechanism, result}. `command`: LOGIN or USER and PASS.
/// `name`: one that may not be looked up. `unanswered`: by a backend that was ready for it.
enum class AuthResult : uint8_t { ok, rejected, malformed, privacy, unavailable, name, unanswered };
inline constexpr std::array<const char*, 7> auth_result_names = {
    "ok", "rejected", "malformed", "privacy", "unavailable", "name", "unanswered"};
inline constexpr std::array<const char*, 6> auth_method_names = {"PLAIN",   "LOGIN",   "OAUTHBEARER",
                                                                 "XOAUTH2", "command", "unknown"};
size_t auth_method(std::string_view name);  // index of the label for what a dialogue calls a login
inline constexpr size_t interactive_count = 4;

/// postern_backend_stage_seconds{stage}: the backend leg of a login, part by part.
enum class LegStage : uint8_t { connect, conversation, authentication };
inline constexpr std::array<const char*, 3> leg_stage_names = {"connect", "conversation", "authentication"};

/// postern_store_lookups_total{result}
/// `refused`: not asked, because the store is down.
enum class Lookup : uint8_t { found, absent, error, timeout, refused };
inline constexpr std::array<const char*, 5> lookup_names = {"found", "absent", "error", "timeout", "refused"};
inline constexpr std::array<uint64_t, 8> lookup_bounds = {1,      10,      100,       1'000,
                                                          10'000, 100'000, 1'000'000, 5'000'000};

/// postern_tls_handshakes_total{version, result}; the result is "ok" or a tls::Failure name, or "timeout".
enum class TlsVersion : uint8_t { none, tls12, tls13 };
inline constexpr std::array<const char*, 3> tls_version_names = {"none", "1.2", "1.3"};
inline constexpr size_t tls_result_count = 13;  // 0: ok; 1 + tls::Failure; last: timeout
std::string_view tls_result_name(size_t result);
inline constexpr size_t tls_group_count = 5;  // conf::Group, and unknown

struct alignas(64) ListenerCells {
  Cell accepted, closed;  // active = accepted - closed
  std::array<Cell, rejected_names.size()> rejected;
};

struct alignas(64) DestinationCells {
  struct PerProtocol {
    Cell opened;  // active = opened - sum of ended
    std::array<Cell, end_reason_names.size()> ended;
    std::array<Cell, attempt_names.size()> attempts;
    std::array<Cell, probe_result_names.size()> probes;
  };
  std::array<PerProtocol, conf::protocol_count> protocol;
  Histogram<connect_bounds.size()> connect;
};

struct alignas(64) TlsSide {
  std::array<std::array<Cell, tls_result_count>, tls_version_names.size()> handshakes;
  std::array<Cell, tls_group_count> groups;  // completed handshakes that exchanged a key
  Cell resumed;
  Cell key_update_floods;  // conversations ended for more of them than the limit
};

struct alignas(64) WorkerCells {
  TlsSide client, backend;
  std::array<Cell, conf::protocol_count> bytes_to_backend, bytes_to_client;
  std::array<Histogram<session_bounds.size()>, conf::protocol_count> session_seconds;
  Histogram<lag_bounds.size()> loop_lag;
  Cell accept_pauses;  // out of descriptors or memory
  Cell out_of_memory;  // connections and other work that ended for want of memory or descriptors

  using AuthCells = std::array<std::array<Cell, auth_result_names.size()>, auth_method_names.size()>;
  std::array<AuthCells, interactive_count> auth;
  std::array<Histogram<connect_bounds.size()>, leg_stage_names.size()> leg_stages;
  Cell cache_hits, cache_misses;
  std::array<Cell, lookup_names.size()> lookups;
  Cell served_stale;  // logins that got a last known answer because the store gave none
  Histogram<lookup_bounds.size()> lookup_seconds;
};

/// postern_name_lookups_total{result}. An answer that there is no such name, or that it has no address, is
/// another thing than no answer: the first is to be believed, the second says nothing about the name.
enum class NameResult : uint8_t { found, absent, silent };
inline constexpr std::array<const char*, 3> name_result_names = {"found", "absent", "silent"};

/// What is known of lookups of names; see NameService.
struct NameCounts {
  std::array<uint64_t, name_result_names.size()> lookups{};
  uint64_t last_good_uses = 0;
  uint64_t in_flight = 0;
};

/// One entry a listener name, one cell block a worker.
struct ListenerCounters {
  std::string name;
  conf::Protocol protocol;
  std::vector<ListenerCells> workers;
};
struct DestinationCounters {
  std::string name;
  std::vector<DestinationCells> workers;
};

/// The registry. Lookup by name happens when a snapshot is made, never on the hot path.
class Counters {
 public:
  explicit Counters(size_t count) : workers(count) {}

  /// The cells of that name, or new ones that nobody sees before keep(): a configuration may still be
  /// refused.
  [[nodiscard]] std::shared_ptr<ListenerCounters> listener(const std::string& name,
                                                           conf::Protocol protocol) const;
  [[nodiscard]] std::shared_ptr<DestinationCounters> destination(const std::string& name) const;
  /// From now on they are there, for as long as the process. Both hand back what they were given.
  std::shared_ptr<ListenerCounters> keep(std::shared_ptr<ListenerCounters> counters);
  std::shared_ptr<DestinationCounters> keep(std::shared_ptr<DestinationCounters> counters);
  [[nodiscard]] std::vector<std::shared_ptr<const ListenerCounters>> listeners() const;
  [[nodiscard]] std::vector<std::shared_ptr<const DestinationCounters>> destinations() const;

  std::vector<WorkerCells> workers;
  WorkerCells store;  // of the loop that asks account stores
  /// Those of a worker, or the store loop's, which is numbered behind them.
  [[nodiscard]] WorkerCells& cells(size_t index) { return index < workers.size() ? workers[index] : store; }
  std::atomic<uint64_t> reloads_ok{0}, reloads_failed{0};
  std::atomic<uint64_t> out_of_memory{0};  // of what runs on no worker

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<ListenerCounters>> listeners_;
  std::map<std::string, std::shared_ptr<DestinationCounters>> destinations_;
};

}  // namespace postern::proxy
