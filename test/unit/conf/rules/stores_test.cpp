// SPDX-License-Identifier: GPL-3.0-or-later
// The tables of account stores: what they come to, what is refused, what is unwise.
#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "test/unit/conf/fixture.hpp"

using namespace postern::conf;

namespace {

/// The base document with `source`, `keys` in [mapping] and `tables` behind everything.
std::string document(std::string_view source, std::string_view keys, std::string_view tables) {
  return replaced(base_and(tables), "source = \"file\"\n",
                  "source = \"" + std::string(source) + "\"\n" + std::string(keys));
}

std::string redis(std::string_view url, std::string_view more = {}) {
  return "[mapping.redis]\nurl = \"" + std::string(url) + "\"\n" + std::string(more);
}

std::string sql(std::string_view url, std::string_view more = {}) {
  return "[mapping.sql]\nurl = \"" + std::string(url) + "\"\nquery = \"q\"\n" + std::string(more);
}

}  // namespace

TEST_CASE("a store that nobody says more about has the defaults of its page") {
  const MappingConf conf = load_toml(document("redis", "", redis("redis://h/0"))).config.mapping;
  CHECK(conf.source == MappingSource::redis);
  CHECK(conf.on_error == OnError::stale);
  CHECK(conf.stale_ttl == std::chrono::hours(24));
  CHECK_FALSE(conf.require_at_start);
  CHECK(conf.snapshot.empty());
  CHECK(conf.lookup_timeout == std::chrono::seconds(5));
  REQUIRE(conf.redis);
  CHECK(conf.redis->url.reveal() == "redis://h/0");
  CHECK(conf.redis->key_prefix == "route:");
  CHECK(conf.redis->pool_size == 16);
  CHECK_FALSE(conf.sql);
}

TEST_CASE("everything about a store can be said") {
  const std::string pin(64, 'a');
  const Loaded redis_loaded = load_toml(document(
      "redis",
      "on_error = \"refuse\"\nstale_ttl = \"1h\"\nrequire_at_start = true\nsnapshot = \"/var/lib/x\"\n",
      redis("rediss+sentinel://a,b:1/service/2",
            "key_prefix = \"\"\npool_size = 0\npassword_file = \"p\"\nsentinel_password_file = \"s\"\n"
            "tls_ca = \"ca.pem\"\ntls_server_name = \"redis.example\"\ntls_pinned_cert_sha256 = \"" +
                pin + "\"\ntls_client_cert = \"c.pem\"\ntls_client_key = \"k.pem\"\n")));
  CHECK(lines_of(redis_loaded) == "");
  const MappingConf& conf = redis_loaded.config.mapping;
  CHECK(conf.on_error == OnError::refuse);
  CHECK(conf.stale_ttl == std::chrono::hours(1));
  CHECK(conf.require_at_start);
  CHECK(conf.snapshot == "/var/lib/x");
  REQUIRE(conf.redis);
  CHECK(conf.redis->key_prefix.empty());
  CHECK(conf.redis->pool_size == 1);
  CHECK(conf.redis->password_file == "p");
  CHECK(conf.redis->sentinel_password_file == "s");
  CHECK(conf.redis->tls_ca == "ca.pem");
  CHECK(conf.redis->tls_server_name == "redis.example");
  REQUIRE(conf.redis->tls_pinned_cert_sha256);
  CHECK(conf.redis->tls_pinned_cert_sha256->size() == 32);
  CHECK(conf.redis->tls_client_cert == "c.pem");
  CHECK(conf.redis->tls_client_key.reveal() == "k.pem");

  const Loaded sql_loaded =
      load_toml(document("sql", "",
                         sql("postgres://h/db",
                             "upsert_query = \"u\"\ndelete_query = \"d\"\npool_size = 3\n"
                             "prepared = false\npassword_file = \"p\"\n")));
  CHECK(lines_of(sql_loaded) == "");
  const auto& database = sql_loaded.config.mapping.sql;
  REQUIRE(database);
  CHECK(database->query == "q");
  CHECK(database->pool_size == 3);
  CHECK(database->writable());
  CHECK_FALSE(database->prepared);
  CHECK(database->password_file == "p");
}

