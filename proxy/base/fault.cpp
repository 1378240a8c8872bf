// SPDX-License-Identifier: GPL-3.0-or-later
// The table behind fault.hpp.
#include "proxy/base/fault.hpp"

#include <array>

namespace postern::proxy {
namespace {

using enum EndReason;
constexpr auto no = std::optional<Rejected>{};

constexpr std::array<FaultRow, fault_count> rows = {{
    {Fault::none, "eof", false, Stage::none, eof, no},
    {Fault::idle, "idle", false, Stage::none, idle, no},
    {Fault::kicked, "kicked", false, Stage::none, kicked, no},
    {Fault::shutdown, "shutdown", false, Stage::none, shutdown, no},
    {Fault::proxy_header, "proxy_header", false, Stage::none, error, Rejected::proxy_header},
    {Fault::client_limit, "client_limit", false, Stage::none, error, Rejected::client_limit},
    {Fault::made_room, "made_room", false, Stage::none, error, Rejected::made_room},
    {Fault::preauth_memory, "preauth_memory", false, Stage::none, error, Rejected::preauth_memory},
    {Fault::timeout, "timeout", false, Stage::none, error, Rejected::timeout},
    {Fault::tls_timeout, "tls_timeout", false, Stage::none, error, Rejected::timeout},
    {Fault::tls, "tls", false, Stage::none, error, Rejected::tls},
    {Fault::client_gone, "client_gone", false, Stage::none, error, no},
    {Fault::no_login, "no_login", false, Stage::none, error, no},
    {Fault::quit, "quit", false, Stage::none, error, no},
    {Fault::auth_failures, "auth_failures", false, Stage::none, error, no},
    {Fault::command_errors, "command_errors", false, Stage::none, error, Rejected::command_errors},
    {Fault::input_limit, "input_limit", false, Stage::none, error, no},
    {Fault::client_reset, "client_reset", false, Stage::none, error, no},
    {Fault::client_tls, "client_tls", false, Stage::none, error, no},
    {Fault::key_updates, "key_updates", false, Stage::none, error, no},
    {Fault::backend_reset, "backend_reset", true, Stage::later, error, no},
    {Fault::backend_tls, "backend_tls", false, Stage::later, error, no},
    {Fault::backend_key_updates, "backend_key_updates", false, Stage::later, error, no},
    {Fault::mapping_store, "mapping_store", false, Stage::none, error, no},
    {Fault::no_leg, "no_leg", false, Stage::none, error, no},
    {Fault::loop, "loop", false, Stage::none, error, no},
    {Fault::breaker_open, "breaker_open", false, Stage::none, error, no},
    {Fault::resolve, "resolve", true, Stage::connect, error, no},
    {Fault::name_server, "name_server", true, Stage::none, error, no},
    {Fault::source_address, "source_address", true, Stage::connect, error, no},
    {Fault::connect, "connect", true, Stage::connect, error, no},
    {Fault::backend_timeout, "backend_timeout", false, Stage::connect, error, no},
    {Fault::proxy_write, "proxy_write", true, Stage::later, error, no},
    {Fault::backend_handshake, "backend_handshake", true, Stage::later, error, no},
    {Fault::backend_certificate, "backend_certificate", false, Stage::later, error, no},
    {Fault::backend_greeting, "backend_greeting", false, Stage::later, error, no},
    {Fault::backend_starttls, "backend_starttls", false, Stage::later, error, no},
    {Fault::backend_forwarding, "backend_forwarding", false, Stage::later, error, no},
    {Fault::backend_protocol, "backend_protocol", false, Stage::later, error, no},
    {Fault::backend_closed, "backend_closed", true, Stage::later, error, no},
    {Fault::backend_silent, "backend_silent", true, Stage::later, error, no},
    {Fault::plaintext_leg, "plaintext_leg", false, Stage::none, error, no},
    {Fault::memory, "memory", false, Stage::none, error, no},
}};

constexpr bool in_order() {
  for (size_t i = 0; i < rows.size(); ++i)
    if (static_cast<size_t>(rows[i].fault) != i) return false;
  return static_cast<size_t>(Fault::memory) + 1 == fault_count;
}
static_assert(in_order(), "one row a fault, in the enum's order");

}  // namespace

const FaultRow& row(Fault fault) { return rows[static_cast<size_t>(fault)]; }

Fault fault_of(protocols::ReplayFault fault) {
  using enum protocols::ReplayFault;
  switch (fault) {
    case greeting:
      return Fault::backend_greeting;
    case starttls:
      return Fault::backend_starttls;
    case forwarding:
      return Fault::backend_forwarding;
    case plaintext:
      return Fault::plaintext_leg;
    case none:
    case premature:
    case protocol:
      break;
  }
  return Fault::backend_protocol;
}

const char* reason_of(protocols::ReplayFault fault) {
  using enum protocols::ReplayFault;
  switch (fault) {
    case greeting:
      return "it refused, or greeted in another protocol";
    case starttls:
      return "STARTTLS not offered, refused, or followed by bytes in clear";
    case forwarding:
      return "it refused XCLIENT or ID";
    case plaintext:
      return "credentials may not go over a leg in clear";
    case premature:
      return "it answers before it is asked";
    case none:
    case protocol:
      break;
  }
  return "it does not speak the protocol, or without end";
}

}  // namespace postern::proxy
