// SPDX-License-Identifier: GPL-3.0-or-later
// Everything derived from one configuration file, ready to use and immutable. A reload makes another; a
// connection keeps the one it was accepted under.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "conf/config.hpp"
#include "conf/problem.hpp"
#include "proxy/admission.hpp"
#include "proxy/counters.hpp"
#include "proxy/health.hpp"
#include "proxy/log.hpp"
#include "proxy/mapping_store.hpp"
#include "proxy/route_cache.hpp"
#include "proxy/stale.hpp"
#include "tls/certificate.hpp"
#include "tls/context.hpp"
#include "tls/engine.hpp"
#include "tls/tickets.hpp"

namespace postern::proxy {

/// What the next TLS connection of one worker and protocol may resume.
struct Resume {
  std::unique_ptr<tls::Resumption> kept;
  uint64_t not_before = 0;  // on the loop's clock: nothing is kept for a while after it made a handshake fail
};

/// A backend: what the file says, how to speak TLS to it, how it fares.
struct Destination {
  conf::DestinationConf conf;
  std::optional<conf::Ip> literal;                // host, if it is an address
  std::shared_ptr<const tls::ClientContext> tls;  // null: no leg uses TLS
  std::shared_ptr<Health> health;                 // shared with earlier snapshots of the same backend
  std::shared_ptr<DestinationCounters> counters;
  mutable SharedThrottle suspicions;  // of the record that logins go unanswered

  mutable std::atomic<uint32_t> next_source{0};  // round robin over source_ips
  /// What the next TLS connection may resume; one row a worker, touched by that worker alone.
  using ResumeRow = std::array<Resume, conf::protocol_count>;
  mutable std::vector<ResumeRow> resume;
};

/// Who listens, and what is counted about it. Lives as long as anybody uses it: snapshots, and every session
/// it accepted, to the end.
struct Listener {
  std::string name;
  conf::Protocol protocol = conf::Protocol::imap;
  std::shared_ptr<Occupancy> occupancy;
  std::shared_ptr<ListenerCounters> counters;
};

/// What of [server] and its like a session goes by before it is bridged.
struct SessionPolicy {
  conf::ServerConf server;
  conf::CapabilitiesConf capabilities[4];  // by Protocol, interactive ones only
  conf::OAuthConf oauth;
  conf::RoutingConf routing;
};

/// How a listener treats its connections. Immutable: a reload puts another in its place, and a connection
/// keeps the one it was accepted under until it is bridged. What that leads to is small: no table of
/// accounts.
struct ListenerPolicy {
  std::shared_ptr<Listener> listener;
  conf::ListenerConf conf;
  std::shared_ptr<const tls::ServerContext> tls;   // null: plain
  std::shared_ptr<const Destination> passthrough;  // smtp, lmtp: where every connection goes
  std::shared_ptr<const SessionPolicy> session;    // never null
};

struct Snapshot {
  conf::Config config;
  HealthPolicy health;
  std::vector<std::shared_ptr<const ListenerPolicy>> listeners;  // in the order the process started with
  std::map<std::string, std::shared_ptr<const Destination>, std::less<>> destinations;
  std::shared_ptr<const tls::CertificateStore> certificates;
  std::shared_ptr<const std::vector<conf::SocketAddress>> own;  // every address this process listens on
  std::shared_ptr<const MappingStore> mapping;                  // never null
  std::shared_ptr<RouteCache> cache;                            // shared with other snapshots
  uint64_t era = 0;                                             // of what it adds there; counts snapshots
  std::shared_ptr<const tls::TrustStore> trust;                 // null: no leg uses TLS
  std::vector<Stale> stale;
  std::optional<tls::TicketPlan> tickets;  // until publish(); none: the keys stay as they are
};

/// What outlives snapshots and is handed from one to the next. Making a snapshot changes none of it.
struct Lasting {
  Counters* counters = nullptr;
  std::shared_ptr<tls::TicketKeys> tickets;
  std::shared_ptr<RouteCache> cache;  // its sizes and lives are those of the first configuration
  std::shared_ptr<const std::vector<conf::SocketAddress>> own;
  /// Called as each step of making a snapshot ends, for tests: what it adds to the problems makes the step
  /// fail.
  std::function<void(std::string_view step, conf::Problems& problems)> step_done;
  std::shared_ptr<PreauthMemory> preauth = std::make_shared<PreauthMemory>();
};

/// What a bad or expired certificate means: an error, or a warning while the previous one stays.
enum class Rotation : uint8_t { strict, keep_last_good };

/// Whether what is remembered under one configuration holds under the other: accounts are looked up in the
/// same way and lead to the same destinations (management.md 4.10). Lines that changed do not matter: an
/// answer has its life.
bool same_answers(const conf::Config& a, const conf::Config& b);

/// Makes the first snapshot (`previous` null) or the next one, aside: whatever fails, nothing has changed.
/// Adds what it finds wrong to `problems`; null if that is an error. With `keep_last_good` each item whose
/// file is bad stays as it was, is a warning and stands in `stale`; the others are taken over. With
/// `previous`, listeners keep their identity by name: those the file no longer has go on as they were, those
/// it adds wait for a restart, and `restart` names what could not be applied.
std::shared_ptr<Snapshot> make_snapshot(conf::Config config, const Lasting& lasting, const Snapshot* previous,
                                        Rotation rotation, conf::Problems& problems,
                                        std::vector<std::string>& restart);

/// The snapshot becomes the current one: all that others share changes here, on the main loop, and cannot
/// fail.
void publish(Snapshot& snapshot, const Lasting& lasting);

}  // namespace postern::proxy
