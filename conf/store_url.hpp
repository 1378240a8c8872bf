// SPDX-License-Identifier: GPL-3.0-or-later
// The URLs of account stores, taken apart and checked (stores.md 4 and 5). No message repeats what may be
// part of a password.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "conf/result.hpp"
#include "conf/secret.hpp"

namespace postern::conf {

/// A server as the URL names it: a host name or an address, without brackets.
struct StoreHost {
  std::string name;
  uint16_t port = 0;
  bool operator==(const StoreHost&) const = default;
};

/// redis://, rediss://, redis+sentinel://, rediss+sentinel:// and redis+unix://.
struct RedisUrl {
  enum class Kind : uint8_t { tcp, sentinel, unix_socket };
  Kind kind = Kind::tcp;
  bool tls = false;
  std::string user;              // empty: the default user
  Secret password;               // empty: none in the URL
  std::vector<StoreHost> hosts;  // tcp: the server; sentinel: all sentinels; unix_socket: none
  std::string service;           // what the sentinels call the master
  std::string path;              // unix_socket
  uint32_t database = 0;
  bool operator==(const RedisUrl&) const = default;
};

/// postgres://, postgresql://, mysql://, mariadb:// and sqlite://.
struct SqlUrl {
  enum class Kind : uint8_t { postgres, mariadb, sqlite };
  Kind kind = Kind::postgres;
  std::string user;
  Secret password;
  /// postgres, mariadb. A name that begins with "/" is the directory of a Unix socket (postgres). Without
  /// any, the library's own default is meant.
  std::vector<StoreHost> hosts;
  std::string database;
  std::string path;  // sqlite: the file; mariadb: the Unix socket, or empty
  /// postgres: what libpq is told in its own words, each word once. mariadb: ssl-mode, ssl-ca, ssl-cert,
  /// ssl-key.
  std::vector<std::pair<std::string, std::string>> parameters;
  bool operator==(const SqlUrl&) const = default;
};

Result<RedisUrl> parse_redis_url(std::string_view url);
Result<SqlUrl> parse_sql_url(std::string_view url);

/// The bounds of what is read.
inline constexpr size_t store_url_limit = 4096;
inline constexpr size_t store_hosts_limit = 16;
inline constexpr size_t store_parameters_limit = 32;

}  // namespace postern::conf
