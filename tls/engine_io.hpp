// SPDX-License-Identifier: GPL-3.0-or-later
// The two ends wolfSSL calls back into: bytes of one conversation, and the look at a peer's certificate.
// Internal to tls/.
#pragma once

#include <memory>
#include <string>

#include "tls/client_context.hpp"
#include "tls/client_hello.hpp"
#include "tls/outbox.hpp"
#include "tls/wolfssl.hpp"

namespace postern::tls {

/// What the call-backs know of a conversation. `in` and `out` are set only while a call of ours is running.
struct Channel {
  Input* in = nullptr;
  Outbox* out = nullptr;
  std::unique_ptr<HelloReader> hello;  // server: read first, then replayed to the library, then freed
  size_t replayed = 0;                 // bytes of its record the library has had
  const ClientContext::Impl* demands = nullptr;  // client: during the handshake
  std::string host;                              // client: whom we called; server: whom the client asked for
  const char* refusal = nullptr;                 // why the peer's certificate was refused
  bool leaf_passed = false;
  uint8_t ticket_generation = 0;  // server: resumptions in a row that led here
};

/// Memory I/O and grouping of flights, for every context of either role.
void prepare_io(WOLFSSL_CTX* context);
/// Makes `channel` what the call-backs of this connection get.
void attach(WOLFSSL* ssl, Channel* channel);

/// wolfSSL's verify call-back: a pin decides alone; else chain and dates by the library, the name by us.
int verify_peer(int library_accepts, WOLFSSL_X509_STORE_CTX* store);

/// Why a call failed, from the library's point of view.
struct Verdict {
  Failure failure;
  const char* error;
};
Verdict judge(WOLFSSL* ssl, int error, const Channel& channel);

}  // namespace postern::tls
