// SPDX-License-Identifier: GPL-3.0-or-later
// One row a kind of store.
#include "proxy/stores/make_store.hpp"

#include <fmt/core.h>

#include <array>
#include <string_view>

namespace postern::proxy {
namespace {

using Plan = std::shared_ptr<const StorePlan> (*)(const conf::Config&, conf::Problems&);

struct Kind {
  std::string_view scheme;  // an address begins with it
  std::string_view name;
  std::string_view library;
  Plan plan;  // null: built without the library
};

constexpr std::array<Kind, 4> kinds = {{
    {"redis", "redis", "hiredis", nullptr},
    {"postgres", "postgres", "libpq", nullptr},
    {"m", "mysql", "libmariadb", nullptr},  // mysql, mariadb
    {"sqlite", "sqlite", "sqlite3", nullptr},
}};

}  // namespace

std::shared_ptr<const StorePlan> plan_store(const conf::Config& config, conf::Problems& problems) {
  const conf::MappingConf& mapping = config.mapping;
  const char* key = "mapping.redis.url";
  std::string_view url;
  if (mapping.source == conf::MappingSource::redis && mapping.redis) url = mapping.redis->url.reveal();
  if (mapping.source == conf::MappingSource::sql && mapping.sql) {
    key = "mapping.sql.url";
    url = mapping.sql->url.reveal();
  }
  for (const Kind& kind : kinds) {
    if (url.empty() || !url.starts_with(kind.scheme)) continue;
    if (kind.plan) return kind.plan(config, problems);
    problems.add(key, fmt::format("this build of Postern cannot ask {} stores: it was made without {}",
                                  kind.name, kind.library));
  }
  return nullptr;
}

}  // namespace postern::proxy
