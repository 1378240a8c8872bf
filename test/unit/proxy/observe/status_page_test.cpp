// SPDX-License-Identifier: GPL-3.0-or-later
// The status page: whole HTML whatever the configuration is called, bounded, and true to the ring.
#include "proxy/observe/status_page.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "proxy/manage/probe_request.hpp"

using namespace postern;
using namespace postern::proxy;

namespace {

Status example() {
  Status s;
  s.version = "0.1.0";
  s.tls_library = "wolfSSL 5.9.2";
  s.hostname = "mail.example.com";
  s.now = 1'795'000'000;
  s.started = s.now - 3 * 86'400;
  s.ready = true;
  s.listeners = {
      {"imaps", "imap", "implicit", {"[::]:993", "0.0.0.0:993"}, 12, 8192, 1'234'567, {3, 0, 17, 0, 5}}};
  using State = Status::Destination::State;
  s.destinations = {{"old", State::down, s.now - 600, 6, 0, {40, 7, 8, 0, 31}},
                    {"older", State::down, s.now - 86'400, 6, 0, {}},
                    {"doubtful", State::testing, s.now - 600, 6, 0, {40, 8, 0, 5, 31}},
                    {"new", State::up, 0, 0, 9, {10}},
                    {"shaky", State::up, 0, 2, 1, {3, 2}}};
  s.sessions = {{"new", "imap", 9, {80, 11, 0, 22, 0}}};
  constexpr int64_t day = 86'400;
  s.certificates = {{"default", {"mail.example.com"}, s.now - 50 * day, s.now + 40 * day},
                    {"soon", {}, s.now - 27 * day, s.now + 3 * day},
                    {"now", {}, s.now - 42 * day, s.now + 3 * day - 1},
                    {"gone", {}, s.now - 90 * day, s.now - 1},
                    {"of six days", {}, s.now - 3 * day, s.now + 3 * day}};
  s.logins = {{"imap", {90, 4, 2, 0, 33, 44}}};
  s.tls[0].side = "clients";
  s.tls[0].versions = {0, 5, 80};
  s.tls[0].groups = {70, 10, 0, 0, 0};
  s.tls[0].resumed = 66;
  s.tls[0].results.back() = 77;
  s.tls[1].side = "backends";
  return s;
}

bool has(const std::string& page, const std::string& text) { return page.find(text) != std::string::npos; }

/// Every tag that is opened is closed, in order; attributes are quoted; no bare '<' or '&'.
void check_whole(const std::string& page) {
  std::vector<std::string> open;
  for (size_t i = 0; i < page.size(); ++i) {
    if (page[i] == '&') {
      const size_t end = page.find(';', i);
      if (end == std::string::npos || end - i >= 8) FAIL(page.substr(i, 40));
    }
    if (page[i] != '<') continue;
    const size_t end = page.find('>', i);
    if (end == std::string::npos) FAIL(page.substr(i, 60));
    const std::string tag = page.substr(i + 1, end - i - 1);
    const std::string name = tag.substr(tag[0] == '/' ? 1 : 0, tag.find_first_of(" /", 1) - (tag[0] == '/'));
    if (tag[0] == '/') {
      if (open.empty() || open.back() != tag.substr(1)) FAIL(page.substr(i, 60));
      open.pop_back();
    } else if (tag[0] != '!' && !tag.ends_with('/') && name != "meta" && name != "br") {
      open.push_back(name);
    }
    if (std::ranges::count(tag, '"') % 2 != 0) FAIL(tag);
    i = end;
  }
  CHECK(open.empty());
}

}  // namespace

TEST_CASE("the page says what it is asked to") {
  const std::string page = status_page(example(), StatusHistory());
  check_whole(page);
  for (const char* text :
       {"ready", "mail.example.com", "version 0.1.0", "wolfSSL 5.9.2", "up 3 days", "imaps",
        "[::]:993<br>0.0.0.0:993", "1,234,567", "40 days", "expired", "TLS 1.3", "X25519MLKEM768",
        "http-equiv=\"refresh\"", "prefers-color-scheme:dark", "Sessions", "Logins",
        // by reason, a column each
        "<th class=\"n\">proxy header</th>", "<th class=\"n\">command errors</th>",
        "<td>imaps</td><td class=\"n\">3</td><td class=\"n\">0</td><td class=\"n\">17</td>",
        "<td>imap</td><td class=\"n\">90</td><td class=\"n\">4</td><td class=\"n\">2</td><td "
        "class=\"n\">0</td>"
        "<td class=\"n\">33</td><td class=\"n\">44</td>",
        "<td class=\"n\">9</td><td class=\"n\">80</td><td class=\"n\">11</td><td class=\"n\">0</td><td "
        "class=\"n\">22</td>",
        "<th class=\"n\">No connection</th><th class=\"n\">Failed behind it</th><th "
        "class=\"n\">Unanswered</th><th class=\"n\">Not tried</th>",
        // versions, resumption and groups, a column each
        "<th class=\"n\">TLS 1.2</th><th class=\"n\">TLS 1.3</th><th class=\"n\">Resumed</th><th "
        "class=\"n\">",
        "<td>clients</td><td class=\"n\">5</td><td class=\"n\">80</td><td class=\"n\">66</td><td "
        "class=\"n\">70</td>",
        "<td>clients</td><td>timeout</td><td class=\"n\"><span class=\"warn\">77</span>"})
    CHECK_MESSAGE(has(page, text), std::string(text));
  for (const char* state :
       {"<span class=\"bad\">down since 10:56 UTC</span>",
        "<span class=\"bad\">down since 2026-11-17 11:06 UTC</span>", "<span class=\"warn\">testing</span>",
        "<span class=\"good\">up</span>", "<span class=\"warn\">up</span>"})
    CHECK_MESSAGE(has(page, state), state);
  CHECK(has(page, "<span class=\"warn\">3 days</span>"));
  CHECK(has(page, "<span class=\"bad\">2 days</span>"));
  CHECK(!has(page, "<script"));
  CHECK(!has(page, "src="));
  CHECK(!has(page, "http://"));
  CHECK(!has(page, "https://"));
  CHECK(page.size() < 20'000);
}

TEST_CASE("why it is not ready stands at the top") {
  Status s = example();
  s.ready = false;
  s.reason = "a certificate has expired";
  CHECK(has(status_page(s, StatusHistory()), "not ready: a certificate has expired"));
}

TEST_CASE("no name of a configuration breaks out of its cell") {
  const std::string evil = "</td><script>alert(\"1\")</script>&'\x01\n\xFF\xC0\x80\xED\xA0\x80";
  Status s = example();
  s.hostname = s.reason = s.version = s.tls_library = evil;
  s.ready = false;
  s.listeners[0].name = s.listeners[0].addresses[0] = evil;
  s.destinations[0].name = s.sessions[0].destination = s.certificates[0].id = evil;
  s.certificates[0].names = {evil, evil};
  const std::string page = status_page(s, StatusHistory());
  check_whole(page);
  CHECK(!has(page, "<script"));
  CHECK(!has(page, "\x01"));
  CHECK(!has(page, "\xFF"));
  CHECK(!has(page, "\xED\xA0"));
}

TEST_CASE("text is escaped, and what is no text is replaced") {
  CHECK(html_text("a&b<c>\"d'") == "a&amp;b&lt;c&gt;&quot;d&#39;");
  CHECK(html_text("caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x93\xAB") ==
        "caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x93\xAB");
  for (const char* bad : {"\xC3", "\xC0\xAF", "\xE0\x80\x80", "\xF4\x90\x80\x80", "\xF8\x88", "\t", "\x7F"})
    CHECK_MESSAGE(html_text(bad).starts_with("\xEF\xBF\xBD"), bad);
  CHECK(html_text(std::string_view("\0", 1)) == "\xEF\xBF\xBD");
}

TEST_CASE("the page has a bounded size whatever is configured") {
  Status s = example();
  const std::string name(500, '<');
  s.hostname = name;
  for (int i = 0; i < 300; ++i) {
    s.listeners.push_back({name, "imap", "implicit", std::vector<std::string>(6, name), 1, 2, 3, {4}});
    s.destinations.push_back({name, {}, 0, 0, 0, {}});
    s.sessions.push_back({name, "imap", 1, {1}});
    s.certificates.push_back({name, std::vector<std::string>(9, name), 0});
  }
  StatusHistory history;
  StatusSample sample;
  for (size_t i = 0; i < 1'000; ++i) {
    for (auto& n : sample.sessions) n += 123'456;
    sample.logins_ok += i;
    sample.to_client += i * 1'000'000;
    history.add(sample);
  }
  const std::string page = status_page(s, history);
  check_whole(page);
  CHECK(page.size() < 900'000);
  CHECK(has(page, "and 201 more"));
}

TEST_CASE("the ring keeps the last hour") {
  StatusHistory history;
  CHECK(history.size() == 0);
  CHECK(history.growth([](const StatusSample& s) { return s.accepted; }, 60).empty());
  StatusSample sample;
  for (uint64_t i = 0; i < StatusHistory::capacity + 5; ++i) {
    sample.accepted = i * 30;
    sample.connections = i;
    history.add(sample);
  }
  CHECK(history.size() == StatusHistory::capacity);
  CHECK(history[0].connections == 5);
  CHECK(history[history.size() - 1].connections == StatusHistory::capacity + 4);
  const auto rate = history.growth([](const StatusSample& s) { return s.accepted; }, 60);
  CHECK(rate.size() == StatusHistory::capacity - 1);
  CHECK(rate.back() == doctest::Approx(120));
  CHECK(history.level([](const StatusSample& s) { return s.connections; }).front() == 5);
}

TEST_CASE("a session shorter than the sampling interval is seen") {
  StatusHistory history;
  StatusSample sample;
  history.add(sample);  // nobody is there
  sample.ended[0] = 5;  // five came and went
  history.add(sample);
  sample.sessions[0] = 2;  // two came and stay
  history.add(sample);
  sample.sessions[0] = 1;  // one of them is gone, and so are three others
  sample.ended[0] += 4;
  history.add(sample);
  CHECK(history.presence([](const StatusSample& s) { return s.sessions[0]; },
                         [](const StatusSample& s) { return s.ended[0]; }) ==
        std::vector<double>{0, 5, 2, 5});
}

TEST_CASE("a total that went back is no growth") {
  StatusHistory history;
  StatusSample sample;
  sample.to_client = 100;
  history.add(sample);
  sample.to_client = 40;
  history.add(sample);
  CHECK(history.growth([](const StatusSample& s) { return s.to_client; }, 1).back() == 0);
}

TEST_CASE("a sample adds up workers, listeners and destinations") {
  Counters counters(2);
  const auto l = counters.keep(counters.listener("a", conf::Protocol::imap));
  l->workers[0].accepted.add(5);
  l->workers[1].closed.add(2);
  counters.keep(counters.listener("b", conf::Protocol::smtp))->workers[1].accepted.add(4);
  auto& imap = counters.keep(counters.destination("d"))->workers[1].protocol[0];
  imap.opened.add(3);
  imap.ended[0].add();
  counters.workers[0].auth[0][0][static_cast<size_t>(AuthResult::ok)].add(7);
  counters.workers[1].auth[1][4][static_cast<size_t>(AuthResult::rejected)].add(2);
  counters.workers[1].auth[1][4][static_cast<size_t>(AuthResult::malformed)].add(1);
  counters.workers[1].bytes_to_client[0].add(10);
  const StatusSample s = status_sample(counters);
  CHECK(s.accepted == 9);
  CHECK(s.connections == 7);
  CHECK(s.sessions[0] == 2);
  CHECK(s.ended[0] == 1);
  CHECK(s.logins_ok == 7);
  CHECK(s.logins_failed == 3);
  CHECK(s.to_client == 10);
}

TEST_CASE("a chart stays inside its frame and reads well") {
  const std::string svg = status_chart("T", "u", {{"a", {0, 50, 1e300, 3}}, {"b<", {}}});
  check_whole(svg);
  CHECK(has(svg, "472.0,"));
  CHECK(!has(svg, "nan"));
  CHECK(!has(svg, "inf"));
  CHECK(has(svg, "b&lt; <b>-</b>"));
  CHECK(has(status_chart("T", "u", {{"a", {130}}}), ">200</text>"));
}

TEST_CASE("numbers are written for people") {
  CHECK(grouped(0) == "0");
  CHECK(grouped(999) == "999");
  CHECK(grouped(1'000) == "1,000");
  CHECK(grouped(18'446'744'073'709'551'615ULL) == "18,446,744,073,709,551,615");
  const std::vector<std::pair<double, std::string>> shorts = {
      {0, "0"}, {0.25, "0.25"}, {7, "7"}, {123.4, "123"}, {12'340, "12.3k"}, {5e6, "5M"}, {2.5e9, "2.5G"}};
  for (const auto& [n, text] : shorts) CHECK(short_number(n) == text);
  CHECK(bytes_text(512) == "512 B");
  CHECK(bytes_text(1536) == "1.5 KiB");
  CHECK(bytes_text(40.0 * 1024 * 1024) == "40 MiB");
  CHECK(span_text(-5) == "0 s");
  CHECK(span_text(75) == "1 min 15 s");
  CHECK(span_text(7'260) == "2 h 1 min");
  CHECK(span_text(200'000) == "2 days");
}

TEST_CASE("header fields of an answer come before its end of head") {
  const std::string wire =
      write_probe_answer({200, "x", "text/html", status_headers}, ProbeMethod::get, true);
  CHECK(has(wire, "\r\nContent-Security-Policy: default-src 'none';"));
  CHECK(wire.find("Referrer-Policy") < wire.find("\r\n\r\n"));
  CHECK(wire.ends_with("\r\n\r\nx"));
}
