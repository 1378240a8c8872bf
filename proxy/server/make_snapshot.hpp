// SPDX-License-Identifier: GPL-3.0-or-later
// From a checked Config to a Snapshot: made aside, then published, or not at all.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "conf/config.hpp"
#include "conf/problem.hpp"
#include "proxy/limits/admission.hpp"
#include "proxy/observe/counters.hpp"
#include "proxy/routing/route_cache.hpp"
#include "proxy/session/snapshot.hpp"
#include "tls/tickets.hpp"

namespace postern::proxy {

/// What outlives snapshots and is handed from one to the next. Making a snapshot changes none of it.
struct ProcessState {
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
std::shared_ptr<Snapshot> make_snapshot(conf::Config config, const ProcessState& state,
                                        const Snapshot* previous, Rotation rotation, conf::Problems& problems,
                                        std::vector<std::string>& restart);

/// The snapshot becomes the current one: all that others share changes here, on the main loop, and cannot
/// fail.
void publish(Snapshot& snapshot, const ProcessState& state);

}  // namespace postern::proxy
