// SPDX-License-Identifier: GPL-3.0-or-later
// From a checked Config to running objects. Runs at start and, for a reload, off the workers' loops.
#include "proxy/snapshot.hpp"

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

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

std::shared_ptr<const Destination> make_destination(const conf::DestinationConf& conf, const Lasting& lasting,
                                                    const Snapshot* previous,
                                                    std::shared_ptr<const tls::TrustStore>& trust,
                                                    conf::Problems& problems) {
  auto made = std::make_shared<Destination>();
  made->conf = conf;
  if (auto ip = conf::Ip::parse(conf.host)) made->literal = *ip;
  made->counters = lasting.counters->destination(conf.name);
  made->resume.resize(lasting.counters->workers.size());
  if (uses_tls(conf) && !problems.blames(conf.path)) {
    if (!trust) trust = tls::TrustStore::load();
    if (!trust->problem().empty() && !conf.tls_allow_invalid_certs)
      problems.warn(conf.path, trust->problem());
    if (auto context = tls::ClientContext::make(conf, trust))
      made->tls = std::move(*context);
    else
      problems.add(conf.path, context.error().text);
  }
  if (previous) {
    const auto old = previous->destinations.find(conf.name);
    if (old != previous->destinations.end() && same_backend(old->second->conf, conf))
      made->health = old->second->health;
  }
  if (!made->health) made->health = std::make_shared<Health>();
  return made;
}

/// What of a listener cannot change while it listens.
std::string fixed_changes(const conf::ListenerConf& now, const conf::ListenerConf& wanted) {
  std::string changed;
  const auto note = [&](bool differs, const char* what) {
    if (!differs) return;
    if (!changed.empty()) changed += ", ";
    changed += what;
  };
  note(now.bind != wanted.bind, "bind");
  note(now.protocol != wanted.protocol, "protocol");
  note(now.tls_mode != wanted.tls_mode, "tls");
  note(!(now.socket == wanted.socket), "socket");
  return changed;
}

void finish_listener(ListenerRuntime& listener, const Snapshot& snapshot, const Lasting& lasting,
                     conf::Problems& problems) {
  const conf::ListenerConf& conf = listener.conf;
  listener.counters = lasting.counters->listener(conf.name, conf.protocol);
  if (!listener.occupancy) listener.occupancy = std::make_shared<Occupancy>();
  if (conf.tls_mode != conf::TlsMode::plain && problems.ok()) {
    auto context = tls::ServerContext::make(conf.tls, snapshot.certificates, lasting.tickets,
                                            protocols::alpn_names(conf.protocol));
    if (context)
      listener.tls = std::move(*context);
    else
      problems.add(conf.path, context.error().text);
  }
  if (conf::passthrough(conf.protocol)) {
    const auto found = snapshot.destinations.find(snapshot.config.routing.smtp_passthrough_destination);
    if (found != snapshot.destinations.end()) listener.passthrough = found->second;
  }
}

/// The listeners of a reload: the running ones, in their order, with what may change taken from the file.
std::vector<ListenerRuntime> next_listeners(const conf::Config& config, const Snapshot& previous,
                                            std::vector<bool>& kept, std::vector<std::string>& restart) {
  std::vector<ListenerRuntime> listeners;
  for (const ListenerRuntime& running : previous.listeners) {
    const auto wanted = std::ranges::find(config.listeners, running.conf.name, &conf::ListenerConf::name);
    if (wanted == config.listeners.end()) {
      restart.push_back(running.conf.path + " (removed)");
      listeners.push_back(running);
      kept.push_back(true);
      continue;
    }
    ListenerRuntime next;
    next.conf = *wanted;
    next.occupancy = running.occupancy;
    if (const std::string changed = fixed_changes(running.conf, *wanted); !changed.empty())
      restart.push_back(wanted->path + ": " + changed);
    next.conf.bind = running.conf.bind;
    next.conf.socket = running.conf.socket;
    const bool same_kind =
        next.conf.protocol == running.conf.protocol && next.conf.tls_mode == running.conf.tls_mode;
    if (!same_kind) next = running;  // its other settings belong to another kind of listener
    listeners.push_back(std::move(next));
    kept.push_back(!same_kind);
  }
  for (const conf::ListenerConf& wanted : config.listeners)
    if (std::ranges::none_of(previous.listeners, [&](const auto& l) { return l.conf.name == wanted.name; }))
      restart.push_back(wanted.path + " (added)");
  return listeners;
}

