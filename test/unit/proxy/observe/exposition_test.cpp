// SPDX-License-Identifier: GPL-3.0-or-later
// The page Prometheus gets: sums over workers, zeros from the start, no series nobody needs.
#include "proxy/observe/exposition.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>
#include <sstream>

#include "tls/engine.hpp"

using namespace postern;
using namespace postern::proxy;

namespace {

Observed observed() {
  Observed o;
  o.version = "0.1.0";
  o.tls_library = "wolfSSL 5.9.2";
  o.listeners = {{"imaps", conf::Protocol::imap, 8192}};
  o.destinations = {{"old", true, 6}, {"new", false, 0}};
  o.certificates = {{"default", 1'787'454'174, 1'795'230'174}};
  o.ticket_key_age = 61;
  o.start_time = 1'795'000'000.5;
  o.ready = true;
  o.log_dropped = 3;
  o.names.lookups = {7, 2, 1};
  o.names.last_good_uses = 40;
  o.names.in_flight = 1;
  return o;
}

// Asked while the cases are registered: one that is skipped is counted as such, and nothing counts as passed.
bool installed(const std::string& program) {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path == nullptr ? "" : path);
  for (std::string folder; std::getline(folders, folder, ':');)
    if (::access((folder + "/" + program).c_str(), X_OK) == 0) return true;
  return false;
}

bool has(const std::string& page, const std::string& line) {
  return ("\n" + page).find("\n" + line + "\n") != std::string::npos;
}

size_t series_of(const std::string& page, const std::string& name) {
  size_t n = 0;
  std::istringstream in(page);
  for (std::string line; std::getline(in, line);)
    n += line.starts_with(name + "{") || line.starts_with(name + " ");
  return n;
}

}  // namespace

TEST_CASE("counts of all workers are added up") {
  Counters counters(3);
  const auto l = counters.keep(counters.listener("imaps", conf::Protocol::imap));
  l->workers[0].accepted.add(5);
  l->workers[1].accepted.add(2);
  l->workers[2].closed.add(3);
  l->workers[1].rejected[static_cast<size_t>(Rejected::timeout)].add(4);
  const auto d = counters.keep(counters.destination("old"));
  auto& imap0 = d->workers[0].protocol[0];
  imap0.opened.add(3);
  imap0.attempts[static_cast<size_t>(AttemptResult::ok)].add(3);
  imap0.probes[1].add(2);
  d->workers[2].protocol[0].ended[static_cast<size_t>(EndReason::idle)].add();
  d->workers[0].connect.observe(connect_bounds, 700);
  d->workers[1].connect.observe(connect_bounds, 20'000'000);
  counters.workers[0].bytes_to_client[0].add(1000);
  counters.workers[2].bytes_to_client[0].add(24);
  counters.workers[1].session_seconds[0].observe(session_bounds, 90'000'000);
  counters.workers[1].loop_lag.observe(lag_bounds, 250);
  counters.workers[2].accept_pauses.add();
  counters.workers[0].client.handshakes[2][0].add(9);
  counters.workers[1].client.handshakes[0][1 + static_cast<size_t>(tls::Failure::alpn)].add(2);
  counters.workers[1].client.handshakes[0][tls_result_count - 1].add();
  counters.workers[0].client.key_update_floods.add();
  counters.workers[1].client.groups[0].add(8);
  counters.workers[1].backend.resumed.add();
  counters.reloads_ok = 2;

  const std::string page = exposition(counters, observed());
  for (const char* line : {
           "postern_build_info{version=\"0.1.0\",tls_library=\"wolfSSL 5.9.2\"} 1",
           "postern_ready 1",
           "postern_connections_active{listener=\"imaps\",protocol=\"imap\"} 4",
           "postern_connections_limit{listener=\"imaps\",protocol=\"imap\"} 8192",
           "postern_connections_total{listener=\"imaps\",protocol=\"imap\"} 7",
           "postern_connections_rejected_total{listener=\"imaps\",reason=\"timeout\"} 4",
           "postern_connections_rejected_total{listener=\"imaps\",reason=\"limit\"} 0",
           "postern_tls_handshakes_total{side=\"client\",version=\"1.3\",result=\"ok\"} 9",
           "postern_tls_handshakes_total{side=\"client\",version=\"none\",result=\"timeout\"} 1",
           "postern_tls_handshakes_total{side=\"backend\",version=\"1.2\",result=\"ok\"} 0",
           "postern_tls_groups_total{side=\"client\",group=\"X25519MLKEM768\"} 8",
           "postern_tls_resumptions_total{side=\"backend\"} 1",
           "postern_tls_key_update_floods_total{side=\"client\"} 1",
           "postern_tls_key_update_floods_total{side=\"backend\"} 0",
           "postern_tls_ticket_key_age_seconds 61",
           "postern_certificate_not_after_timestamp_seconds{certificate=\"default\"} 1795230174",
           "postern_certificate_not_before_timestamp_seconds{certificate=\"default\"} 1787454174",
           "postern_sessions_active{protocol=\"imap\",destination=\"old\"} 2",
           "postern_sessions_total{protocol=\"imap\",destination=\"old\",reason=\"idle\"} 1",
           "postern_sessions_total{protocol=\"imap\",destination=\"old\",reason=\"kicked\"} 0",
           "postern_backend_attempts_total{destination=\"old\",protocol=\"imap\",result=\"ok\"} 3",
           "postern_backend_attempts_total{destination=\"old\",protocol=\"imap\",result=\"unanswered\"} 0",
           "postern_destination_probes_total{destination=\"old\",protocol=\"imap\",result=\"down\"} 2",
           "postern_backend_connect_seconds_count{destination=\"old\"} 2",
           "postern_backend_connect_seconds_sum{destination=\"old\"} 20.0007",
           "postern_backend_connect_seconds_bucket{destination=\"old\",le=\"0.0005\"} 0",
           "postern_backend_connect_seconds_bucket{destination=\"old\",le=\"0.001\"} 1",
           "postern_backend_connect_seconds_bucket{destination=\"old\",le=\"10\"} 1",
           "postern_backend_connect_seconds_bucket{destination=\"old\",le=\"+Inf\"} 2",
           "postern_relayed_bytes_total{protocol=\"imap\",direction=\"to_client\"} 1024",
           "postern_session_seconds_bucket{protocol=\"imap\",le=\"120\"} 1",
           "postern_loop_lag_seconds_bucket{le=\"0.0005\"} 1",
           "postern_accept_pauses_total 1",
           "postern_destination_down{destination=\"old\"} 1",
           "postern_destination_consecutive_failures{destination=\"old\"} 6",
           "postern_name_lookups_total{result=\"found\"} 7",
           "postern_name_lookups_total{result=\"silent\"} 1",
           "postern_name_lookups_active 1",
           "postern_name_last_good_total 40",
           "postern_reloads_total{result=\"ok\"} 2",
           "postern_log_records_dropped_total 3",
           "process_start_time_seconds 1795000000.5",
       })
    CHECK_MESSAGE(has(page, line), line);
  CHECK(series_of(page, "postern_tls_handshakes_total") == 4 + 2);
}

