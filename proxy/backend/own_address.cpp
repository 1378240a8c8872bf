// SPDX-License-Identifier: GPL-3.0-or-later
#include "proxy/backend/own_address.hpp"

#include <ifaddrs.h>

#include <algorithm>
#include <array>

namespace postern::proxy {
namespace {

bool is_local(const conf::Ip& ip) {
  if (ip.is_loopback()) return true;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return false;
  bool found = false;
  for (const ifaddrs* at = list; at && !found; at = at->ifa_next)
    if (at->ifa_addr && (at->ifa_addr->sa_family == AF_INET || at->ifa_addr->sa_family == AF_INET6))
      found = conf::SocketAddress::from(at->ifa_addr).ip == ip;
  ::freeifaddrs(list);
  return found;
}

}  // namespace

conf::Ip reached(const conf::Ip& ip) {
  static constexpr std::array<uint8_t, 4> v4 = {127, 0, 0, 1};
  static constexpr std::array<uint8_t, 16> v6 = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  if (!ip.is_any()) return ip;
  return ip.is_v4() ? conf::Ip::v4(v4) : conf::Ip::v6(v6);
}

bool is_own(const std::vector<conf::SocketAddress>& own, const conf::SocketAddress& target) {
  return std::ranges::any_of(own, [&](const conf::SocketAddress& mine) {
    return mine.port == target.port && (mine.ip == target.ip || (mine.ip.is_any() && is_local(target.ip)));
  });
}

}  // namespace postern::proxy
