// SPDX-License-Identifier: GPL-3.0-or-later
// Everything derived from one configuration file, ready to use and immutable. A reload makes another; a
// connection keeps the one it was accepted under.
#pragma once

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "conf/config.hpp"
#include "conf/problem.hpp"
#include "proxy/counters.hpp"
#include "proxy/health.hpp"
#include "proxy/log.hpp"
#include "proxy/mapping_store.hpp"
#include "proxy/route_cache.hpp"
#include "tls/certificate.hpp"
#include "tls/context.hpp"
#include "tls/engine.hpp"
#include "tls/tickets.hpp"

namespace postern::proxy {

/// A backend: what the file says, how to speak TLS to it, how it fares.
struct Destination {
  conf::DestinationConf conf;
  std::optional<conf::Ip> literal;                // host, if it is an address
  std::shared_ptr<const tls::ClientContext> tls;  // null: no leg uses TLS
  std::shared_ptr<Health> health;                 // shared with earlier snapshots of the same backend
  std::shared_ptr<DestinationCounters> counters;

  mutable std::atomic<uint32_t> next_source{0};  // round robin over source_ips
  /// What the next TLS connection may resume; one row a worker, touched by that worker alone.
  using ResumeRow = std::array<std::unique_ptr<tls::Resumption>, conf::protocol_count>;
  mutable std::vector<ResumeRow> resume;
};

/// How many connections a listener has, over all workers and snapshots.
struct Occupancy {
  std::atomic<uint32_t> live{0};
  SharedThrottle full;  // of the warning that there are too many
};

struct ListenerRuntime {
  conf::ListenerConf conf;
  std::shared_ptr<const tls::ServerContext> tls;  // null: plain
  std::shared_ptr<Occupancy> occupancy;
  std::shared_ptr<ListenerCounters> counters;
  std::shared_ptr<const Destination> passthrough;  // smtp, lmtp: where every connection goes
};

struct Snapshot {
  conf::Config config;
  HealthPolicy health;
  std::vector<ListenerRuntime> listeners;  // in the order the process started with; see Snapshots::next
  std::map<std::string, std::shared_ptr<const Destination>, std::less<>> destinations;
  std::shared_ptr<const tls::CertificateStore> certificates;
  std::shared_ptr<const std::vector<conf::SocketAddress>> own;  // every address this process listens on
  std::shared_ptr<const MappingStore> mapping;                  // never null
  std::shared_ptr<RouteCache> cache;                            // shared with other snapshots
  uint64_t era = 0;                                             // of what it adds there; counts snapshots
};

/// What outlives snapshots and is handed from one to the next.
struct Lasting {
  Counters* counters = nullptr;
  std::shared_ptr<tls::TicketKeys> tickets;
  std::shared_ptr<RouteCache> cache;  // its sizes and lives are those of the first configuration
  std::shared_ptr<const std::vector<conf::SocketAddress>> own;
};

/// What a bad or expired certificate means: an error, or a warning while the previous one stays.
enum class Rotation : uint8_t { strict, keep_last_good };

/// Whether what is remembered under one configuration holds under the other: accounts are looked up in the
/// same way and lead to the same destinations (management.md 4.10). Lines that changed do not matter: an
/// answer has its life.
bool same_answers(const conf::Config& a, const conf::Config& b);

/// Makes the first snapshot (`previous` null) or the next one. Adds what it finds wrong to `problems`; null
/// if that is an error. With `previous`, listeners keep their identity by name: those the file no longer has
/// go on as they were, those it adds wait for a restart, and `restart` names what could not be applied.
std::shared_ptr<const Snapshot> make_snapshot(conf::Config config, const Lasting& lasting,
                                              const Snapshot* previous, Rotation rotation,
                                              conf::Problems& problems, std::vector<std::string>& restart);

}  // namespace postern::proxy
