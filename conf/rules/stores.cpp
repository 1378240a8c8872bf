// SPDX-License-Identifier: GPL-3.0-or-later
// Rules within and between the tables of account stores. Addresses of stores may hold passwords, so no
// message repeats one.
#include <fmt/format.h>

#include <string_view>

#include "conf/rules/rules.hpp"
#include "conf/store_url.hpp"
#include "conf/text.hpp"

namespace postern::conf {
namespace {

void check_redis(const Draft& draft, const RedisConf& redis) {
  const std::string table = "mapping.redis.";
  if (redis.url.empty()) return;
  const auto url = parse_redis_url(redis.url.reveal());
  if (!url) return draft.add(table + "url", url.error().text);
  if (!url->tls) {
    for (const std::string_view name :
         {"tls_ca", "tls_server_name", "tls_pinned_cert_sha256", "tls_client_cert", "tls_client_key"}) {
      if (draft.problems().located(table + std::string(name)))
        draft.add(table + std::string(name), "needs an address that begins with rediss: this one is not TLS");
    }
  }
  if (!redis.sentinel_password_file.empty() && url->kind != RedisUrl::Kind::sentinel)
    draft.add(table + "sentinel_password_file", "needs a redis+sentinel:// or rediss+sentinel:// address");
  if (!redis.password_file.empty() && !url->password.empty())
    draft.problems().warn(table + "password_file", "is used instead of the password in the url");
  if (!redis.tls_client_cert.empty() && redis.tls_client_key.empty())
    draft.add(table + "tls_client_cert", "needs tls_client_key as well");
  if (!redis.tls_client_key.empty() && redis.tls_client_cert.empty())
    draft.add(table + "tls_client_key", "needs tls_client_cert as well");
  check_pem_file(draft, table + "tls_client_cert", redis.tls_client_cert, false);
  check_pem_file(draft, table + "tls_client_key", redis.tls_client_key.reveal(), true);
  if (has_inline_key(redis.tls_client_key))
    draft.problems().warn(table + "tls_client_key",
                          "a private key inside the configuration; a file is safer");
}

void check_sql(const Draft& draft, const SqlConf& sql) {
  if (sql.url.empty()) return;
  const auto url = parse_sql_url(sql.url.reveal());
  if (!url) return draft.add("mapping.sql.url", url.error().text);
  if (!sql.password_file.empty() && !url->password.empty())
    draft.problems().warn("mapping.sql.password_file", "is used instead of the password in the url");
  if (sql.upsert_query.has_value() != sql.delete_query.has_value())
    draft.problems().warn(sql.upsert_query ? "mapping.sql.upsert_query" : "mapping.sql.delete_query",
                          "has no effect without the other write statement: the store stays read-only");
}

/// What only matters where a store is asked.
void check_answers(const Draft& draft, const MappingConf& mapping) {
  Problems& problems = draft.problems();
  if (mapping.source == MappingSource::file) {
    for (const std::string_view name : {"on_error", "stale_ttl", "require_at_start", "snapshot"}) {
      const std::string key = join_key("mapping", name);
      if (problems.located(key)) problems.warn(key, "has no effect with source = \"file\"");
    }
    return;
  }
  if (mapping.on_error == OnError::fallback)
    problems.warn(
        "mapping.on_error",
        fmt::format("while the store does not answer, every account goes to {}, also those that have "
                    "moved away from it: they see an empty or outdated mailbox",
                    quoted(draft.config.routing.default_destination)));
  if (!mapping.snapshot.empty() && mapping.cache_max_entries == 0)
    problems.warn("mapping.snapshot", "stays empty with cache_max_entries = 0");
}

}  // namespace

void check_stores(const Draft& draft) {
  if (!draft.file.mapping) return;
  const MappingConf& mapping = draft.config.mapping;
  if (mapping.redis) check_redis(draft, *mapping.redis);
  if (mapping.sql) check_sql(draft, *mapping.sql);
  if (draft.file.mapping->source) check_answers(draft, mapping);
}

}  // namespace postern::conf