TEST_CASE("what is configured starts at zero, what was never used has no series") {
  Counters counters(2);
  counters.keep(counters.listener("smtp", conf::Protocol::smtp));
  counters.keep(counters.destination("old"));
  const std::string page = exposition(counters, observed());
  CHECK(has(page, "postern_connections_total{listener=\"smtp\",protocol=\"smtp\"} 0"));
  CHECK(has(page, "postern_relayed_bytes_total{protocol=\"smtp\",direction=\"to_backend\"} 0"));
  CHECK(has(page, "postern_backend_connect_seconds_count{destination=\"old\"} 0"));
  CHECK(series_of(page, "postern_relayed_bytes_total") == 2);
  CHECK(series_of(page, "postern_session_seconds_count") == 1);
  CHECK(series_of(page, "postern_sessions_total") == 0);
  CHECK(series_of(page, "postern_backend_attempts_total") == 0);
  CHECK(series_of(page, "postern_tls_handshakes_total") == 4);
  CHECK(page.find("# TYPE postern_sessions_total") == std::string::npos);
}

TEST_CASE("a gauge read in a busy moment is never below zero") {
  Counters counters(1);
  counters.keep(counters.listener("l", conf::Protocol::imap))->workers[0].closed.add();
  CHECK(has(exposition(counters, observed()),
            "postern_connections_active{listener=\"l\",protocol=\"imap\"} 0"));
}

TEST_CASE("every series stands once, under its help and type, with names Prometheus takes") {
  Counters counters(1);
  for (size_t p = 0; p < conf::protocol_count; ++p) {
    counters.keep(counters.listener("same", static_cast<conf::Protocol>(p)));
    counters.keep(counters.destination("d"))->workers[0].protocol[p].opened.add();
  }
  for (auto& version : counters.workers[0].client.handshakes)
    for (auto& result : version) result.add();
  for (auto& group : counters.workers[0].client.groups) group.add();

  const std::string page = exposition(counters, observed());
  CHECK(page.ends_with("\n"));
  std::set<std::string> series;
  std::map<std::string, std::string> types;
  std::istringstream in(page);
  std::string helped;
  for (std::string line; std::getline(in, line);) {
    CAPTURE(line);
    if (line.starts_with("# HELP ")) {
      helped = line.substr(7, line.find(' ', 7) - 7);
      CHECK(line.size() > 7 + helped.size() + 10);
      CHECK(line.ends_with("."));
    } else if (line.starts_with("# TYPE ")) {
      const size_t space = line.find(' ', 7);
      CHECK(line.substr(7, space - 7) == helped);
      CHECK(types.emplace(helped, line.substr(space + 1)).second);
    } else {
      CHECK(series.insert(line.substr(0, line.rfind(' '))).second);
      CHECK(line.starts_with(helped));
      CHECK((types[helped] == "counter") == helped.ends_with("_total"));
      CHECK(std::islower(static_cast<unsigned char>(line[0])));
    }
  }
  CHECK(types.size() > 25);
}

TEST_CASE("promtool has nothing to say about the page" * doctest::skip(!installed("promtool"))) {
  Counters counters(1);
  counters.keep(counters.listener("l", conf::Protocol::imap));
  counters.keep(counters.destination("old"))->workers[0].protocol[0].opened.add();
  const std::string page = exposition(counters, observed());
  FILE* promtool = ::popen("promtool check metrics", "w");
  REQUIRE(promtool != nullptr);
  CHECK(std::fwrite(page.data(), 1, page.size(), promtool) == page.size());
  CHECK(::pclose(promtool) == 0);
}

TEST_CASE("the process describes itself") {
  const ProcessFacts facts = process_facts();
  CHECK(facts.cpu_seconds > 0);
  CHECK(facts.resident_bytes > 1'000'000);
  CHECK(facts.virtual_bytes >= facts.resident_bytes);
  CHECK(facts.open_fds >= 3);
  CHECK(facts.max_fds >= facts.open_fds);
  CHECK(facts.open_fds < 1000);
}
