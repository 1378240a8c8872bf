// SPDX-License-Identifier: GPL-3.0-or-later
// One moment of all counters, added up.
#include "proxy/observe/status_history.hpp"

#include "proxy/observe/exposition_page.hpp"

namespace postern::proxy {

StatusSample status_sample(const Counters& counters) {
  StatusSample s;
  for (const auto& listener : counters.listeners()) {
    const uint64_t closed = sum(listener->workers, [](const ListenerCells& c) { return c.closed.get(); });
    const uint64_t opened = sum(listener->workers, [](const ListenerCells& c) { return c.accepted.get(); });
    s.accepted += opened;
    s.connections += active(opened, closed);
  }
  for (size_t p = 0; p < conf::protocol_count; ++p) {
    uint64_t opened = 0, ended = 0;
    for (const auto& destination : counters.destinations())
      for (const DestinationCells& cells : destination->workers) {
        ended += total(cells.protocol[p].ended);
        opened += cells.protocol[p].opened.get();
      }
    s.sessions[p] = active(opened, ended);
    s.ended[p] = ended;
  }
  for (const WorkerCells& cells : counters.workers) {
    for (const auto& protocol : cells.auth)
      for (const auto& mechanism : protocol) {
        const uint64_t ok = mechanism[static_cast<size_t>(AuthResult::ok)].get();
        s.logins_failed += total(mechanism) - ok;
        s.logins_ok += ok;
      }
    s.to_backend += total(cells.bytes_to_backend);
    s.to_client += total(cells.bytes_to_client);
  }
  return s;
}

void StatusHistory::add(const StatusSample& sample) {
  ring_[next_] = sample;
  next_ = (next_ + 1) % capacity;
  if (used_ < capacity) ++used_;
}

}  // namespace postern::proxy
