// SPDX-License-Identifier: GPL-3.0-or-later
// Redis and Valkey as an account store: what it is told, and how it is made (stores.md 4).
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "conf/result.hpp"
#include "conf/secret.hpp"
#include "conf/store_url.hpp"
#include "proxy/stores/store.hpp"

namespace postern::tls {
class ClientContext;
}

namespace postern::proxy {

class Loop;

struct RedisSettings {
  conf::RedisUrl url;
  std::string key_prefix = "route:";
  size_t pool_size = 16;               // connections for questions, at most; 0 is read as 1
  std::string password_file;           // empty: none. Wins over the URL's password
  std::string sentinel_password_file;  // empty: sentinels ask for no password
  bool writable = true;                // else put() and erase() answer `failed`
  // Only with url.tls:
  std::string tls_ca;           // a PEM file; empty: the platform's trust
  std::string tls_server_name;  // empty: the name of the host that is connected to
  std::optional<std::vector<uint8_t>> tls_pinned_cert_sha256;  // 32 bytes
  std::string tls_client_cert;                                 // path, file:// or inline PEM; empty: none
  conf::Secret tls_client_key;
  /// How old last good addresses of a name may be; server.stale_addresses.
  std::chrono::milliseconds stale_addresses = std::chrono::hours(24);

  bool operator==(const RedisSettings&) const = default;
};

/// Whether this build can speak to Redis at all.
[[nodiscard]] bool has_redis();

/// Reads what TLS needs from files; null where the URL asks for no TLS. Blocks: for start and reload. The
/// error begins with the key that it is about.
conf::Result<std::shared_ptr<const tls::ClientContext>> redis_tls(const RedisSettings& settings);

/// Lives on `loop` and is made and destroyed there, though not from within an answer. Connects when
/// it is first asked something. `tls` is what redis_tls() gave. Null where !has_redis().
std::unique_ptr<Store> make_redis_store(Loop& loop, RedisSettings settings,
                                        std::shared_ptr<const tls::ClientContext> tls);

}  // namespace postern::proxy
