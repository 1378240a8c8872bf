// SPDX-License-Identifier: GPL-3.0-or-later
// From what an engine says of itself to the cells that count it.
#pragma once

#include "conf/config.hpp"
#include "proxy/observe/counters.hpp"
#include "tls/engine.hpp"

namespace postern::proxy {

inline void count_handshake(TlsSide& side, const tls::Facts& facts) {
  const auto version = facts.version == "TLSv1.3" ? TlsVersion::tls13 : TlsVersion::tls12;
  side.handshakes[static_cast<size_t>(version)][0].add();
  if (facts.resumed) side.resumed.add();
  size_t group = 0;
  while (group + 1 < tls_group_count && conf::name(static_cast<conf::Group>(group)) != facts.group) ++group;
  // A TLS 1.2 resumption exchanges no key at all.
  if (!facts.resumed || group + 1 < tls_group_count) side.groups[group].add();
}

inline void count_failure(TlsSide& side, tls::Failure failure) {
  side.handshakes[0][1 + static_cast<size_t>(failure)].add();
}

inline void count_timeout(TlsSide& side) { side.handshakes[0][tls_result_count - 1].add(); }

}  // namespace postern::proxy
