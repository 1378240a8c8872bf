// SPDX-License-Identifier: GPL-3.0-or-later
// A piece of the URL is quoted in a message only where nobody could take it for a piece of a password.
#include "conf/store_url_parts.hpp"

#include <algorithm>

#include "conf/address.hpp"
#include "conf/scalars.hpp"
#include "conf/text.hpp"

namespace postern::conf::store_url {
namespace {

constexpr size_t socket_path_limit = 107;  // what the kernel takes

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/// One host of the list, where an @ has told it apart from passwords, or nothing was said of one.
Result<StoreHost> read_host(std::string_view text, uint16_t port) {
  StoreHost host{{}, port};
  std::string_view number;
  bool numbered = false;
  if (text.starts_with('[')) {
    const size_t end = text.find(']');
    if (end == std::string_view::npos) return error("has a [ without its ]");
    const auto ip = Ip::parse(text.substr(1, end - 1));
    if (!ip) return error("what stands in [ ] is no IPv6 address");
    host.name = ip->text();
    std::string_view rest = text.substr(end + 1);
    if (!rest.empty() && !rest.starts_with(':')) return error("something stands between ] and the port");
    numbered = !rest.empty();
    if (numbered) number = rest.substr(1);
  } else {
    const size_t colon = text.find(':');
    numbered = colon != std::string_view::npos;
    if (numbered) {
      number = text.substr(colon + 1);
      if (number.find(':') != std::string_view::npos)
        return error("has a host with several colons; an IPv6 address stands in brackets");
    }
    auto name = decoded(text.substr(0, colon));
    if (!name) return error(std::string("the host ") + bad_escape);
    host.name = std::move(*name);
  }
  if (host.name.empty()) return error("names no host");
  if (numbered) {
    const auto value = parse_number(number, UINT16_MAX);
    if (!value || *value == 0)
      return error("the port is no number from 1 to 65535; a password stands before an @");
    host.port = static_cast<uint16_t>(*value);
  }
  return host;
}

}  // namespace

std::optional<std::string> decoded(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
    const int low = high < 0 ? -1 : hex_digit(text[i + 2]);
    if (low < 0 || (high == 0 && low == 0)) {
      wipe(out);
      return std::nullopt;
    }
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

Result<Parts> split(std::string_view url, std::string_view known) {
  if (url.empty()) return error("is empty");
  if (url.size() > store_url_limit) return error("is longer than 4096 characters");
  for (const char c : url)
    if (static_cast<unsigned char>(c) <= ' ' || c == 0x7f)
      return error("has a space or a control character; written as %20 and the like they may stand there");
  Parts parts;
  const size_t scheme = url.find("://");
  if (scheme == std::string_view::npos)
    return error("is no URL: it begins with one of " + std::string(known));
  parts.scheme = url.substr(0, scheme);
  std::string_view rest = url.substr(scheme + 3);
  if (rest.find('#') != std::string_view::npos)
    return error("has a #, which means nothing here; in a password it is written %23");
  const size_t authority = std::min(rest.find_first_of("/?"), rest.size());
  // A password with a slash in it would end the host in its middle. No host, path or word of ours has an @.
  if (rest.substr(authority).find('@') != std::string_view::npos)
    return error("has an @ behind its host; in a password / is written %2F, ? %3F and @ %40");
  std::string_view login = rest.substr(0, authority);
  rest.remove_prefix(authority);
  const size_t at = login.find('@');
  if (at == std::string_view::npos) {
    parts.hosts = login;
  } else {
    parts.hosts = login.substr(at + 1);
    if (parts.hosts.find('@') != std::string_view::npos)
      return error("has more than one @; in a name or password it is written %40");
    login = login.substr(0, at);
    const size_t colon = login.find(':');
    parts.user = login.substr(0, colon);
    if (colon != std::string_view::npos) parts.password = login.substr(colon + 1);
  }
  const size_t query = rest.find('?');
  parts.path = rest.substr(0, query);
  if (query != std::string_view::npos) {
    parts.has_query = true;
    parts.query = rest.substr(query + 1);
  }
  return parts;
}

Result<std::vector<StoreHost>> read_hosts(std::string_view text, uint16_t port, size_t most) {
  std::vector<StoreHost> hosts;
  for (;;) {
    const size_t comma = text.find(',');
    auto host = read_host(text.substr(0, comma), port);
    if (!host) return tl::unexpected(host.error());
    if (!is_host(host->name) && !host->name.starts_with('/')) return error("has a host that is no host name");
    if (hosts.size() == most)
      return error(most == 1 ? "names several hosts; this store takes one" : "names more than 16 hosts");
    hosts.push_back(std::move(*host));
    if (comma == std::string_view::npos) return hosts;
    text.remove_prefix(comma + 1);
  }
}

bool is_socket_path(std::string_view path) {
  return path.starts_with('/') && path.size() > 1 && path.size() <= socket_path_limit;
}

Result<Parameters> read_parameters(const Parts& parts, std::span<const std::string_view> known) {
  Parameters all;
  if (!parts.has_query) return all;
  std::string_view text = parts.query;
  for (;;) {
    const size_t end = text.find('&');
    const std::string_view one = text.substr(0, end);
    const size_t equals = one.find('=');
    if (equals == std::string_view::npos) return error("has something behind ? that is not name=value");
    auto name = decoded(one.substr(0, equals)), value = decoded(one.substr(equals + 1));
    if (!name || !value) return error(std::string("a value behind ? ") + bad_escape);
    if (std::find(known.begin(), known.end(), *name) == known.end()) {
      const auto close = nearest(*name, known);
      return error("has an unknown word behind ?: " + quoted(*name) +
                   (close.empty() ? std::string() : "; did you mean " + std::string(close) + "?"));
    }
    if (std::any_of(all.begin(), all.end(), [&name](const auto& had) { return had.first == *name; }))
      return error("says " + *name + " twice");
    if (all.size() == store_parameters_limit) return error("has more than 32 words behind ?");
    all.emplace_back(std::move(*name), std::move(*value));
    if (end == std::string_view::npos) return all;
    text.remove_prefix(end + 1);
  }
}

std::optional<std::string> taken(Parameters& all, std::string_view name) {
  const auto at = std::find_if(all.begin(), all.end(), [name](const auto& one) { return one.first == name; });
  if (at == all.end()) return std::nullopt;
  std::string value = std::move(at->second);
  all.erase(at);
  return value;
}

}  // namespace postern::conf::store_url
