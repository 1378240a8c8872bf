// SPDX-License-Identifier: GPL-3.0-or-later
// Every way a connection can end: one row each, with what follows from it. The label
// is the log field and, where it is one, the metric label.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "protocols/replay.hpp"
#include "proxy/base/outcome.hpp"

namespace postern::proxy {

enum class Fault : uint8_t {
  none,                 // both sides ended in order
  idle,                 // bridge_idle passed without a byte
  kicked,               // closed by the management API
  shutdown,             // cut at the end of the grace period
  proxy_header,         // missing, malformed or from an untrusted peer
  client_limit,         // max_connections_per_client, found out by its PROXY header
  made_room,            // not logged in when the listener was full and somebody else came
  preauth_memory,       // not logged in when all who were not held too much memory
  timeout,              // preauth_timeout
  tls_timeout,          // the client did not complete its handshake in time
  tls,                  // the client's handshake failed
  client_gone,          // the client's connection broke before it was bridged
  no_login,             // the client ended before it logged in
  quit,                 // and said so
  auth_failures,        // max_auth_attempts
  command_errors,       // max_errors, or a browser
  input_limit,          // a line without end, or too many commands before a login
  client_reset,         // the client's connection broke while bridged
  client_tls,           // the client's TLS broke while bridged
  key_updates,          // the client sent more TLS key updates than the limit
  backend_reset,        // the backend's connection broke while bridged
  backend_tls,          // the backend's TLS broke while bridged
  backend_key_updates,  // the backend sent more TLS key updates than the limit
  mapping_store,        // the account store does not say where the account is
  no_leg,               // the destination has no leg for this protocol
  loop,                 // the destination is Postern itself, or the forwarding TTL ran out
  breaker_open,         // the destination is marked down
  resolve,              // its name has no address
  name_server,          // no answer about its name in time
  source_address,       // no source address fits or can be bound
  connect,              // no TCP connection
  backend_timeout,      // the establishment window ran out
  proxy_write,          // the PROXY header could not be sent
  backend_handshake,    // the backend's TLS handshake failed
  backend_certificate,  // the backend's certificate was refused
  backend_greeting,     // it refused, or greeted in another protocol
  backend_starttls,     // not offered, refused, or bytes behind the go-ahead
  backend_forwarding,   // it refused XCLIENT or ID
  backend_protocol,     // lines without end, or beyond understanding
  backend_closed,       // it ended the conversation before the login was answered
  backend_silent,       // it did not answer in time
  plaintext_leg,        // credentials may not go over this leg
  memory,               // no memory or descriptors for it
};
inline constexpr size_t fault_count = 43;

/// What a failed dial means for the destination's health (management.md 5).
enum class Stage : uint8_t { none, connect, later };

struct FaultRow {
  Fault fault;
  std::string_view label;
  bool retryable;  // the dialer may try again within its window
  Stage stage;
  EndReason end;                     // of a bridged session
  std::optional<Rejected> rejected;  // of one that never got there: postern_connections_rejected_total
};

const FaultRow& row(Fault fault);
inline std::string_view label(Fault fault) { return row(fault).label; }

/// What a replay found wrong, as a fault and as a clause for the log.
Fault fault_of(protocols::ReplayFault fault);
const char* reason_of(protocols::ReplayFault fault);

}  // namespace postern::proxy
