// SPDX-License-Identifier: GPL-3.0-or-later
// How a session ticket is sealed. Internal to tls/.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>

#include "tls/tickets.hpp"
#include "tls/wolfssl.hpp"

namespace postern::tls {

/// Whose ticket it is: authenticated with it, so that it opens only under the same certificate and policy.
/// wolfSSL does not bind TLS 1.2 sessions to a server name; this does.
struct TicketScope {
  std::shared_ptr<const TicketKeys> keys;
  std::chrono::seconds lifetime{0};
  std::array<uint8_t, 32> identity{};
};

/// wolfSSL's ticket call-back. What cannot be sealed becomes a ticket that nothing opens: the library takes a
/// refusal to seal for the end of the handshake. What cannot be opened is refused, which means a full
/// handshake; `scope` is a `const TicketScope*`. Runs on every loop at once. Layout: key name, then as "IV"
/// 12 random bytes and 4 of issue time, AES-256-GCM over the session, and as "MAC" the 16 bytes of tag, one
/// that counts resumptions in a row, and zeros. Name, IV, identity, length and count are authenticated.
int ticket_callback(WOLFSSL* ssl, unsigned char* name, unsigned char* iv, unsigned char* mac, int seal,
                    unsigned char* ticket, int size, int* out_size, void* scope);

}  // namespace postern::tls
