// SPDX-License-Identifier: GPL-3.0-or-later
// How connections end, as far as it is counted: the words of two labels.
#pragma once

#include <array>
#include <cstdint>

namespace postern::proxy {

/// postern_connections_rejected_total{reason}
enum class Rejected : uint8_t {
  limit,
  client_limit,
  made_room,
  preauth_memory,
  proxy_header,
  tls,
  timeout,
  command_errors
};
inline constexpr std::array<const char*, 8> rejected_names = {"limit",          "client_limit",  "made_room",
                                                              "preauth_memory", "proxy_header",  "tls",
                                                              "timeout",        "command_errors"};

/// postern_sessions_total{reason}: why a bridged session ended.
enum class EndReason : uint8_t { eof, idle, kicked, error, shutdown };
inline constexpr std::array<const char*, 5> end_reason_names = {"eof", "idle", "kicked", "error", "shutdown"};

}  // namespace postern::proxy
