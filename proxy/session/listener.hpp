// SPDX-License-Identifier: GPL-3.0-or-later
// Who listens, and how its connections are treated.
#pragma once

#include <memory>
#include <string>

#include "conf/config.hpp"
#include "proxy/backend/destination.hpp"
#include "proxy/limits/admission.hpp"
#include "proxy/observe/counters.hpp"
#include "tls/context.hpp"

namespace postern::proxy {

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

}  // namespace postern::proxy
