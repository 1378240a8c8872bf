// SPDX-License-Identifier: GPL-3.0-or-later
// Logins, the backend legs they took, and where their accounts were looked up.
#include "proxy/observe/exposition_page.hpp"

namespace postern::proxy {

void expose_logins(Page& page, const Counters& counters, const Observed& seen) {
  std::array<bool, interactive_count> listened{};
  for (const auto& l : counters.listeners())
    if (conf::interactive(l->protocol)) listened[static_cast<size_t>(l->protocol)] = true;

  page.family("postern_auth_total", MetricType::Counter,
              "Logins by how they ended: ok and rejected by a backend, malformed, refused for want of "
              "privacy or for the name, or"
              " without a backend to ask. `command` is LOGIN or USER and PASS.");
  for (size_t p = 0; p < interactive_count; ++p)
    for (size_t m = 0; m < auth_method_names.size(); ++m)
      for (size_t r = 0; r < auth_result_names.size(); ++r) {
        const uint64_t n = sum(counters.workers, [&](const WorkerCells& w) { return w.auth[p][m][r].get(); });
        const bool always = listened[p] && r <= static_cast<size_t>(AuthResult::rejected) &&
                            auth_method_names[m] != std::string_view("unknown");
        if (n != 0 || always)
          page.counter({{"protocol", protocol_name(p)},
                        {"mechanism", auth_method_names[m]},
                        {"result", auth_result_names[r]}},
                       n);
      }

  page.family(
      "postern_backend_stage_seconds", MetricType::Histogram,
      "The backend leg of a login: connecting (with TLS from the first byte), the conversation up to the"
      " credentials, and the answer to them.");
  for (size_t s = 0; s < leg_stage_names.size(); ++s) {
    HistogramSum<connect_bounds.size()> h;
    for (const WorkerCells& w : counters.workers) h.add(w.leg_stages[s]);
    page.histogram({{"stage", leg_stage_names[s]}}, connect_bounds, h.counts, h.sum_us);
  }

  page.family("postern_cache_hits_total", MetricType::Counter, "Accounts whose destination was remembered.");
  page.counter({}, sum(counters.workers, [](const WorkerCells& w) { return w.cache_hits.get(); }));
  page.family("postern_cache_misses_total", MetricType::Counter, "Accounts that had to be looked up.");
  page.counter({}, sum(counters.workers, [](const WorkerCells& w) { return w.cache_misses.get(); }));
  page.family("postern_cache_entries", MetricType::Gauge, "Answers remembered that could still be used.");
  page.gauge({}, seen.cache_entries);
  page.family("postern_mappings", MetricType::Gauge, "Accounts in the mapping table.");
  page.gauge({}, seen.mappings);
  page.family("postern_store_lookups_total", MetricType::Counter,
              "Questions to the mapping store, by answer.");
  for (size_t i = 0; i < lookup_names.size(); ++i)
    page.counter({{"result", lookup_names[i]}},
                 counters.store.lookups[i].get() +
                     sum(counters.workers, [i](const WorkerCells& w) { return w.lookups[i].get(); }));
  page.family("postern_store_lookup_seconds", MetricType::Histogram,
              "How long the mapping store took to answer.");
  HistogramSum<lookup_bounds.size()> lookups;
  lookups.add(counters.store.lookup_seconds);
  for (const WorkerCells& w : counters.workers) lookups.add(w.lookup_seconds);
  page.histogram({}, lookup_bounds, lookups.counts, lookups.sum_us);
  if (!seen.store) return;
  page.family("postern_store_up", MetricType::Gauge,
              "1 while the account store answers, 0 while it does not or has not been reached yet.");
  page.gauge({}, seen.store->up ? 1.0 : 0.0);
  page.family("postern_store_connections", MetricType::Gauge, "Connections to the account store.");
  page.gauge({}, static_cast<double>(seen.store->connections));
  page.family("postern_store_served_stale_total", MetricType::Counter,
              "Logins that got the last known answer about their account because the store gave none.");
  page.counter({}, counters.store.served_stale.get());
  if (!seen.store->snapshot_age) return;
  page.family("postern_store_snapshot_age_seconds", MetricType::Gauge,
              "How old mapping.snapshot, the copy of known answers on disk, is.");
  page.gauge({}, *seen.store->snapshot_age);
}

}  // namespace postern::proxy
