// SPDX-License-Identifier: GPL-3.0-or-later
// From a checked Config to running objects. Runs at start and, for a reload, off the workers' loops.
#include "proxy/server/make_snapshot.hpp"

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

#include "conf/schema/changes.hpp"
#include "protocols/registry.hpp"

namespace postern::proxy {
namespace {

bool uses_tls(const conf::DestinationConf& destination) {
  return std::ranges::any_of(destination.legs,
                             [](const auto& leg) { return leg && leg->tls != conf::TlsMode::plain; });
}

/// Health survives a reload if the backend is still the same: host and legs (management.md 4.10).
bool same_backend(const conf::DestinationConf& a, const conf::DestinationConf& b) {
  if (a.host != b.host) return false;
  for (size_t i = 0; i < conf::protocol_count; ++i) {
    if (a.legs[i].has_value() != b.legs[i].has_value()) return false;
    if (a.legs[i] && (a.legs[i]->port != b.legs[i]->port || a.legs[i]->tls != b.legs[i]->tls)) return false;
  }
  return true;
}

/// One snapshot on its way, and what its steps share.
struct Making {
  Snapshot& made;
  const ProcessState& state;
  const Snapshot* previous;  // null: the first
  bool lenient;              // a bad file leaves what was made of its last good state
  conf::Problems& problems;

