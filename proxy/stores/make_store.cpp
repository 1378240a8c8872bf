// SPDX-License-Identifier: GPL-3.0-or-later
// What a configuration says of its store, in the words of the store.
#include "proxy/stores/make_store.hpp"

#include <string>
#include <string_view>
#include <utility>

#include "conf/store_url.hpp"
#include "proxy/stores/redis.hpp"
#include "proxy/stores/sql.hpp"

namespace postern::proxy {
namespace {

std::shared_ptr<const StorePlan> lacking(conf::Problems& problems, const char* key, std::string_view name,
                                         std::string_view library) {
  std::string text = "this build of Postern cannot ask ";
  text.append(name).append(" stores: it was made without ").append(library);
  problems.add(key, std::move(text));
  return nullptr;
}

std::shared_ptr<const StorePlan> plan_redis(const conf::Config& config, conf::Problems& problems) {
  const conf::RedisConf& conf = *config.mapping.redis;
  auto url = conf::parse_redis_url(conf.url.reveal());
  if (!url) {
    problems.add("mapping.redis.url", url.error().text);
    return nullptr;
  }
  if (!has_redis()) return lacking(problems, "mapping.redis.url", "redis", "hiredis");
  RedisSettings settings;
  settings.url = std::move(*url);
  settings.key_prefix = conf.key_prefix;
  settings.pool_size = conf.pool_size;
  settings.password_file = conf.password_file;
  settings.sentinel_password_file = conf.sentinel_password_file;
  settings.tls_ca = conf.tls_ca;
  settings.tls_server_name = conf.tls_server_name;
  settings.tls_pinned_cert_sha256 = conf.tls_pinned_cert_sha256;
  settings.tls_client_cert = conf.tls_client_cert;
  settings.tls_client_key = conf.tls_client_key;
  settings.stale_addresses = config.server.stale_addresses;
  auto tls = redis_tls(settings);
  if (!tls) {
    problems.add("mapping.redis", tls.error().text);
    return nullptr;
  }
  auto plan = std::make_shared<StorePlan>();
  plan->name = "redis";
  plan->reads_files = settings.url.tls;
  plan->make = [settings = std::move(settings), context = std::move(*tls)](Loop& loop) {
    return make_redis_store(loop, settings, context);
  };
  return plan;
}

std::shared_ptr<const StorePlan> plan_sql(const conf::Config& config, conf::Problems& problems) {
  const conf::SqlConf& conf = *config.mapping.sql;
  auto url = conf::parse_sql_url(conf.url.reveal());
  if (!url) {
    problems.add("mapping.sql.url", url.error().text);
    return nullptr;
  }
  struct Kind {
    std::string_view name, library;
  };
  const Kind kind = url->kind == conf::SqlUrl::Kind::postgres  ? Kind{"postgres", "libpq"}
                    : url->kind == conf::SqlUrl::Kind::mariadb ? Kind{"mysql", "libmariadb"}
                                                               : Kind{"sqlite", "sqlite3"};
  if (!has_sql(url->kind)) return lacking(problems, "mapping.sql.url", kind.name, kind.library);
  SqlSettings settings;
  settings.url = std::move(*url);
  settings.query = conf.query;
  settings.upsert_query = conf.upsert_query.value_or("");
  settings.delete_query = conf.delete_query.value_or("");
  settings.prepared = conf.prepared;
  settings.pool_size = conf.pool_size;
  settings.password_file = conf.password_file;
  settings.lookup_timeout = config.mapping.lookup_timeout;
  settings.stale_addresses = config.server.stale_addresses;
  auto plan = std::make_shared<StorePlan>();
  plan->name = kind.name;
  plan->make = [settings = std::move(settings)](Loop& loop) { return make_sql_store(loop, settings); };
  return plan;
}

}  // namespace

std::shared_ptr<const StorePlan> plan_store(const conf::Config& config, conf::Problems& problems) {
  const conf::MappingConf& mapping = config.mapping;
  if (mapping.source == conf::MappingSource::redis && mapping.redis) return plan_redis(config, problems);
  if (mapping.source == conf::MappingSource::sql && mapping.sql) return plan_sql(config, problems);
  return nullptr;
}

}  // namespace postern::proxy
