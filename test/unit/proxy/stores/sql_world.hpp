// SPDX-License-Identifier: GPL-3.0-or-later
// What the tests of SQL stores share.
#pragma once

#include "conf/text.hpp"
#include "proxy/stores/sql.hpp"
#include "test/unit/proxy/stores/world.hpp"

namespace postern::proxy::test {

inline SqlSettings sql_settings(const std::string& url, const std::string& query, bool writable = false) {
  SqlSettings settings;
  auto parsed = conf::parse_sql_url(url);
  REQUIRE_MESSAGE(parsed, (parsed ? std::string() : parsed.error().text));
  settings.url = std::move(*parsed);
  settings.query = query;
  const std::string one = settings.url.kind == conf::SqlUrl::Kind::postgres ? "$1" : "?";
  if (writable) settings.delete_query = "DELETE FROM accounts WHERE name = " + one;
  return settings;
}

/// Each name is written and read back: every one is a value of its own, and the table is what was put into
/// it.
inline void check_injection(Asking& asking, const std::function<std::string()>& count, bool only_text) {
  std::vector<std::string> names;
  for (const auto& name : nasty_names())
    if (!only_text || conf::is_utf8(name)) names.push_back(name);
  for (size_t i = 0; i < names.size(); ++i) {
    CAPTURE(i);
    CHECK(text(asking.put(names[i], "d" + std::to_string(i))) == "found ");
  }
  const auto answers = asking.find(names, 20'000);
  size_t wrong = 0;
  for (size_t i = 0; i < names.size(); ++i) wrong += text(answers[i]) != "found d" + std::to_string(i);
  CHECK(wrong == 0);
  CHECK(count() == std::to_string(names.size()));
  for (const auto& name : nasty_names())
    if (only_text && !conf::is_utf8(name)) CHECK(text(asking.find(name)) == "absent ");
  for (const auto& name : names) CHECK(text(asking.erase(name)) == "found ");
  CHECK(count() == "0");
}

}  // namespace postern::proxy::test
