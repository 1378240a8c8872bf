// SPDX-License-Identifier: GPL-3.0-or-later
// What each scheme makes of the parts of its URL.
#include "conf/store_url.hpp"

#include <algorithm>
#include <iterator>
#include <optional>

#include "conf/store_url_parts.hpp"
#include "conf/text.hpp"

namespace postern::conf {
namespace {

using namespace store_url;

constexpr uint32_t most_databases = 1'000'000;

/// User and password into their places.
template <class Url>
Result<void> take_login(const Parts& parts, Url& url) {
  auto user = decoded(parts.user), password = decoded(parts.password);
  if (!user || !password) return error(std::string("the name or password ") + bad_escape);
  url.user = std::move(*user);
  url.password = Secret(std::move(*password));
  return {};
}

Result<void> read_database(std::string_view text, uint32_t& out) {
  const auto number = parse_number(text, most_databases);
  if (!number) return error("the database of Redis is a number, such as /0");
  out = static_cast<uint32_t>(*number);
  return {};
}

// --- Redis ------------------------------------------------------------------------------------------

constexpr std::string_view redis_schemes =
    "redis://, rediss://, redis+sentinel://, rediss+sentinel://, redis+unix://";

Result<void> read_redis_socket(const Parts& parts, RedisUrl& url) {
  static constexpr std::string_view known[] = {"db"};
  if (!parts.hosts.empty())
    return error("names a host; the path follows redis+unix:// at once, with a / of its own");
  auto path = decoded(parts.path);
  if (!path) return error(std::string("the path ") + bad_escape);
  if (!is_socket_path(*path)) return error("needs the path of a Unix socket, at most 107 characters");
  url.path = std::move(*path);
  auto parameters = read_parameters(parts, known);
  if (!parameters) return tl::unexpected(parameters.error());
  const auto database = taken(*parameters, "db");
  return database ? read_database(*database, url.database) : Result<void>{};
}

Result<void> read_redis_servers(const Parts& parts, RedisUrl& url) {
  const bool sentinel = url.kind == RedisUrl::Kind::sentinel;
  if (parts.has_query) return error("takes nothing behind a ?; TLS and the like have keys of their own");
  auto hosts =
      sentinel ? read_hosts(parts.hosts, 26379, store_hosts_limit) : read_hosts(parts.hosts, 6379, 1);
  if (!hosts) return tl::unexpected(hosts.error());
  url.hosts = std::move(*hosts);
  if (std::any_of(url.hosts.begin(), url.hosts.end(),
                  [](const StoreHost& host) { return host.name[0] == '/'; }))
    return error("has a path for a host; a Unix socket is redis+unix:///path");
  std::string_view path = parts.path;
  if (!path.empty()) path.remove_prefix(1);
  if (sentinel) {
    const size_t slash = path.find('/');
    auto service = decoded(path.substr(0, slash));
    if (!service) return error(std::string("the service ") + bad_escape);
    if (service->empty() || has_control(*service))
      return error("names no service: behind the sentinels stands /NAME, as in \"sentinel monitor NAME\"");
    url.service = std::move(*service);
    path = slash == std::string_view::npos ? std::string_view() : path.substr(slash + 1);
  }
  return path.empty() ? Result<void>{} : read_database(path, url.database);
}

// --- SQL --------------------------------------------------------------------------------------------

constexpr std::string_view sql_schemes = "postgres://, postgresql://, mysql://, mariadb://, sqlite://";

/// libpq's words. Left out is what would lead it past Postern: names of its own for addresses (hostaddr),
/// files that name other servers (service, servicefile) or passwords (passfile), and what is not for queries.
constexpr std::string_view postgres_words[] = {"host",
                                               "port",
                                               "dbname",
                                               "user",
                                               "password",
                                               "target_session_attrs",
                                               "load_balance_hosts",
                                               "sslmode",
                                               "sslrootcert",
                                               "sslcert",
                                               "sslkey",
                                               "sslcrl",
                                               "sslcrldir",
                                               "sslpassword",
                                               "sslsni",
                                               "sslcompression",
                                               "ssl_min_protocol_version",
                                               "ssl_max_protocol_version",
                                               "sslnegotiation",
                                               "sslcertmode",
                                               "requirepeer",
                                               "require_auth",
                                               "channel_binding",
                                               "gssencmode",
                                               "krbsrvname",
                                               "gsslib",
                                               "application_name",
                                               "fallback_application_name",
                                               "options",
                                               "connect_timeout",
                                               "client_encoding",
                                               "keepalives",
                                               "keepalives_idle",
                                               "keepalives_interval",
                                               "keepalives_count",
                                               "tcp_user_timeout"};

/// Hosts, ports, user and so on may stand behind the ? as well, as libpq allows, but not in both places.
Result<void> read_postgres(const Parts& parts, SqlUrl& url) {
  auto parameters = read_parameters(parts, postgres_words);
  if (!parameters) return tl::unexpected(parameters.error());
  std::string hosts(parts.hosts);
  std::vector<std::string> ports;
  if (const auto port = taken(*parameters, "port")) {
    for (std::string_view rest = *port;;) {
      const size_t comma = rest.find(',');
      const auto number = parse_number(rest.substr(0, comma), UINT16_MAX);
      if (!number || *number == 0) return error("port is no number from 1 to 65535");
      ports.emplace_back(rest.substr(0, comma));
      if (comma == std::string_view::npos) break;
      rest.remove_prefix(comma + 1);
    }
  }
  if (auto host = taken(*parameters, "host")) {
    if (!hosts.empty()) return error("names its hosts twice, before the path and behind the ?");
    hosts = std::move(*host);
  }
  if (!hosts.empty()) {
    auto list = read_hosts(hosts, 5432, store_hosts_limit);
    if (!list) return tl::unexpected(list.error());
    url.hosts = std::move(*list);
    if (!ports.empty() && ports.size() != 1 && ports.size() != url.hosts.size())
      return error("port needs one number, or one for each host");
    for (size_t i = 0; i < url.hosts.size() && !ports.empty(); ++i)
      url.hosts[i].port = static_cast<uint16_t>(
          parse_number(ports[ports.size() == 1 ? 0 : i], UINT16_MAX).value_or(url.hosts[i].port));
    const auto is_path = [](const StoreHost& host) { return host.name[0] == '/'; };
    if (std::any_of(url.hosts.begin(), url.hosts.end(),
                    [&](const StoreHost& host) { return is_path(host) && !is_socket_path(host.name); }))
      return error("the directory of a Unix socket is too long, or only a /");
  } else if (!ports.empty()) {
    return error("gives a port but no host");
  }
  auto database = decoded(parts.path.empty() ? parts.path : parts.path.substr(1));
  if (!database) return error(std::string("the database ") + bad_escape);
  url.database = std::move(*database);
  const auto once = [&parameters](const char* name, std::string& into) {
    auto value = taken(*parameters, name);
    if (!value) return true;
    if (!into.empty()) return false;
    into = std::move(*value);
    return true;
  };
  if (!once("dbname", url.database) || !once("user", url.user))
    return error("names its database or its user twice, before and behind the ?");
  if (auto password = taken(*parameters, "password")) {
    if (!url.password.empty()) return error("has a password twice, before and behind the ?");
    url.password = Secret(std::move(*password));
  }
  static constexpr std::string_view modes[] = {"disable", "allow",     "prefer",
                                               "require", "verify-ca", "verify-full"};
  static constexpr std::string_view kinds[] = {"any",     "read-write", "read-only",
                                               "primary", "standby",    "prefer-standby"};
  for (const auto& [name, value] : *parameters) {
    if (name == "sslmode" && std::find(std::begin(modes), std::end(modes), value) == std::end(modes))
      return error("sslmode is one of disable, allow, prefer, require, verify-ca, verify-full");
    if (name == "target_session_attrs" &&
        std::find(std::begin(kinds), std::end(kinds), value) == std::end(kinds))
      return error(
          "target_session_attrs is one of any, read-write, read-only, primary, standby, prefer-standby");
  }
  // libpq takes a database that looks like a URL or a connection string for one.
  if (url.database.find('=') != std::string::npos || url.database.find("://") != std::string::npos)
    return error("the name of the database holds = or ://");
  url.parameters = std::move(*parameters);
  return {};
}

Result<void> read_mariadb(const Parts& parts, SqlUrl& url) {
  static constexpr std::string_view known[] = {"socket", "ssl-mode", "ssl-ca", "ssl-cert", "ssl-key"};
  static constexpr std::string_view modes[] = {"disabled", "required", "verify_ca", "verify_identity"};
  auto parameters = read_parameters(parts, known);
  if (!parameters) return tl::unexpected(parameters.error());
  if (auto socket = taken(*parameters, "socket")) {
    if (!is_socket_path(*socket))
      return error("socket needs the path of a Unix socket, at most 107 characters");
    if (!parts.hosts.empty() && parts.hosts != "localhost") return error("names a host and a socket");
    url.path = std::move(*socket);
  } else {
    auto hosts = read_hosts(parts.hosts, 3306, 1);
    if (!hosts) return tl::unexpected(hosts.error());
    if (hosts->front().name[0] == '/') return error("has a path for a host; a Unix socket is ?socket=/path");
    url.hosts = std::move(*hosts);
  }
  for (auto& [name, value] : *parameters) {
    if (name != "ssl-mode") {
      if (value.empty()) return error(name + " needs the path of a file");
      continue;
    }
    value = ascii_lower(value);
    if (std::find(std::begin(modes), std::end(modes), value) == std::end(modes))
      return error("ssl-mode is one of disabled, required, verify_ca, verify_identity");
  }
  const auto has = [&parameters](std::string_view name) {
    return std::any_of(parameters->begin(), parameters->end(),
                       [name](const auto& one) { return one.first == name; });
  };
  if (has("ssl-cert") != has("ssl-key")) return error("ssl-cert and ssl-key go together");
  auto database = decoded(parts.path.empty() ? parts.path : parts.path.substr(1));
  if (!database) return error(std::string("the database ") + bad_escape);
  if (database->empty() || database->find('/') != std::string::npos)
    return error("names no database: behind the host stands /NAME");
  url.database = std::move(*database);
  url.parameters = std::move(*parameters);
  return {};
}

Result<void> read_sqlite(const Parts& parts, SqlUrl& url) {
  if (!parts.user.empty() || !parts.password.empty()) return error("a file has no user and no password");
  if (parts.has_query) return error("takes nothing behind a ?; in the name of a file it is written %3F");
  auto path = decoded(std::string(parts.hosts) + std::string(parts.path));
  if (!path) return error(std::string("the path ") + bad_escape);
  if (path->empty() || path->ends_with('/')) return error("names no file: sqlite:///path/to/file");
  if (*path == ":memory:") return error("a database in memory is empty at every start");
  url.path = std::move(*path);
  return {};
}

}  // namespace

Result<RedisUrl> parse_redis_url(std::string_view text) {
  const auto parts = split(text, redis_schemes);
  if (!parts) return tl::unexpected(parts.error());
  RedisUrl url;
  const std::string scheme = ascii_lower(parts->scheme);
  if (scheme == "redis" || scheme == "rediss")
    url.kind = RedisUrl::Kind::tcp;
  else if (scheme == "redis+sentinel" || scheme == "rediss+sentinel")
    url.kind = RedisUrl::Kind::sentinel;
  else if (scheme == "redis+unix")
    url.kind = RedisUrl::Kind::unix_socket;
  else
    return error("begins with none of " + std::string(redis_schemes));
  url.tls = scheme.starts_with("rediss");
  if (auto login = take_login(*parts, url); !login) return tl::unexpected(login.error());
  const auto read = url.kind == RedisUrl::Kind::unix_socket ? read_redis_socket(*parts, url)
                                                            : read_redis_servers(*parts, url);
  if (!read) return tl::unexpected(read.error());
  return url;
}

Result<SqlUrl> parse_sql_url(std::string_view text) {
  const auto parts = split(text, sql_schemes);
  if (!parts) return tl::unexpected(parts.error());
  SqlUrl url;
  const std::string scheme = ascii_lower(parts->scheme);
  if (scheme == "postgres" || scheme == "postgresql")
    url.kind = SqlUrl::Kind::postgres;
  else if (scheme == "mysql" || scheme == "mariadb")
    url.kind = SqlUrl::Kind::mariadb;
  else if (scheme == "sqlite")
    url.kind = SqlUrl::Kind::sqlite;
  else
    return error("begins with none of " + std::string(sql_schemes));
  if (auto login = take_login(*parts, url); !login) return tl::unexpected(login.error());
  const auto read = url.kind == SqlUrl::Kind::postgres  ? read_postgres(*parts, url)
                    : url.kind == SqlUrl::Kind::mariadb ? read_mariadb(*parts, url)
                                                        : read_sqlite(*parts, url);
  if (!read) return tl::unexpected(read.error());
  return url;
}

}  // namespace postern::conf
