// SPDX-License-Identifier: GPL-3.0-or-later
// Who calls, in the words backends understand: XCLIENT and IMAP ID (forwarding.md 3 and 4). Nothing a client
// chose gets out of its value.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "conf/address.hpp"

namespace postern::protocols {

struct ClientFacts {
  conf::SocketAddress peer;
  conf::SocketAddress local;
  uint32_t ttl = 7;  // of the session; what goes out is one less
  std::string_view session;
  bool encrypted = false;
};

/// POP3 and ManageSieve, CR LF included.
std::string xclient_all(const ClientFacts& facts);

/// Submission: only attributes that `announced` (the words behind XCLIENT in the EHLO reply) has, in the
/// order of forwarding.md 3.1, xtext, CR LF included, below 512 bytes. Empty: none is left.
std::string xclient_filtered(const ClientFacts& facts, std::string_view helo, std::string_view announced);

/// `F1 ID (...)` CR LF: the forwarding fields if `facts`, then those of the client's own that are fit to be
/// passed on: plain text, within RFC 2971's limits, and none that begins with "x-". Empty: nothing to say.
std::string imap_id(const ClientFacts* facts, std::span<const std::pair<std::string, std::string>> own);

}  // namespace postern::protocols