/// The mapping table; while files are only watched, a bad one leaves the table that is there.
void load_mapping(Snapshot& snapshot, const Snapshot* previous, Rotation rotation, conf::Problems& problems) {
  if (problems.blames("mapping")) return;
  const std::shared_ptr<const MappingStore> old = previous ? previous->mapping : nullptr;
  if (!previous || rotation == Rotation::strict) {
    snapshot.mapping = FileMapping::load(snapshot.config, old, problems);
    return;
  }
  conf::Problems found(problems.file());
  snapshot.mapping = FileMapping::load(snapshot.config, old, found);
  if (snapshot.mapping) return;
  for (const conf::Problem& problem : found.all())
    problems.warn("mapping.file.path", "kept the last good table: " + problem.line());
  snapshot.mapping = old;
}

void note_process_changes(const conf::Config& now, const conf::Config& wanted,
                          std::vector<std::string>& restart) {
  if (now.server.threads != wanted.server.threads) restart.emplace_back("server.threads");
  if (now.server.core_dumps != wanted.server.core_dumps) restart.emplace_back("server.core_dumps");
  if (now.metrics.has_value() != wanted.metrics.has_value() ||
      (now.metrics && now.metrics->bind != wanted.metrics->bind))
    restart.emplace_back("metrics.bind");
  if (now.mapping.cache_max_entries != wanted.mapping.cache_max_entries)
    restart.emplace_back("mapping.cache_max_entries");
  if (now.mapping.positive_ttl != wanted.mapping.positive_ttl) restart.emplace_back("mapping.positive_ttl");
  if (now.mapping.negative_ttl != wanted.mapping.negative_ttl) restart.emplace_back("mapping.negative_ttl");
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

std::shared_ptr<const Snapshot> make_snapshot(conf::Config config, const Lasting& lasting,
                                              const Snapshot* previous, Rotation rotation,
                                              conf::Problems& problems, std::vector<std::string>& restart) {
  auto made = std::make_shared<Snapshot>();
  made->config = std::move(config);
  const conf::ServerConf& server = made->config.server;
  made->health = {server.host_down_threshold, server.host_down_min_clients,
                  static_cast<uint64_t>(server.host_down_cooldown.count())};
  made->own = lasting.own;
  const bool lenient = previous && rotation == Rotation::keep_last_good;
  std::vector<conf::CertificateConf> entries = made->config.certificates;
  std::erase_if(entries, [&](const auto& entry) { return problems.blames(entry.path); });
  made->certificates =
      tls::CertificateStore::load(entries, lenient ? previous->certificates.get() : nullptr, problems);

  std::shared_ptr<const tls::TrustStore> trust;
  for (const conf::DestinationConf& conf : made->config.destinations)
    made->destinations.emplace(conf.name, make_destination(conf, lasting, previous, trust, problems));

  // It changes what the running snapshot uses, so only when everything else is right; and before the
  // listeners, which must know whether there are tickets.
  if (problems.ok()) {
    if (auto configured = lasting.tickets->configure(made->config.tickets); !configured)
      problems.add("tls.tickets.file", configured.error().text);
    else if (const std::string& text = lasting.tickets->warning(); !text.empty())
      problems.warn("tls.tickets.file", text);
  }

  load_mapping(*made, previous, rotation, problems);
  made->cache = lasting.cache;
  made->era = previous ? previous->era + 1 : 0;

  std::vector<bool> kept;  // listeners that go on exactly as they were, with their old destination
  if (previous) {
    made->listeners = next_listeners(made->config, *previous, kept, restart);
    note_process_changes(previous->config, made->config, restart);
  } else {
    for (const conf::ListenerConf& conf : made->config.listeners) {
      made->listeners.emplace_back().conf = conf;
      kept.push_back(false);
    }
  }
  for (size_t i = 0; i < made->listeners.size(); ++i)
    if (!kept[i]) finish_listener(made->listeners[i], *made, lasting, problems);

  return problems.ok() ? made : nullptr;
}

}  // namespace postern::proxy
