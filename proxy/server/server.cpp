// SPDX-License-Identifier: GPL-3.0-or-later
// Start and serve. Reload is in server_reload.cpp, the end in server_stop.cpp.
#include "proxy/server/server.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <utility>

#include "proxy/base/log.hpp"
#include "proxy/base/version.hpp"
#include "proxy/observe/exposition.hpp"
#include "proxy/system/process.hpp"

namespace postern::proxy {
namespace {

/// What is open before the first session. What loops, signals, log and watcher take was measured, with room
/// to spare.
uint64_t own_descriptors(const conf::Config& config, size_t workers) {
  size_t sockets = 0;  // of one worker
  for (const conf::ListenerConf& listener : config.listeners) sockets += listener.bind.size();
  size_t store = 0;
  if (config.mapping.source != conf::MappingSource::file) {
    const conf::MappingConf& mapping = config.mapping;
    store =
        16 + std::max(mapping.redis ? mapping.redis->pool_size : 0, mapping.sql ? mapping.sql->pool_size : 0);
  }
  return 32 + store + workers * (8 + sockets);
}

}  // namespace

bool print_problems(const conf::Problems& problems) {
  bool first = true;
  for (const conf::Problem& problem : problems.all()) {
    if (problem.warning) continue;
    std::fprintf(stderr, "%s%s\n", first ? "invalid configuration: " : "", problem.line().c_str());
    first = false;
  }
  return !first;
}

Server::Server(std::string file, Confinement confinement)
    : file_(std::move(file)),
      confinement_(std::move(confinement)),
      own_(std::make_shared<std::vector<conf::SocketAddress>>()) {
  process_state_.tickets = std::make_shared<tls::TicketKeys>();
  process_state_.own = own_;
}

Server::~Server() = default;

int Server::run() {
  if (!prepare()) return 1;
  if (auto sealed = seal(confinement_); !sealed) {
    std::fprintf(stderr, "%s\n", sealed.error().text.c_str());
    return 1;
  }
  const conf::ServerConf& conf = snapshot_->config.server;
  log::start(conf.log_level, conf.log_format);
  process_state_.preauth->limit(conf.preauth_memory.bytes);
  open();
  service::ready();
  log::info("proxy started", {{"version", version},
                              {"tls_library", tls::library().version},
                              {"workers", workers_.size()},
                              {"config", file_}});
  loop_->run();
  log::stop();
  // What a lookup that hangs may still use is left to it, and nobody waits for it.
  if (names_.in_flight() != 0) ::_exit(0);
  return 0;
}

bool Server::prepare() {
  return_large_blocks();
  conf::Loaded loaded = conf::load(file_, conf::Environment::of_process());
  settle_core_dumps(loaded.config.server.core_dumps);
  const size_t threads = loaded.config.server.threads ? loaded.config.server.threads : available_cores();
  counters_ = std::make_unique<Counters>(loaded.ok() ? threads : 1);
  process_state_.counters = counters_.get();
  process_state_.cache = std::make_shared<RouteCache>(loaded.config.mapping);
  // Also when something is wrong already: an operator hears of bad certificates in the same run.
  std::vector<std::string> restart;
  std::shared_ptr<Snapshot> made;
  if (loaded.parsed)
    made = make_snapshot(loaded.config, process_state_, nullptr, Rotation::strict, loaded.problems, restart);
  if (made && made->store && made->config.mapping.require_at_start)
    if (const LookupAnswer answer = ask_store_once(*made, names_, std::string(Lookups::trial_name));
        answer.kind == LookupAnswer::Kind::failed) {
      loaded.problems.add("mapping.require_at_start", "the mapping store cannot be reached: " + answer.why);
      made = nullptr;
    }
  if (made) {
    publish(*made, process_state_);
    snapshot_ = made;
    const uint64_t files = raise_descriptor_limit();
    const uint64_t own = own_descriptors(snapshot_->config, counters_->workers.size());
    if (files < own) {
      const std::string line = fmt::format(
          "postern: this process may open {} files and needs {} before the first session "
          "(LimitNOFILE= of a unit, ulimit -n of a shell)\n",
          files, own);
      std::fputs(line.c_str(), stderr);
      return false;
    }
    Inherited inherited = Inherited::take();
    bound_ = bind_all(snapshot_->config, counters_->workers.size(), inherited, loaded.problems);
    if (bound_) {
      for (std::string& text : inherited.unclaimed())
        bound_->warnings.push_back("socket from the service manager is not in the configuration: " + text);
      for (const conf::ListenerConf& listener : snapshot_->config.listeners)
        if (const uint64_t wanted = own + 2 * uint64_t{listener.max_connections}; files < wanted)
          loaded.problems.warn(listener.path + ".max_connections",
                               fmt::format("{} connections need {} descriptors, this process may open {}",
                                           listener.max_connections, wanted, files));
    }
  }
  loaded.problems.sort();
  for (const conf::Problem& problem : loaded.problems.all())
    if (problem.warning) warnings_.push_back(problem);
  if (!bound_) {
    for (const conf::Problem& problem : warnings_)
      std::fprintf(stderr, "warning: %s\n", problem.line().c_str());
    print_problems(loaded.problems);
    return false;
  }
  *own_ = bound_->all;
  return true;
}

void Server::open() {
  loop_.emplace(counters_->workers.size(), own_cells_,
                names_);  // prepare() has seen that descriptors suffice
  for (const conf::Problem& problem : warnings_) log::warn("configuration", {{"problem", problem.line()}});
  for (const std::string& text : bound_->warnings) log::warn("socket", {{"problem", text}});
  for (const std::string& text : tls::library().warnings) log::warn("tls library", {{"problem", text}});
  warnings_.clear();
  start_time_ = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();

  const auto make = [this](std::optional<Timer>& timer, Timer::Run tick) {
    timer.emplace(*loop_->timers, tick, this);
  };
  make(minute_, [](void* self) { static_cast<Server*>(self)->each_minute(); });
  make(sample_, [](void* self) {
    static_cast<Server*>(self)->sample();
    static_cast<Server*>(self)->drop_expired_trust();
  });
  make(grace_, [](void* self) { static_cast<Server*>(self)->cut(); });
  make(watchdog_, [](void* self) { static_cast<Server*>(self)->keep_watchdog(); });
  make(age_cache_, [](void* self) { static_cast<Server*>(self)->age_cache(); });
  minute_->in(minute_ms);
  age_cache();
  sample();
  keep_watchdog();

  constexpr int wanted[] = {SIGTERM, SIGINT, SIGHUP};
  for (size_t i = 0; i < std::size(wanted); ++i) {
    uv_signal_init(loop_->uv(), &signals_[i]);
    signals_[i].data = this;
    uv_signal_start(
        &signals_[i],
        [](uv_signal_t* handle, int number) {
          auto* self = static_cast<Server*>(handle->data);
          if (number == SIGHUP) return self->reload(Scope::everything);
          self->drain(number);
        },
        wanted[i]);
  }

  for (size_t i = 0; i < counters_->workers.size(); ++i) {
    workers_.push_back(
        std::make_unique<Worker>(i, *counters_, names_, [this] { loop_->post([this] { worker_idle(); }); }));
    workers_.back()->adopt(snapshot_);  // before its thread runs
  }
  for (BoundAddress& address : bound_->listeners) {
    const ListenerPolicy& policy = *snapshot_->listeners[address.listener];
    const conf::ListenerConf& listener = policy.conf;
    for (size_t i = 0; i < workers_.size(); ++i)
      workers_[i]->listen(address.sockets[i].release(), policy.listener);
    log::info("listening", {{"listener", listener.name},
                            {"addr", address.address.text()},
                            {"protocol", conf::name(listener.protocol)},
                            {"tls", conf::name(listener.tls_mode)},
                            {"inherited", address.inherited}});
  }
  bound_->listeners.clear();

  if (bound_->metrics) {
    Handlers handlers;
    handlers.metrics = [this] { return metrics(); };
    handlers.ready = [this] { return readiness(); };
    handlers.status = [this] { return status(); };
    probes_ = std::make_unique<ProbeServer>(loop_->uv(), std::move(handlers));
    if (auto opened = probes_->open(bound_->metrics.release()); !opened)
      log::error("metrics listener", {{"error", opened.error().text}});
    else
      log::info("metrics listener started", {{"addr", bound_->metrics_address.text()}});
  }
  watcher_ = std::make_unique<Watcher>(
      loop_->uv(), [this](const std::vector<std::string>& changed) { files_changed(changed); });
  watch_files();
  start_store();
  for (const auto& worker : workers_) worker->start();
}

/// The service manager's sign of life, twice as often as it wants one.
void Server::keep_watchdog() {
  const uint64_t usec = service::watchdog_usec();
  if (usec == 0) return;
  service::alive();
  watchdog_->in(std::max<uint64_t>(usec / 2000, 1));
}

/// Answers of the store that have had their time are freed here: many at once would hold up the workers,
/// which look into the same cache.
void Server::age_cache() {
  constexpr size_t at_once = 4096, worth_a_trim = 32 * 1024;
  constexpr uint64_t pause_ms = 1000, short_pause_ms = 50;
  const size_t freed = process_state_.cache->age(loop_->now(), at_once);
  freed_ += freed;
  if (freed_ >= worth_a_trim) {
    give_memory_back();
    freed_ = 0;
  }
  age_cache_->in(freed == at_once ? short_pause_ms : pause_ms);
}

// --- what operators ask -----------------------------------------------------------------------------

uint64_t Server::live() const {
  uint64_t sum = 0;
  for (const auto& listener : snapshot_->listeners) sum += listener->listener->occupancy->live();
  return sum;
}

std::string Server::metrics() const {
  Observed observed;
  observed.version = version;
  observed.tls_library = tls::library().version;
  for (const auto& listener : snapshot_->listeners)
    observed.listeners.push_back(
        {listener->conf.name, listener->conf.protocol, listener->conf.max_connections});
  const uint64_t now_ms = loop_->now();
  for (const auto& [name, destination] : snapshot_->routes.destinations) {
    const Health::View view = destination->health->view(now_ms);
    observed.destinations.push_back({name, view.down, view.consecutive_failures});
  }
  for (const auto& certificate : snapshot_->certificates->all())
    observed.certificates.push_back({certificate->id, certificate->not_before, certificate->not_after});
  observed.ticket_key_age =
      static_cast<double>(process_state_.tickets->age(std::chrono::system_clock::now()).count());
  for (const Stale& stale : stale_now()) ++observed.stale[static_cast<size_t>(stale.item)];
  observed.preauth_held = process_state_.preauth->held();
  observed.preauth_limit = process_state_.preauth->limit();
  observed.start_time = start_time_;
  observed.ready = readiness().ready;
  observed.log_dropped = log::dropped();
  observed.cache_entries = snapshot_->routes.cache->entries();
  observed.mappings = snapshot_->routes.mapping ? snapshot_->routes.mapping->size() : 0;
  observed.store = observe_store();
  observed.names = names_.counts();
  return exposition(*counters_, observed);
}

std::vector<Stale> Server::stale_now() const {
  std::vector<Stale> all = snapshot_->stale;
  const bool known =
      std::ranges::any_of(all, [](const Stale& stale) { return stale.item == Stale::Item::ticket_keys; });
  if (ticket_file_bad_ && !known) all.push_back({Stale::Item::ticket_keys, {}});
  return all;
}

Readiness Server::readiness() const {
  if (draining_) return {false, "draining"};
  if (!snapshot_->certificates->usable()) return {false, "a certificate has expired"};
  if (snapshot_->store && !store_seen()) return {false, "mapping store not reached yet"};
  return {true, "ready"};
}

}  // namespace postern::proxy