  void keep(Stale::Item item, const std::string& name, const std::string& key, const std::string& why) const {
    problems.warn(key, why + "; what it last held stays in use");
    made.stale.push_back({item, name});
  }
  void done(std::string_view step) const {
    if (state.step_done) state.step_done(step, problems);
  }
};

/// The roots that backends are verified by; the ones that are there, if their files have not changed.
void load_trust(const Making& making, const conf::DestinationConf& wants) {
  auto& trust = making.made.trust;
  const auto old = making.previous ? making.previous->trust : nullptr;
  if (!trust) trust = tls::TrustStore::load(old);
  if (trust->problem().empty() || wants.tls_allow_invalid_certs) return;
  const bool lost = old && old->roots() > 0 && !trust->read_any();
  if (lost && making.lenient) {
    making.keep(Stale::Item::roots, {}, wants.path, trust->problem());
    trust = old;
  } else if (lost) {
    making.problems.add(wants.path, trust->problem());
  }
}

/// How to speak TLS to a backend; null if it is not spoken, or cannot be.
std::shared_ptr<const tls::ClientContext> make_client(const Making& making, const conf::DestinationConf& conf,
                                                      const Destination* old) {
  conf::Problems& problems = making.problems;
  if (!uses_tls(conf) || problems.blames(conf.path)) return nullptr;
  load_trust(making, conf);
  const auto& trust = making.made.trust;
  if (!trust->problem().empty() && !conf.tls_allow_invalid_certs && !problems.blames(conf.path))
    problems.warn(conf.path, trust->problem());
  auto context = tls::ClientContext::make(conf, trust);
  if (!context) {
    if (!making.lenient || !old || !old->tls) {
      problems.add(conf.path, context.error().text);
      return nullptr;
    }
    making.keep(Stale::Item::client_certificate, conf.name, conf.path, context.error().text);
    return old->tls;
  }
  if (const std::string& text = (*context)->warning(); !text.empty())
    problems.warn(conf.path + ".tls_client_key", text);
  return *context;
}

std::shared_ptr<const Destination> make_destination(const Making& making, const conf::DestinationConf& conf) {
  std::shared_ptr<const Destination> old;
  if (making.previous)
    if (const auto found = making.previous->routes.destinations.find(conf.name);
        found != making.previous->routes.destinations.end())
      old = found->second;
  auto context = make_client(making, conf, old.get());
  // Nothing about it has changed: sessions to resume and all stay what they are.
  if (old && old->conf == conf &&
      (old->tls == context || (context && old->tls && context->same_as(*old->tls))))
    return old;
  auto made = std::make_shared<Destination>();
  made->conf = conf;
  if (auto ip = conf::Ip::parse(conf.host)) made->literal = *ip;
  made->counters = making.state.counters->destination(conf.name);
  made->resume.resize(making.state.counters->workers.size());
  made->tls = std::move(context);
  made->health = old && same_backend(old->conf, conf) ? old->health : std::make_shared<Health>();
  return made;
}

void finish_policy(const Making& making, ListenerPolicy& listener) {
  const conf::ListenerConf& conf = listener.conf;
  const Snapshot& snapshot = making.made;
  if (conf.tls_mode != conf::TlsMode::plain && making.problems.ok()) {
    auto context = tls::ServerContext::make(conf.tls, snapshot.certificates,
                                            tls::TicketUse::of(making.state.tickets, snapshot.config.tickets),
                                            protocols::alpn_names(conf.protocol));
    if (context)
      listener.tls = std::move(*context);
    else
      making.problems.add(conf.path, context.error().text);
  }
  if (conf::passthrough(conf.protocol)) {
    const auto found =
        snapshot.routes.destinations.find(snapshot.config.routing.smtp_passthrough_destination);
    if (found != snapshot.routes.destinations.end()) listener.passthrough = found->second;
  }
}

/// The listeners of a first start, in the file's order.
void first_listeners(const Making& making, const std::shared_ptr<const SessionPolicy>& session) {
  for (const conf::ListenerConf& conf : making.made.config.listeners) {
    auto policy = std::make_shared<ListenerPolicy>();
    policy->listener = std::make_shared<Listener>();
    policy->listener->name = conf.name;
    policy->listener->protocol = conf.protocol;
    policy->listener->occupancy = Occupancy::make(making.state.preauth);
    policy->listener->counters = making.state.counters->listener(conf.name, conf.protocol);
    policy->conf = conf;
    policy->session = session;
    finish_policy(making, *policy);
    making.made.listeners.push_back(std::move(policy));
  }
}

/// The listeners of a reload: the running ones, in their order, with what may change taken from the file. One
/// that the file no longer has, or has as another kind, goes on exactly as it was, with its old destination.
void next_listeners(const Making& making, const std::shared_ptr<const SessionPolicy>& session) {
  const auto& wanted_all = making.made.config.listeners;
  auto& listeners = making.made.listeners;
  for (const auto& running : making.previous->listeners) {
    const auto wanted = std::ranges::find(wanted_all, running->conf.name, &conf::ListenerConf::name);
    if (wanted == wanted_all.end()) {
      listeners.push_back(running);
      continue;
    }
    if (wanted->protocol != running->conf.protocol || wanted->tls_mode != running->conf.tls_mode) {
      listeners.push_back(running);  // its other settings belong to another kind of listener
      continue;
    }
    auto next = std::make_shared<ListenerPolicy>();
    next->listener = running->listener;
    next->conf = *wanted;
    next->conf.bind = running->conf.bind;
    next->conf.socket = running->conf.socket;
    next->session = session;
    finish_policy(making, *next);
    listeners.push_back(std::move(next));
  }
}

void load_certificates(const Making& making) {
  const conf::Config& config = making.made.config;
  std::vector<conf::CertificateConf> entries = config.certificates;
  std::erase_if(entries, [&](const auto& entry) { return making.problems.blames(entry.path); });
  std::vector<std::string> stale;
  making.made.certificates =
      tls::CertificateStore::load(entries, making.previous ? making.previous->certificates : nullptr,
                                  making.problems, making.lenient ? &stale : nullptr);
  for (std::string& id : stale) making.made.stale.push_back({Stale::Item::certificate, std::move(id)});
}

void plan_tickets(const Making& making) {
  if (making.problems.blames("tls.tickets")) return;
  auto plan = tls::TicketPlan::make(making.made.config.tickets);
  if (!plan) {
    if (making.lenient)
      making.keep(Stale::Item::ticket_keys, {}, "tls.tickets.file", plan.error().text);
    else
      making.problems.add("tls.tickets.file", plan.error().text);
    return;
  }
  if (!plan->warning.empty()) making.problems.warn("tls.tickets.file", plan->warning);
  making.made.tickets = std::move(*plan);
}

void load_mapping(const Making& making) {
  if (making.problems.blames("mapping")) return;
  if (making.made.config.mapping.source != conf::MappingSource::file) {
    making.made.store = plan_store(making.made.config, making.problems);
    return;
  }
  const std::shared_ptr<const MappingStore> old = making.previous ? making.previous->routes.mapping : nullptr;
  if (!making.lenient) {
    making.made.routes.mapping = FileMapping::load(making.made.config, old, making.problems);
    return;
  }
  conf::Problems found(making.problems.file());
  making.made.routes.mapping = FileMapping::load(making.made.config, old, found);
  if (making.made.routes.mapping) return;
  for (const conf::Problem& problem : found.all())
    making.problems.warn("mapping.file.path", "kept the last good table: " + problem.line());
  making.made.stale.push_back({Stale::Item::mapping, {}});
  making.made.routes.mapping = old;
}

/// What differs from what is in force and cannot be applied.
void note_restarts(const Making& making, std::vector<std::string>& restart) {
  std::vector<conf::ListenerConf> running;
  for (const auto& policy : making.previous->listeners) running.push_back(policy->conf);
  std::vector<conf::Change> changes = conf::listener_changes(running, making.made.config.listeners);
  const auto others = conf::other_changes(making.previous->config, making.made.config);
  changes.insert(changes.end(), others.begin(), others.end());
  for (const conf::Change& change : changes)
    if (change.applies == conf::Applies::restart) restart.push_back(change.key);
}

}  // namespace

bool same_answers(const conf::Config& a, const conf::Config& b) {
  const auto names = [](const conf::Config& config) {
    std::set<std::string_view> set;
    for (const conf::DestinationConf& destination : config.destinations) set.insert(destination.name);
    return set;
  };
  return a.mapping == b.mapping && names(a) == names(b);
}

std::shared_ptr<Snapshot> make_snapshot(conf::Config config, const ProcessState& state,
                                        const Snapshot* previous, Rotation rotation, conf::Problems& problems,
                                        std::vector<std::string>& restart) {
  auto made = std::make_shared<Snapshot>();
  const Making making{*made, state, previous, previous && rotation == Rotation::keep_last_good, problems};
  made->config = std::move(config);
  const conf::ServerConf& server = made->config.server;
  made->backend = std::make_shared<BackendPolicy>(
      BackendPolicy{.health = {server.host_down_threshold, server.host_down_min_clients,
                               static_cast<uint64_t>(server.host_down_cooldown.count())},
                    .timeout_ms = static_cast<uint64_t>(server.backend_timeout.count()),
                    .connect_retries = server.backend_connect_retries,
                    .stale_addresses_ms = static_cast<uint64_t>(server.stale_addresses.count()),
                    .hostname = server.hostname,
                    .own = state.own});
  made->routes.conf = made->config.routing;
  made->routes.normalize = made->config.mapping.normalize;
  made->routes.cache = state.cache;
  made->routes.era = previous ? previous->routes.era + 1 : 0;
  making.done("settings");

  load_certificates(making);
  making.done("certificates");
  for (const conf::DestinationConf& conf : made->config.destinations)
    made->routes.destinations.emplace(conf.name, make_destination(making, conf));
  making.done("destinations");
  plan_tickets(making);
  making.done("tickets");
  load_mapping(making);
  making.done("mapping");

  const auto session = std::make_shared<SessionPolicy>();
  session->server = made->config.server;
  std::ranges::copy(made->config.capabilities, session->capabilities);
  session->oauth = made->config.oauth;
  session->routing = made->config.routing;
  if (previous) {
    next_listeners(making, session);
    note_restarts(making, restart);
  } else {
    first_listeners(making, session);
  }
  making.done("listeners");
  return problems.ok() ? made : nullptr;
}

void publish(Snapshot& snapshot, const ProcessState& state) {
  for (const auto& listener : snapshot.listeners) state.counters->keep(listener->listener->counters);
  for (const auto& [name, destination] : snapshot.routes.destinations)
    state.counters->keep(destination->counters);
  if (snapshot.tickets) state.tickets->adopt(std::move(*snapshot.tickets));
  snapshot.tickets.reset();
}

}  // namespace postern::proxy
