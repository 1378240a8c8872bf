// SPDX-License-Identifier: GPL-3.0-or-later
// The parts that all store URLs have in common, and how they are read. Internal to store_url.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "conf/result.hpp"
#include "conf/store_url.hpp"

namespace postern::conf::store_url {

/// The URL in its parts, nothing decoded.
struct Parts {
  std::string_view scheme, user, password, hosts, path, query;
  bool has_query = false;
};
/// `known`: the schemes, for the message.
Result<Parts> split(std::string_view url, std::string_view known);

/// %XX decoded; nothing where an escape is broken or stands for a NUL, of which bad_escape then speaks.
std::optional<std::string> decoded(std::string_view text);
inline constexpr const char* bad_escape = "has a % that is not followed by two hexadecimal digits, or %00";

/// "host:port,[address]:port", at most `most` of them; `port` where none is given.
Result<std::vector<StoreHost>> read_hosts(std::string_view text, uint16_t port, size_t most);
bool is_socket_path(std::string_view path);

using Parameters = std::vector<std::pair<std::string, std::string>>;
/// "a=b&c=d"; `known` is every name that may stand there, each once.
Result<Parameters> read_parameters(const Parts& parts, std::span<const std::string_view> known);
/// Takes one out of the list.
std::optional<std::string> taken(Parameters& all, std::string_view name);

}  // namespace postern::conf::store_url
