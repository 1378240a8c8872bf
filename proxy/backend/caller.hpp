// SPDX-License-Identifier: GPL-3.0-or-later
// Who calls: what backends are told of a client and records say of it.
#pragma once

#include <cstdint>
#include <string_view>

#include "conf/address.hpp"
#include "tls/engine.hpp"

namespace postern::proxy {

/// The views must stay valid as long as it is used.
struct Caller {
  conf::SocketAddress peer;   // the client, after an inbound PROXY header
  conf::SocketAddress local;  // what it connected to
  uint32_t ttl = 7;
  std::string_view listener;
  std::string_view session;
  bool tls = false;
  tls::Facts facts;
  std::string_view alpn;
  std::string_view server_name;
};

}  // namespace postern::proxy