TEST_CASE("a store's address has one of the forms that are known") {
  struct Row {
    const char* source;
    const char* url;
    bool good;
  };
  for (const Row& row : {
           Row{"redis", "redis://h", true},
           Row{"redis", "redis://user:password@h:6380/3", true},
           Row{"redis", "rediss://h", true},
           Row{"redis", "redis+sentinel://a,b,c/service", true},
           Row{"redis", "rediss+sentinel://a,b,c/service/1", true},
           Row{"redis", "redis+unix:///run/redis.sock?db=1", true},
           Row{"redis", "valkey://h", false},
           Row{"redis", "redis:///0", false},
           Row{"redis", "redis://", false},
           Row{"redis", "redis://a b", false},
           Row{"redis", "h:6379", false},
           Row{"sql", "postgres://h/db", true},
           Row{"sql", "postgresql://h/db", true},
           Row{"sql", "mysql://h/db", true},
           Row{"sql", "mariadb://h/db", true},
           Row{"sql", "sqlite:///var/lib/x.db", true},
           Row{"sql", "sqlite://x.db", true},
           Row{"sql", "oracle://h/db", false},
       }) {
    CAPTURE(row.url);
    const bool is_redis = std::string_view(row.source) == "redis";
    const Loaded loaded = load_toml(document(row.source, "", is_redis ? redis(row.url) : sql(row.url)));
    CHECK(loaded.ok() == row.good);
    if (!row.good) CHECK(find_problem(loaded, is_redis ? "mapping.redis.url" : "mapping.sql.url"));
  }
}

TEST_CASE("what a store's address cannot use is refused where it would give a false sense of safety") {
  struct Row {
    const char* url;
    const char* more;
    const char* key;
    const char* text;
  };
  for (const Row& row : {
           Row{"redis://h", "tls_ca = \"x\"\n", "tls_ca", "not TLS"},
           Row{"redis+unix:///s", "tls_server_name = \"x\"\n", "tls_server_name", "not TLS"},
           Row{"redis+sentinel://h/s", "tls_client_cert = \"x\"\n", "tls_client_cert", "not TLS"},
           Row{"redis://h", "sentinel_password_file = \"x\"\n", "sentinel_password_file", "sentinel://"},
           Row{"rediss://h", "tls_client_cert = \"x\"\n", "tls_client_cert", "needs tls_client_key"},
           Row{"rediss://h", "tls_client_key = \"x\"\n", "tls_client_key", "needs tls_client_cert"},
           Row{"rediss://h", "tls_pinned_cert_sha256 = \"x\"\n", "tls_pinned_cert_sha256", "64"},
       }) {
    CAPTURE(row.key);
    const Loaded loaded = load_toml(document("redis", "", redis(row.url, row.more)));
    const Problem* problem = find_problem(loaded, std::string("mapping.redis.") + row.key);
    REQUIRE(problem);
    CHECK(problem->text.find(row.text) != std::string::npos);
  }
}

TEST_CASE("what is unwise about a store is a warning") {
  struct Row {
    const char* source;
    const char* keys;
    std::string tables;
    const char* key;
    const char* text;
  };
  for (const Row& row : {
           Row{"redis", "on_error = \"default\"\n", redis("redis://h"), "mapping.on_error", "\"legacy\""},
           Row{"redis", "snapshot = \"x\"\ncache_max_entries = 0\n", redis("redis://h"), "mapping.snapshot",
               "stays empty"},
           Row{"file", "on_error = \"default\"\n", "", "mapping.on_error", "no effect"},
           Row{"file", "snapshot = \"x\"\n", "", "mapping.snapshot", "no effect"},
           Row{"file", "require_at_start = true\n", "", "mapping.require_at_start", "no effect"},
           Row{"sql", "", sql("sqlite:///x", "upsert_query = \"u\"\n"), "mapping.sql.upsert_query",
               "read-only"},
           Row{"sql", "", sql("sqlite:///x", "delete_query = \"u\"\n"), "mapping.sql.delete_query",
               "read-only"},
       }) {
    CAPTURE(row.key);
    const Loaded loaded = load_toml(document(row.source, row.keys, row.tables));
    CHECK(loaded.ok());
    const Problem* problem = find_problem(loaded, row.key, true);
    REQUIRE(problem);
    CHECK(problem->text.find(row.text) != std::string::npos);
  }
}

TEST_CASE("a word for what happens without the store is one of three") {
  const Loaded loaded = load_toml(document("redis", "on_error = \"ignore\"\n", redis("redis://h")));
  const Problem* problem = find_problem(loaded, "mapping.on_error");
  REQUIRE(problem);
  CHECK(problem->text.find("stale, refuse, default") != std::string::npos);
}
