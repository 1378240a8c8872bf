// SPDX-License-Identifier: GPL-3.0-or-later
// What Redis' errors mean, where its cluster sends a question, and how far credentials may follow.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "conf/address.hpp"

namespace postern::proxy {

/// A server as another server names it.
struct RedisPlace {
  std::string host;  // empty: the host that said so
  uint16_t port = 0;
  auto operator<=>(const RedisPlace&) const = default;
};

enum class RedisRefusal : uint8_t {
  other,      // this question failed; nothing is said about the next
  moved,      // another server has the slot
  ask,        // another server has this key, for now
  read_only,  // this is no master any more
  login,      // credentials are missing, wrong or too weak
  loading,    // not now: loading, without its master, out of memory, busy
};

/// An error reply: which kind it is, and words for the log. Of what the server says only its code is
/// repeated, since the rest may hold names of accounts.
struct RedisError {
  RedisRefusal refusal = RedisRefusal::other;
  std::string words;
  uint16_t slot = 0;  // of moved and ask
  RedisPlace place;   // of the same
};
RedisError read_error(std::string_view text);

inline constexpr size_t redis_slots = 16384;
/// Which of them a key is in: of a key with {braces}, what is in the first pair decides.
uint16_t slot_of(std::string_view key);

enum class NetworkClass : uint8_t { loopback, local, open };
NetworkClass network_class(const conf::Ip& ip);
/// Whether a redirection from a server at `from` to one at `to` may be followed without TLS.
bool may_follow(const conf::Ip& from, const conf::Ip& to);

}  // namespace postern::proxy
