// SPDX-License-Identifier: GPL-3.0-or-later
// What the status page is told: names of the configuration, and counts.
#include <chrono>

#include "proxy/base/log.hpp"
#include "proxy/base/version.hpp"
#include "proxy/observe/exposition.hpp"
#include "proxy/observe/exposition_page.hpp"
#include "proxy/observe/status_page.hpp"
#include "proxy/server/server.hpp"

namespace postern::proxy {
namespace {

template <size_t N>
void add(std::array<uint64_t, N>& sums, const std::array<Cell, N>& cells) {
  for (size_t i = 0; i < N; ++i) sums[i] += cells[i].get();
}

void add_listeners(Status& status, const Counters& counters, const Snapshot& snapshot) {
  for (const auto& policy : snapshot.listeners) {
    const ListenerPolicy& listener = *policy;
    const auto& cells = listener.listener->counters->workers;
    Status::Listener row;
    row.name = listener.conf.name;
    row.protocol = conf::name(listener.conf.protocol);
    row.tls = conf::name(listener.conf.tls_mode);
    for (const conf::SocketAddress& address : listener.conf.bind) row.addresses.push_back(address.text());
    row.active = listener.listener->occupancy->live();
    row.limit = listener.conf.max_connections;
    row.accepted = sum(cells, [](const ListenerCells& c) { return c.accepted.get(); });
    for (size_t r = 0; r < row.rejected.size(); ++r)
      row.rejected[r] = sum(cells, [r](const ListenerCells& c) { return c.rejected[r].get(); });
    status.listeners.push_back(std::move(row));
  }
  std::array<bool, interactive_count> listened{};
  for (const auto& l : counters.listeners())
    if (conf::interactive(l->protocol)) listened[static_cast<size_t>(l->protocol)] = true;
  for (size_t p = 0; p < interactive_count; ++p) {
    if (!listened[p]) continue;
    Status::Logins row;
    row.protocol = protocol_name(p);
    for (const WorkerCells& cells : counters.workers)
      for (const auto& mechanism : cells.auth[p]) add(row.results, mechanism);
    status.logins.push_back(row);
  }
}

void add_destinations(Status& status, const Snapshot& snapshot, uint64_t now_ms) {
  using State = Status::Destination::State;
  for (const auto& [name, destination] : snapshot.routes.destinations) {
    const Health::View view = destination->health->view(now_ms);
    Status::Destination row;
    row.name = name;
    row.state = view.down ? State::down : view.tripped || view.trying ? State::testing : State::up;
    row.since = status.now - static_cast<int64_t>((now_ms - view.down_since_ms) / 1000);
    row.failures = view.consecutive_failures;
    for (size_t p = 0; p < conf::protocol_count; ++p) {
      uint64_t opened = 0, ended = 0, attempts = 0;
      Status::Sessions sessions{name, protocol_name(p), 0, {}};
      for (const DestinationCells& cells : destination->counters->workers) {
        const auto& c = cells.protocol[p];
        add(sessions.ended, c.ended);
        add(row.attempts, c.attempts);
        ended += total(c.ended);
        opened += c.opened.get();
        attempts += total(c.attempts);
      }
      if (opened + attempts == 0) continue;
      sessions.active = active(opened, ended);
      row.active += sessions.active;
      status.sessions.push_back(std::move(sessions));
    }
    status.destinations.push_back(std::move(row));
  }
}

Status::Tls tls_side(const Counters& counters, std::string_view name, TlsSide WorkerCells::*which) {
  Status::Tls side;
  side.side = name;
  for (const WorkerCells& worker : counters.workers) {
    const TlsSide& cells = worker.*which;
    for (size_t v = 0; v < side.versions.size(); ++v) {
      side.versions[v] += cells.handshakes[v][0].get();
      add(side.results, cells.handshakes[v]);
    }
    for (size_t g = 0; g < side.groups.size(); ++g) side.groups[g] += cells.groups[g].get();
    side.resumed += cells.resumed.get();
  }
  return side;
}

}  // namespace

void Server::sample() {
  history_.add(status_sample(*counters_));
  sample_->in(StatusHistory::interval_s * 1000);
}

std::string Server::status() const {
  Status status;
  status.version = version;
  status.tls_library = tls::library().version;
  status.hostname = snapshot_->config.server.hostname;
  status.now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  status.started = static_cast<int64_t>(start_time_);
  const Readiness readiness = this->readiness();
  status.ready = readiness.ready;
  status.reason = readiness.reason;
  add_listeners(status, *counters_, *snapshot_);
  add_destinations(status, *snapshot_, loop_->now());
  for (const auto& certificate : snapshot_->certificates->all())
    status.certificates.push_back(
        {certificate->id, certificate->shown, certificate->not_before, certificate->not_after});
  status.tls = {tls_side(*counters_, "clients", &WorkerCells::client),
                tls_side(*counters_, "backends", &WorkerCells::backend)};
  for (const Stale& stale : stale_now()) status.stale.push_back(text(stale));
  const ProcessFacts facts = process_facts();
  status.resident_bytes = facts.resident_bytes;
  status.open_fds = facts.open_fds;
  status.max_fds = facts.max_fds;
  status.workers = counters_->workers.size();
  status.reloads = counters_->reloads_ok.load();
  status.reloads_failed = counters_->reloads_failed.load();
  status.log_dropped = log::dropped();
  status.accept_pauses = sum(counters_->workers, [](const WorkerCells& w) { return w.accept_pauses.get(); });
  status.out_of_memory = counters_->out_of_memory.load() + counters_->store.out_of_memory.get() +
                         sum(counters_->workers, [](const WorkerCells& w) { return w.out_of_memory.get(); });
  if (const auto seen = observe_store()) {
    Status::Store& store = status.store.emplace();
    store.name = seen->name;
    store.up = seen->up;
    store.error = seen->error;
    store.connections = seen->connections;
    store.snapshot_age = seen->snapshot_age;
    add(store.lookups, counters_->store.lookups);
    store.served_stale = counters_->store.served_stale.get();
  }
  return status_page(status, history_);
}

}  // namespace postern::proxy
