// SPDX-License-Identifier: GPL-3.0-or-later
// A backend: what the file says of it, how to speak TLS to it, how it fares.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "conf/config.hpp"
#include "proxy/backend/health.hpp"
#include "proxy/base/log.hpp"
#include "proxy/observe/counters.hpp"
#include "tls/context.hpp"
#include "tls/engine.hpp"

namespace postern::proxy {

/// What the next TLS connection of one worker and protocol may resume.
struct Resume {
  std::unique_ptr<tls::Resumption> kept;
  uint64_t not_before = 0;  // on the loop's clock: nothing is kept for a while after it made a handshake fail
};

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

/// What of the configuration holds for every destination. Immutable, as the snapshot it belongs to.
struct BackendPolicy {
  HealthPolicy health;
  uint64_t timeout_ms = 0;  // from the first step to a leg that is ready
  uint32_t connect_retries = 0;
  uint64_t stale_addresses_ms = 0;
  std::string hostname;
  std::shared_ptr<const std::vector<conf::SocketAddress>> own;  // every address this process listens on
};

}  // namespace postern::proxy
