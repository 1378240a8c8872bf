// SPDX-License-Identifier: GPL-3.0-or-later
// Everything derived from one configuration file, ready to use and immutable. A reload makes another; a
// connection keeps the one it was accepted under.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "conf/config.hpp"
#include "proxy/backend/destination.hpp"
#include "proxy/observe/stale.hpp"
#include "proxy/routing/router.hpp"
#include "proxy/session/listener.hpp"
#include "proxy/stores/make_store.hpp"
#include "tls/certificate.hpp"
#include "tls/context.hpp"
#include "tls/tickets.hpp"

namespace postern::proxy {

struct Snapshot {
  conf::Config config;
  std::shared_ptr<const BackendPolicy> backend;                  // never null
  std::vector<std::shared_ptr<const ListenerPolicy>> listeners;  // in the order the process started with
  /// How that listener treats its connections now; null: it is not there any more.
  [[nodiscard]] std::shared_ptr<const ListenerPolicy> policy(const Listener& listener) const {
    const auto found = std::ranges::find_if(
        listeners, [&](const auto& policy) { return policy->listener.get() == &listener; });
    return found == listeners.end() ? nullptr : *found;
  }
  Routes routes;
  std::shared_ptr<const StorePlan> store;  // that routes ask; null: a mapping file
  std::shared_ptr<const tls::CertificateStore> certificates;
  std::shared_ptr<const tls::TrustStore> trust;  // null: no leg uses TLS
  std::vector<Stale> stale;
  std::optional<tls::TicketPlan> tickets;  // until publish(); none: the keys stay as they are
};

}  // namespace postern::proxy
