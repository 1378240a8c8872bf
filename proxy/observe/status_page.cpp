// SPDX-License-Identifier: GPL-3.0-or-later
// Tables and charts, one function a section. Everything is bounded: rows by status_rows_max, names by their
// length, curves by the ring.
#include "proxy/observe/status_page.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "conf/config.hpp"

namespace postern::proxy {
namespace {

constexpr std::string_view style = R"(
:root{color-scheme:light dark;--bg:#fbfbfa;--fg:#1d2327;--dim:#5d676e;--line:#d9dde0;--card:#fff;--bad:#b3261e;
--warn:#8a5a00;--good:#1a6b3c;--c0:#2a6fb0;--c1:#c2410c;--c2:#2e7d4f;--c3:#8e44ad;--c4:#a67c00;--c5:#b0305f;--c6:#4b5563}
@media(prefers-color-scheme:dark){:root{--bg:#14181b;--fg:#e4e8ea;--dim:#9aa5ac;--line:#333b41;--card:#1c2226;
--bad:#ff8a80;--warn:#f2c14e;--good:#7ed6a0;--c0:#6cb2f2;--c1:#ff9b6a;--c2:#7ed6a0;--c3:#cf9be8;--c4:#e6c34a;
--c5:#f48fb1;--c6:#aab4bd}}
*{box-sizing:border-box}body{margin:0 auto;max-width:70rem;padding:1rem;background:var(--bg);color:var(--fg);
font:15px/1.45 system-ui,sans-serif}h1{font-size:1.3rem;margin:0}h2{font-size:1rem;margin:1.6rem 0 .4rem}
header{display:flex;flex-wrap:wrap;gap:.2rem 1rem;align-items:baseline}header p{margin:0;color:var(--dim)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(26rem,100%),1fr));gap:.8rem;margin-top:1rem}
figure{margin:0;padding:.7rem;background:var(--card);border:1px solid var(--line);border-radius:6px}
figcaption{font-weight:600}small,.dim{color:var(--dim);font-weight:400}svg{display:block;width:100%;height:auto}
svg text{font:10px system-ui,sans-serif;fill:var(--dim)}.g{stroke:var(--line)}
polyline{fill:none;stroke-width:1.8;stroke-linejoin:round}.legend{display:flex;flex-wrap:wrap;gap:.1rem 1rem;margin:0;
padding:0;list-style:none}.legend i{display:inline-block;width:1em;height:.25em;margin:0 .4em .25em 0}
.c0{stroke:var(--c0);background:var(--c0)}.c1{stroke:var(--c1);background:var(--c1);stroke-dasharray:6 3}
.c2{stroke:var(--c2);background:var(--c2)}.c3{stroke:var(--c3);background:var(--c3);stroke-dasharray:2 3}
.c4{stroke:var(--c4);background:var(--c4)}.c5{stroke:var(--c5);background:var(--c5);stroke-dasharray:8 3}
.c6{stroke:var(--c6);background:var(--c6)}circle{fill:none;stroke-width:3.5}.wide{overflow-x:auto}td span{white-space:nowrap}
table{border-collapse:collapse;width:100%;background:var(--card);border:1px solid var(--line)}
th,td{padding:.3rem .6rem;text-align:left;border-top:1px solid var(--line);vertical-align:top}
th{font-weight:600;color:var(--dim);font-size:.85em}.n{text-align:right;font-variant-numeric:tabular-nums}
.bad{color:var(--bad);font-weight:600}.warn{color:var(--warn);font-weight:600}.good{color:var(--good);font-weight:600}
footer{margin-top:1.6rem;color:var(--dim);font-size:.85em})";

/// A name of the configuration: escaped, and no longer than fits a cell.
std::string name_text(std::string_view name) {
  constexpr size_t longest = 80;
  if (name.size() <= longest) return html_text(name);
  size_t end = longest;
  while (end > 0 && (static_cast<unsigned char>(name[end]) & 0xC0U) == 0x80U) --end;
  return html_text(name.substr(0, end)) + "...";
}

std::string date_text(int64_t seconds) {
  const auto time = static_cast<std::time_t>(std::clamp<int64_t>(seconds, 0, 253'402'300'799));
  return fmt::format("{:%Y-%m-%d %H:%M}", fmt::gmtime(time));
}

/// The time of day, with the date where it is another one.
std::string moment_text(int64_t seconds, int64_t now) {
  constexpr int64_t day = 86'400;
  const std::string text = date_text(seconds);
  return (seconds / day == now / day ? text.substr(text.find(' ') + 1) : text) + " UTC";
}

/// A table while it is written. Headings that begin with '#' stand over numbers.
class Table {
 public:
  Table(std::string_view title, const std::vector<std::string>& headings) {
    out_ = fmt::format("<h2>{}</h2>\n<div class=\"wide\"><table><tr>", title);
    for (std::string_view heading : headings) {  // HTML already
      const bool number = heading.starts_with('#');
      if (number) heading.remove_prefix(1);
      out_ += fmt::format("<th{}>{}</th>", number ? " class=\"n\"" : "", heading);
      numbers_.push_back(number);
    }
    out_ += "</tr>\n";
  }
  /// Cells are HTML already.
  void row(const std::vector<std::string>& cells) {
    if (++rows_ > status_rows_max) return;
    out_ += "<tr>";
    size_t column = 0;
    for (const std::string& cell : cells)
      out_ += fmt::format("<td{}>{}</td>", numbers_[column++] ? " class=\"n\"" : "", cell);
    out_ += "</tr>\n";
  }
  [[nodiscard]] std::string text() const {
    std::string end;
    if (rows_ == 0)
      end = fmt::format("<tr><td class=\"dim\" colspan=\"{}\">none yet</td></tr>\n", numbers_.size());
    if (rows_ > status_rows_max)
      end = fmt::format("<tr><td class=\"dim\" colspan=\"{}\">and {} more</td></tr>\n", numbers_.size(),
                        rows_ - status_rows_max);
    return out_ + end + "</table></div>\n";
  }

 private:
  std::string out_;
  std::vector<bool> numbers_;
  size_t rows_ = 0;
};

std::string marked(std::string_view how, std::string_view text) {
  return fmt::format("<span class=\"{}\">{}</span>", how, text);
}
std::string together(std::string_view text) { return fmt::format("<span>{}</span>", text); }
/// What machines call it, for people.
std::string words_of(std::string_view label) {
  std::string words(label);
  std::ranges::replace(words, '_', ' ');
  return html_text(words);
}
/// Counts in columns of their own, one a reason.
template <size_t N>
void add_counts(std::vector<std::string>& cells, const std::array<uint64_t, N>& counts) {
  for (const uint64_t n : counts) cells.push_back(grouped(n));
}
template <size_t N>
void add_headings(std::vector<std::string>& headings, const std::array<const char*, N>& labels) {
  for (const char* label : labels) headings.push_back(fmt::format("#{}", words_of(label)));
}
std::string alarming(uint64_t n) { return n == 0 ? "0" : marked("warn", grouped(n)); }

std::string charts(const StatusHistory& history) {
  std::vector<Curve> sessions;
  for (size_t p = 0; p < conf::protocol_count; ++p) {
    auto values = history.presence([p](const StatusSample& s) { return s.sessions[p]; },
                                   [p](const StatusSample& s) { return s.ended[p]; });
    if (std::ranges::any_of(values, [](double v) { return v > 0; }))
      sessions.push_back({conf::name(static_cast<conf::Protocol>(p)), std::move(values)});
  }
  if (sessions.empty())
    sessions.push_back({"none", history.level([](const StatusSample&) { return uint64_t{0}; })});
  std::string out = "<div class=\"charts\">\n";
  out +=
      status_chart("Sessions", fmt::format("within {} s, by protocol", StatusHistory::interval_s), sessions);
  out +=
      status_chart("Logins", "per minute",
                   {{"succeeded", history.growth([](const StatusSample& s) { return s.logins_ok; }, 60)},
                    {"failed", history.growth([](const StatusSample& s) { return s.logins_failed; }, 60)}});
  out += status_chart("New connections", "per minute",
                      {{"accepted", history.growth([](const StatusSample& s) { return s.accepted; }, 60)}});
  out +=
      status_chart("Traffic", "bytes per second",
                   {{"to clients", history.growth([](const StatusSample& s) { return s.to_client; }, 1)},
                    {"to backends", history.growth([](const StatusSample& s) { return s.to_backend; }, 1)}});
  return out + "</div>\n";
}

std::string listeners(const Status& status) {
  Table table("Listeners", {"Name", "Protocol", "TLS", "Addresses", "#Open", "#Limit", "#Accepted"});
  std::vector<std::string> reasons = {"Name"};
  add_headings(reasons, rejected_names);
  Table rejected("Connections turned away, by reason", reasons);
  for (const Status::Listener& l : status.listeners) {
    std::string addresses;
    constexpr size_t shown = 4;
    for (size_t i = 0; i < std::min(shown, l.addresses.size()); ++i)
      addresses += (i == 0 ? "" : "<br>") + name_text(l.addresses[i]);
    if (l.addresses.size() > shown) addresses += fmt::format("<br>and {} more", l.addresses.size() - shown);
    const bool near = l.limit != 0 && l.active * 10 >= l.limit * 9;
    table.row({name_text(l.name), html_text(l.protocol), html_text(l.tls), addresses,
               near ? marked("warn", grouped(l.active)) : grouped(l.active), grouped(l.limit),
               grouped(l.accepted)});
    std::vector<std::string> counts = {name_text(l.name)};
    add_counts(counts, l.rejected);
    rejected.row(counts);
  }
  return table.text() + rejected.text();
}

std::string backends(const Status& status) {
  Table table("Backends", {"Destination", "State", "#Failures in a row", "#Sessions", "#Reached",
                           "#No connection", "#Failed behind it", "#Unanswered", "#Not tried"});
  for (const Status::Destination& d : status.destinations) {
    using State = Status::Destination::State;
    const std::string state = d.state == State::down
                                  ? marked("bad", "down since " + moment_text(d.since, status.now))
                              : d.state == State::testing ? marked("warn", "testing")
                                                          : marked(d.failures != 0 ? "warn" : "good", "up");
    std::vector<std::string> cells = {name_text(d.name), state, grouped(d.failures), grouped(d.active)};
    add_counts(cells, d.attempts);
    table.row(cells);
  }
  std::vector<std::string> reasons = {"Destination", "Protocol", "#Live"};
  add_headings(reasons, end_reason_names);
  Table sessions("Sessions, and why they ended", reasons);
  for (const Status::Sessions& s : status.sessions) {
    std::vector<std::string> cells = {name_text(s.destination), html_text(s.protocol), grouped(s.active)};
    add_counts(cells, s.ended);
    sessions.row(cells);
  }
  return table.text() + sessions.text();
}

std::string logins(const Status& status) {
  if (status.logins.empty()) return {};
  std::vector<std::string> results = {"Protocol"};
  add_headings(results, auth_result_names);
  Table table("Logins, by result", results);
  for (const Status::Logins& l : status.logins) {
    std::vector<std::string> cells = {html_text(l.protocol)};
    add_counts(cells, l.results);
    table.row(cells);
  }
  return table.text();
}

std::string certificates(const Status& status) {
  Table table("Certificates", {"Certificate", "Names", "Expires (UTC)", "In"});
  for (const Status::Certificate& c : status.certificates) {
    constexpr size_t shown = 5;
    std::string names;
    for (size_t i = 0; i < std::min(shown, c.names.size()); ++i)
      names += (i == 0 ? "" : ", ") + name_text(c.names[i]);
    if (c.names.size() > shown) names += fmt::format(" and {} more", c.names.size() - shown);
    const int64_t lifetime = c.not_after - c.not_before;
    const int64_t soon = lifetime / 3;  // the thresholds of the alerts
    const int64_t now_or_never = lifetime / 10;
    const int64_t left = c.not_after - status.now;
    table.row({name_text(c.id), names, together(date_text(c.not_after)),
               left <= 0             ? marked("bad", "expired")
               : left < now_or_never ? marked("bad", span_text(left))
               : left < soon         ? marked("warn", span_text(left))
                                     : together(span_text(left))});
  }
  return table.text();
}

std::string tls(const Status& status) {
  std::vector<std::string> headings = {"Side"};
  for (size_t v = 1; v < tls_version_names.size(); ++v)  // none completes without a version
    headings.push_back(fmt::format("#TLS {}", tls_version_names[v]));
  headings.emplace_back("#Resumed");
  for (size_t g = 0; g + 1 < tls_group_count; ++g)
    headings.push_back(fmt::format("#{}", html_text(conf::name(static_cast<conf::Group>(g)))));
  headings.emplace_back("#Other group");
  Table table("TLS handshakes completed", headings);
  Table failed("TLS handshakes failed, by reason", {"Side", "Reason", "#Failed"});
  for (const Status::Tls& side : status.tls) {
    std::vector<std::string> cells = {html_text(side.side)};
    for (size_t v = 1; v < side.versions.size(); ++v) cells.push_back(grouped(side.versions[v]));
    cells.push_back(grouped(side.resumed));
    add_counts(cells, side.groups);
    table.row(cells);
    for (size_t r = 1; r < side.results.size(); ++r)
      if (side.results[r] != 0)
        failed.row({html_text(side.side), words_of(tls_result_name(r)), alarming(side.results[r])});
  }
  return table.text() + failed.text();
}

std::string process(const Status& s) {
  Table table("Process", {"Fact", "Value"});
  table.row({"Workers", grouped(s.workers)});
  table.row({"Resident memory", bytes_text(static_cast<double>(s.resident_bytes))});
  table.row({"Descriptors", grouped(s.open_fds) + " of " + grouped(s.max_fds)});
  table.row({"Reloads", grouped(s.reloads) + " done, " + alarming(s.reloads_failed) + " refused"});
  std::string stale;
  for (size_t i = 0; i < std::min<size_t>(s.stale.size(), 10); ++i)
    stale += (i == 0 ? "" : ", ") + name_text(s.stale[i]);
  if (s.stale.size() > 10) stale += fmt::format(" and {} more", s.stale.size() - 10);
  table.row({"Bad files, whose last good content is in use", stale.empty() ? "none" : marked("bad", stale)});
  table.row({"Log records lost", alarming(s.log_dropped)});
  table.row({"Pauses for want of descriptors or memory", alarming(s.accept_pauses)});
  table.row({"Ended for want of memory or descriptors", alarming(s.out_of_memory)});
  return table.text();
}

std::string store(const Status& s) {
  if (!s.store) return {};
  const Status::Store& store = *s.store;
  Table table("Mapping store", {"Fact", "Value"});
  table.row({"Store", name_text(store.name)});
  std::string state = "answers";
  if (!store.up) state = store.error.empty() ? "not reached yet" : "does not answer: " + store.error;
  table.row({"State", marked(store.up ? "good" : "bad", html_text(state))});
  table.row({"Connections", grouped(store.connections)});
  for (size_t i = 0; i < lookup_names.size(); ++i) {
    const bool fine = i <= static_cast<size_t>(Lookup::absent);
    table.row({fmt::format("Lookups: {}", lookup_names[i]),
               fine ? grouped(store.lookups[i]) : alarming(store.lookups[i])});
  }
  table.row({"Logins served a last known answer", alarming(store.served_stale)});
  if (store.snapshot_age)
    table.row({"Age of the copy on disk", span_text(static_cast<int64_t>(*store.snapshot_age))});
  return table.text();
}

}  // namespace

std::string status_page(const Status& s, const StatusHistory& history) {
  std::string out = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
      "<meta http-equiv=\"refresh\" content=\"{}\">\n<title>{} - Postern</title>\n<style>{}</style></head>\n"
      "<body><header><h1>Postern</h1>",
      StatusHistory::interval_s, name_text(s.hostname), style);
  out += s.ready ? "<p class=\"good\">ready</p>"
                 : fmt::format("<p class=\"bad\">not ready: {}</p>", name_text(s.reason));
  out +=
      fmt::format("<p>{}</p><p>version {}</p><p>{}</p><p>up {}</p></header>\n<main>", name_text(s.hostname),
                  name_text(s.version), name_text(s.tls_library), span_text(s.now - s.started));
  out += charts(history);
  out += listeners(s);
  out += backends(s);
  out += logins(s);
  out += store(s);
  out += certificates(s);
  out += tls(s);
  out += process(s);
  return out +
         fmt::format(
             "</main><footer>{} UTC. Counts are since the start of the process. The page renews itself "
             "every {} s; for machines there is <a href=\"/metrics\">/metrics</a>.</footer></body></html>\n",
             date_text(s.now), StatusHistory::interval_s);
}

}  // namespace postern::proxy
