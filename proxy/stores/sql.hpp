// SPDX-License-Identifier: GPL-3.0-or-later
// PostgreSQL, MariaDB (MySQL) and SQLite as account stores: what they are told, and how they are made
// (stores.md 5).
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "conf/result.hpp"
#include "conf/store_url.hpp"
#include "proxy/stores/store.hpp"

namespace postern::proxy {

class Loop;

struct SqlSettings {
  conf::SqlUrl url;
  std::string query;          // one parameter, the name: $1 for PostgreSQL, else ?
  std::string upsert_query;   // name and destination; empty with the next one: the store is read-only
  std::string delete_query;   // name
  bool prepared = true;       // statements are prepared once a connection
  size_t pool_size = 16;      // connections, at most; 0 is read as 1
  std::string password_file;  // empty: none. Wins over the URL's password
  /// The longest that one question may take; SQLite waits no longer for a lock.
  std::chrono::milliseconds lookup_timeout = std::chrono::seconds(5);
  /// How old last good addresses of a name may be; server.stale_addresses.
  std::chrono::milliseconds stale_addresses = std::chrono::hours(24);

  [[nodiscard]] bool writable() const { return !upsert_query.empty() && !delete_query.empty(); }
  bool operator==(const SqlSettings&) const = default;
};

/// Whether this build can speak to such a database at all.
[[nodiscard]] bool has_sql(conf::SqlUrl::Kind kind);

/// Lives on `loop` and is made and destroyed there, though not from within an answer. Connects when
/// it is first asked something. Null where !has_sql(settings.url.kind).
std::unique_ptr<Store> make_sql_store(Loop& loop, SqlSettings settings);

}  // namespace postern::proxy
