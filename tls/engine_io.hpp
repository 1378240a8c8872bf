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
struct Channel : Conversation {
  Channel() : Conversation{} {}
  ~Channel() { postern_forget(this); }
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;
  Input* in = nullptr;
  Outbox* out = nullptr;
  std::unique_ptr<HelloReader> hello;  // server: read first, then replayed to the library, then freed
  const ClientContext::Impl* demands = nullptr;  // client: during the handshake
  std::string host;                              // client: whom we called; server: whom the client asked for
  const char* refusal = nullptr;                 // why the peer's certificate was refused
  uint32_t window = 0;   // when the second began in which key updates are counted, in milliseconds
  bool backlog = false;  // during a call: our earlier output has not left
  bool leaf_passed = false;
  bool starved = false;           // a call-back found no memory
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
  Alert alert = Alert::internal_error;  // for the peer, where the library has found none
};
Verdict judge(WOLFSSL* ssl, int error, const Channel& channel);

}  // namespace postern::tls
