// SPDX-License-Identifier: GPL-3.0-or-later
// One function a family of metrics. Series of what is configured are there from the start, at zero; others
// appear when they first count. No label carries an account name or a client address.
#include "proxy/observe/exposition.hpp"

#include <map>
#include <string_view>

#include "proxy/observe/exposition_page.hpp"

namespace postern::proxy {
namespace {

void about(Page& page, const Observed& seen) {
  page.family("postern_build_info", MetricType::Gauge, "Always 1; what is running, in the labels.");
  page.gauge({{"version", seen.version}, {"tls_library", seen.tls_library}}, 1.0);
  page.family("postern_ready", MetricType::Gauge,
              "1 while /readyz says ready, 0 while starting or draining.");
  page.gauge({}, seen.ready ? 1.0 : 0.0);
}

void connections(Page& page, const Counters& counters, const Observed& seen) {
  const auto listeners = counters.listeners();
  page.family("postern_connections_active", MetricType::Gauge, "Client connections open now.");
  for (const auto& l : listeners) {
    const uint64_t closed = sum(l->workers, [](const ListenerCells& c) { return c.closed.get(); });
    const uint64_t opened = sum(l->workers, [](const ListenerCells& c) { return c.accepted.get(); });
    page.gauge({{"listener", l->name}, {"protocol", conf::name(l->protocol)}}, active(opened, closed));
  }
  page.family("postern_connections_limit", MetricType::Gauge,
              "max_connections: client connections a listener admits at a time.");
  for (const auto& l : seen.listeners)
    page.gauge({{"listener", l.name}, {"protocol", conf::name(l.protocol)}}, l.limit);
  page.family("postern_connections_total", MetricType::Counter,
              "Client connections admitted; those over a limit are in rejected.");
  for (const auto& l : listeners)
    page.counter({{"listener", l->name}, {"protocol", conf::name(l->protocol)}},
                 sum(l->workers, [](const ListenerCells& c) { return c.accepted.get(); }));
  page.family(
      "postern_connections_rejected_total", MetricType::Counter,
      "Client connections closed before a session: over a limit (limit, client_limit), to make room for "
      "another client (made_room) or in memory (preauth_memory), without a good PROXY header, by TLS, for "
      "want of time, or for max_errors.");
  std::map<std::string_view, std::array<uint64_t, rejected_names.size()>>
      rejected;  // a name may have had protocols
  for (const auto& l : listeners)
    for (size_t i = 0; i < rejected_names.size(); ++i)
      rejected[l->name][i] += sum(l->workers, [i](const ListenerCells& c) { return c.rejected[i].get(); });
  for (const auto& [name, counts] : rejected)
    for (size_t i = 0; i < counts.size(); ++i)
      page.counter({{"listener", name}, {"reason", rejected_names[i]}}, counts[i]);
}

void preauth(Page& page, const Observed& seen) {
  page.family("postern_preauth_memory_bytes", MetricType::Gauge,
              "Memory held by connections that have not logged in.");
  page.gauge({}, static_cast<double>(seen.preauth_held));
  page.family("postern_preauth_memory_limit_bytes", MetricType::Gauge,
              "server.preauth_memory: above it some of them are closed.");
  page.gauge({}, static_cast<double>(seen.preauth_limit));
}

std::string_view group_name(size_t i) {
  return i + 1 < tls_group_count ? conf::name(static_cast<conf::Group>(i)) : std::string_view("unknown");
}

void tls_use(Page& page, const Counters& counters) {
  struct Side {
    const char* name;
    TlsSide WorkerCells::*cells;
  };
  constexpr std::array<Side, 2> sides = {
      {{"client", &WorkerCells::client}, {"backend", &WorkerCells::backend}}};
  const auto count = [&counters](const Side& side, auto of) {
    return sum(counters.workers, [&](const WorkerCells& w) -> uint64_t { return of(w.*side.cells); });
  };
  page.family("postern_tls_handshakes_total", MetricType::Counter,
              "TLS handshakes that ended, toward clients and toward backends, by version and how.");
  for (const Side& side : sides)
    for (size_t v = 0; v < tls_version_names.size(); ++v)
      for (size_t r = 0; r < tls_result_count; ++r) {
        const uint64_t n = count(side, [&](const TlsSide& c) { return c.handshakes[v][r].get(); });
        const bool always = r == 0 && v != 0;  // failures are a long list: they appear when they happen
        if (n != 0 || always)
          page.counter(
              {{"side", side.name}, {"version", tls_version_names[v]}, {"result", tls_result_name(r)}}, n);
      }
  page.family("postern_tls_groups_total", MetricType::Counter,
              "Completed TLS handshakes by key exchange group.");
  for (const Side& side : sides)
    for (size_t g = 0; g < tls_group_count; ++g) {
      const uint64_t n = count(side, [g](const TlsSide& c) { return c.groups[g].get(); });
      if (n != 0 || g + 1 < tls_group_count) page.counter({{"side", side.name}, {"group", group_name(g)}}, n);
    }
  page.family("postern_tls_resumptions_total", MetricType::Counter,
              "Completed TLS handshakes that resumed an earlier session.");
  for (const Side& side : sides)
    page.counter({{"side", side.name}}, count(side, [](const TlsSide& c) { return c.resumed.get(); }));
  page.family(
      "postern_tls_key_update_floods_total", MetricType::Counter,
      "TLS conversations ended because the peer sent more than 32 key updates in a second, or asked for"
      " more than 3 answers without taking them.");
  for (const Side& side : sides)
    page.counter({{"side", side.name}},
                 count(side, [](const TlsSide& c) { return c.key_update_floods.get(); }));
}

void tls_material(Page& page, const Observed& seen) {
  page.family(
      "postern_tls_ticket_key_age_seconds", MetricType::Gauge,
      "Age of the key that new session tickets are made with; above tls.tickets.rotate it is overdue.");
  page.gauge({}, seen.ticket_key_age);
  page.family("postern_certificate_not_after_timestamp_seconds", MetricType::Gauge,
              "When the certificate in use expires, as a Unix time stamp.");
  for (const auto& c : seen.certificates)
    page.gauge({{"certificate", c.id}}, static_cast<double>(c.not_after));
  page.family("postern_certificate_not_before_timestamp_seconds", MetricType::Gauge,
              "When its lifetime began: the alerts go by the share of it that is left.");
  for (const auto& c : seen.certificates)
    page.gauge({{"certificate", c.id}}, static_cast<double>(c.not_before));
}

void stale(Page& page, const Observed& seen) {
  page.family("postern_stale", MetricType::Gauge,
              "Items served from an older state of their file because it is bad now, by kind.");
  for (size_t i = 0; i < stale_names.size(); ++i) page.gauge({{"item", stale_names[i]}}, seen.stale[i]);
}

void sessions(Page& page, const Counters& counters) {
  const auto destinations = counters.destinations();
  using PerProtocol = DestinationCells::PerProtocol;
  // Every destination could in principle serve every protocol: only pairs that were ever tried have series.
  const auto each_used = [&](auto visit) {
    for (const auto& d : destinations)
      for (size_t p = 0; p < conf::protocol_count; ++p) {
        const auto pick = [&](auto of) {
          return sum(d->workers, [&](const DestinationCells& c) -> uint64_t { return of(c.protocol[p]); });
        };
        if (pick([](const PerProtocol& c) { return c.opened.get() + total(c.ended) + total(c.attempts); }) !=
            0)
          visit(d->name, protocol_name(p), pick);
      }
  };
  page.family("postern_sessions_active", MetricType::Gauge, "Sessions joined to a backend now.");
  each_used([&](const std::string& d, std::string_view p, auto pick) {
    const uint64_t ended = pick([](const PerProtocol& c) { return total(c.ended); });
    const uint64_t opened = pick([](const PerProtocol& c) { return c.opened.get(); });
    page.gauge({{"protocol", p}, {"destination", d}}, active(opened, ended));
  });
  page.family("postern_sessions_total", MetricType::Counter,
              "Sessions that were joined to a backend and ended, by why.");
  each_used([&](const std::string& d, std::string_view p, auto pick) {
    for (size_t i = 0; i < end_reason_names.size(); ++i)
      page.counter({{"protocol", p}, {"destination", d}, {"reason", end_reason_names[i]}},
                   pick([i](const PerProtocol& c) { return c.ended[i].get(); }));
  });
  page.family(
      "postern_backend_attempts_total", MetricType::Counter,
      "Uses of a backend: ok, failed to connect, failed later (TLS, greeting), unanswered (ready, but "
      "silent or gone once it had the credentials), or refused beforehand (breaker open, a loop).");
  each_used([&](const std::string& d, std::string_view p, auto pick) {
    for (size_t i = 0; i < attempt_names.size(); ++i)
      page.counter({{"destination", d}, {"protocol", p}, {"result", attempt_names[i]}},
                   pick([i](const PerProtocol& c) { return c.attempts[i].get(); }));
  });
  page.family("postern_destination_probes_total", MetricType::Counter,
              "Postern's own trials of a destination that was suspected or down, by what they found.");
  each_used([&](const std::string& d, std::string_view p, auto pick) {
    for (size_t i = 0; i < probe_result_names.size(); ++i)
      page.counter({{"destination", d}, {"protocol", p}, {"result", probe_result_names[i]}},
                   pick([i](const PerProtocol& c) { return c.probes[i].get(); }));
  });
  page.family("postern_backend_connect_seconds", MetricType::Histogram,
              "Time until a backend was ready to speak: name, connection and TLS.");
  for (const auto& d : destinations) {
    HistogramSum<connect_bounds.size()> h;
    for (const DestinationCells& c : d->workers) h.add(c.connect);
    page.histogram({{"destination", d->name}}, connect_bounds, h.counts, h.sum_us);
  }
}

void destinations(Page& page, const Observed& seen) {
  page.family("postern_destination_down", MetricType::Gauge,
              "1 while logins are not sent to the destination because it failed too often.");
  for (const auto& d : seen.destinations) page.gauge({{"destination", d.name}}, d.down ? 1.0 : 0.0);
  page.family("postern_destination_consecutive_failures", MetricType::Gauge,
              "Failures in a row of a destination; at server.host_down_threshold Postern tries it itself.");
  for (const auto& d : seen.destinations)
    page.gauge({{"destination", d.name}}, static_cast<double>(d.consecutive_failures));
}

void traffic(Page& page, const Counters& counters) {
  std::array<bool, conf::protocol_count> listened{};
  for (const auto& l : counters.listeners()) listened[static_cast<size_t>(l->protocol)] = true;
  page.family("postern_relayed_bytes_total", MetricType::Counter,
              "Bytes passed on between clients and backends, without TLS.");
  for (size_t p = 0; p < conf::protocol_count; ++p) {
    const uint64_t up =
        sum(counters.workers, [p](const WorkerCells& w) { return w.bytes_to_backend[p].get(); });
    const uint64_t down =
        sum(counters.workers, [p](const WorkerCells& w) { return w.bytes_to_client[p].get(); });
    if (!listened[p] && up == 0 && down == 0) continue;
    page.counter({{"protocol", protocol_name(p)}, {"direction", "to_backend"}}, up);
    page.counter({{"protocol", protocol_name(p)}, {"direction", "to_client"}}, down);
  }
  page.family("postern_session_seconds", MetricType::Histogram, "How long sessions that ended had lasted.");
  for (size_t p = 0; p < conf::protocol_count; ++p) {
    HistogramSum<session_bounds.size()> h;
    for (const WorkerCells& w : counters.workers) h.add(w.session_seconds[p]);
    if (listened[p] || !h.empty())
      page.histogram({{"protocol", protocol_name(p)}}, session_bounds, h.counts, h.sum_us);
  }
}

void health(Page& page, const Counters& counters, const Observed& seen) {
  page.family("postern_loop_lag_seconds", MetricType::Histogram,
              "How late a worker's timer fired: time in which a loop could serve nobody else.");
  HistogramSum<lag_bounds.size()> lag;
  for (const WorkerCells& w : counters.workers) lag.add(w.loop_lag);
  page.histogram({}, lag_bounds, lag.counts, lag.sum_us);
  page.family("postern_accept_pauses_total", MetricType::Counter,
              "Times a listener paused accepting because descriptors or memory ran out.");
  page.counter({}, sum(counters.workers, [](const WorkerCells& w) { return w.accept_pauses.get(); }));
  page.family(
      "postern_out_of_memory_total", MetricType::Counter,
      "Connections, trials and tasks that ended, or were put off, for want of memory or descriptors.");
  page.counter({}, counters.out_of_memory.load(std::memory_order_relaxed) +
                       counters.store.out_of_memory.get() +
                       sum(counters.workers, [](const WorkerCells& w) { return w.out_of_memory.get(); }));
  page.family("postern_reloads_total", MetricType::Counter, "Reloads of the configuration, by result.");
  page.counter({{"result", "ok"}}, counters.reloads_ok.load(std::memory_order_relaxed));
  page.counter({{"result", "failed"}}, counters.reloads_failed.load(std::memory_order_relaxed));
  page.family("postern_log_records_dropped_total", MetricType::Counter,
              "Log records lost because nobody read standard output fast enough.");
  page.counter({}, seen.log_dropped);
}

void names(Page& page, const Observed& seen) {
  page.family(
      "postern_name_lookups_total", MetricType::Counter,
      "Lookups of destinations' names: found, absent (no such name, or it has no address), or silent (no"
      " answer, or none that says anything).");
  for (size_t i = 0; i < name_result_names.size(); ++i)
    page.counter({{"result", name_result_names[i]}}, seen.names.lookups[i]);
  page.family("postern_name_lookups_active", MetricType::Gauge, "Lookups of names under way now.");
  page.gauge({}, seen.names.in_flight);
  page.family("postern_name_last_good_total", MetricType::Counter,
              "Times the last good addresses of a name were used because no answer was to be had.");
  page.counter({}, seen.names.last_good_uses);
}

/// The names every exporter uses.
void process(Page& page, const Observed& seen) {
  page.family("process_start_time_seconds", MetricType::Gauge, "Start of the process, as a Unix time stamp.");
  page.gauge({}, seen.start_time);
  page.family("process_cpu_seconds_total", MetricType::Counter, "User and system CPU time used.");
  page.counter({}, seen.process.cpu_seconds);
  page.family("process_resident_memory_bytes", MetricType::Gauge, "Resident memory.");
  page.gauge({}, seen.process.resident_bytes);
  page.family("process_virtual_memory_bytes", MetricType::Gauge, "Virtual memory.");
  page.gauge({}, seen.process.virtual_bytes);
  page.family("process_open_fds", MetricType::Gauge, "Open file descriptors.");
  page.gauge({}, seen.process.open_fds);
  page.family("process_max_fds", MetricType::Gauge, "Limit of open file descriptors.");
  page.gauge({}, seen.process.max_fds);
}

}  // namespace

std::string exposition(const Counters& counters, const Observed& observed) {
  Page page;
  about(page, observed);
  connections(page, counters, observed);
  preauth(page, observed);
  tls_use(page, counters);
  tls_material(page, observed);
  stale(page, observed);
  sessions(page, counters);
  expose_logins(page, counters, observed);
  traffic(page, counters);
  destinations(page, observed);
  names(page, observed);
  health(page, counters, observed);
  process(page, observed);
  return page.text();
}

}  // namespace postern::proxy
