// SPDX-License-Identifier: GPL-3.0-or-later
// Stores by kind: those this build has a library for, and a plain no for the others.
#include "conf/config.hpp"
#include "proxy/stores/redis.hpp"
#include "proxy/stores/sql.hpp"
#include "tls/context.hpp"

#if POSTERN_HIREDIS
#include "proxy/stores/redis_store.hpp"
#endif
#if POSTERN_LIBPQ
#include "proxy/stores/postgres.hpp"
#endif
#if POSTERN_MARIADB
#include "proxy/stores/mariadb.hpp"
#endif
#if POSTERN_SQLITE
#include "proxy/stores/sqlite.hpp"
#endif

namespace postern::proxy {

bool has_redis() { return POSTERN_HIREDIS != 0; }

conf::Result<std::shared_ptr<const tls::ClientContext>> redis_tls(const RedisSettings& settings) {
  if (!settings.url.tls) return std::shared_ptr<const tls::ClientContext>();
  std::shared_ptr<const tls::TrustStore> trust;
  if (settings.tls_ca.empty()) {
    trust = tls::TrustStore::load();
    if (!settings.tls_pinned_cert_sha256 && !trust->problem().empty()) return conf::error(trust->problem());
  } else {
    auto own = tls::TrustStore::of_file(settings.tls_ca);
    if (!own) return conf::error("tls_ca: " + own.error().text);
    trust = std::move(*own);
  }
  conf::DestinationConf demands;
  demands.tls_pinned_cert_sha256 = settings.tls_pinned_cert_sha256;
  demands.tls_client_cert = settings.tls_client_cert;
  demands.tls_client_key = settings.tls_client_key;
  return tls::ClientContext::make(demands, std::move(trust));
}

std::unique_ptr<Store> make_redis_store([[maybe_unused]] Loop& loop, [[maybe_unused]] RedisSettings settings,
                                        [[maybe_unused]] std::shared_ptr<const tls::ClientContext> tls) {
#if POSTERN_HIREDIS
  return std::make_unique<RedisStore>(loop, std::move(settings), std::move(tls));
#else
  return nullptr;
#endif
}

bool has_sql(conf::SqlUrl::Kind kind) {
  switch (kind) {
    case conf::SqlUrl::Kind::postgres:
      return POSTERN_LIBPQ != 0;
    case conf::SqlUrl::Kind::mariadb:
      return POSTERN_MARIADB != 0;
    case conf::SqlUrl::Kind::sqlite:
      return POSTERN_SQLITE != 0;
  }
  return false;
}

std::unique_ptr<Store> make_sql_store([[maybe_unused]] Loop& loop, [[maybe_unused]] SqlSettings settings) {
  switch (settings.url.kind) {
    case conf::SqlUrl::Kind::postgres:
#if POSTERN_LIBPQ
      return make_postgres_store(loop, std::move(settings));
#endif
      break;
    case conf::SqlUrl::Kind::mariadb:
#if POSTERN_MARIADB
      return make_mariadb_store(loop, std::move(settings));
#endif
      break;
    case conf::SqlUrl::Kind::sqlite:
#if POSTERN_SQLITE
      return make_sqlite_store(loop, std::move(settings));
#endif
      break;
  }
  return nullptr;
}

}  // namespace postern::proxy
