// SPDX-License-Identifier: GPL-3.0-or-later
// URLs of account stores under any bytes: what is accepted is within its bounds and names something to speak
// to; what is refused is refused with words, on one line, that do not hold the password.
#include <algorithm>

#include "conf/store_url.hpp"
#include "conf/text.hpp"
#include "test/fuzz/require.hpp"

using namespace postern;
using fuzz::require;

namespace {

void check_hosts(const std::vector<conf::StoreHost>& hosts) {
  require(hosts.size() <= conf::store_hosts_limit, "too many hosts");
  for (const auto& host : hosts) {
    require(!host.name.empty() && host.port != 0, "a host without a name or a port");
    require(host.name.find('\0') == std::string::npos, "a NUL in a host");
  }
}

void check_message(const std::string& message, std::string_view url) {
  require(!message.empty() && message.size() <= 400, "no message, or an endless one");
  require(!conf::has_control(message), "a control character in a message");
  const size_t scheme = url.find("://"), at = url.rfind('@');
  if (scheme == std::string_view::npos || at == std::string_view::npos || at < scheme) return;
  const std::string_view login = url.substr(scheme + 3, at - scheme - 3);
  const size_t colon = login.find(':');
  if (colon == std::string_view::npos || login.size() - colon < 12) return;
  require(message.find(login.substr(colon + 1)) == std::string::npos, "a password in a message");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = fuzz::text_of(data, size);
  if (const auto url = conf::parse_redis_url(text)) {
    check_hosts(url->hosts);
    using Kind = conf::RedisUrl::Kind;
    require(url->hosts.empty() == (url->kind == Kind::unix_socket), "nobody to speak to");
    require(url->kind != Kind::tcp || url->hosts.size() == 1, "two servers");
    require(url->path.empty() == (url->kind != Kind::unix_socket), "a path where none belongs");
    require(url->service.empty() == (url->kind != Kind::sentinel), "a service where none belongs");
    require(!url->tls || url->kind != Kind::unix_socket, "TLS on a Unix socket");
    require(url->password.reveal().find('\0') == std::string_view::npos, "a NUL in a password");
  } else {
    check_message(url.error().text, text);
  }
  if (const auto url = conf::parse_sql_url(text)) {
    check_hosts(url->hosts);
    using Kind = conf::SqlUrl::Kind;
    require(url->parameters.size() <= conf::store_parameters_limit, "too many words");
    require(url->kind != Kind::sqlite || (!url->path.empty() && url->hosts.empty()), "no file");
    require(url->kind != Kind::mariadb || (url->path.empty() == (url->hosts.size() == 1)),
            "nobody to speak to");
    for (const auto& [name, value] : url->parameters) {
      require(!name.empty() && name != "hostaddr", "a word that may not be");
      require(value.find('\0') == std::string::npos, "a NUL in a value");
    }
    require(url->database.find('=') == std::string::npos || url->kind != Kind::postgres,
            "a connection string");
  } else {
    check_message(url.error().text, text);
  }
  return 0;
}
