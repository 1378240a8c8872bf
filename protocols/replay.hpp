// SPDX-License-Identifier: GPL-3.0-or-later
// The conversation with a backend up to its verdict on a login, as a value: bytes in, commands and a wish
// out. No socket, no clock. First the way to ready(), which may be tried again elsewhere; then the
// credentials, once.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "conf/config.hpp"
#include "protocols/forwarding.hpp"
#include "protocols/input.hpp"
#include "protocols/login.hpp"

namespace postern::protocols {

/// What a replay goes by; outlives it.
struct ReplayRules {
  conf::TlsMode tls = conf::TlsMode::plain;  // of the leg
  bool allow_plaintext = false;              // destination.allow_plaintext_auth
  bool forward = false;                      // the leg's forwarding is xclient
  ClientFacts client;
  std::string_view hostname;  // server.hostname, may be empty
};

enum class ReplayWant : uint8_t {
  input,
  start_tls,  // send what was said, handshake; then tls_started()
  ready,      // the way is clear: authenticate() sends the credentials
  accepted,   // said() goes to the client, then the rest of the input; bridge
  rejected,   // said() is for Dialogue::rejected
  failed,     // see fault
};

/// Why a backend is no good. None of them is an authentication failure.
enum class ReplayFault : uint8_t {
  none,
  greeting,    // refusing, or not this protocol
  starttls,    // not offered, refused, or bytes behind the go-ahead
  forwarding,  // XCLIENT or ID refused
  plaintext,   // the leg is not encrypted and may not carry credentials
  protocol,    // lines without end, too many of them, or beyond understanding
  premature,   // an answer before its question
};

struct ReplayStep {
  ReplayWant want = ReplayWant::input;
  ReplayFault fault = ReplayFault::none;
};

class Replay {
 public:
  static constexpr size_t longest_line = 65536;
  static constexpr unsigned most_reply_lines = 256;  // of one reply before the credentials
  static constexpr unsigned most_auth_lines = 64;    // behind them
  static constexpr size_t most_said = 128 * 1024;    // kept for the client

  virtual ~Replay() = default;
  /// Goes no further than one question: what is left of `in` then stood there before it was asked.
  virtual ReplayStep advance(Input& in, std::string& out) = 0;
  virtual ReplayStep tls_started(std::string& out) = 0;
  virtual ReplayStep authenticate(std::string& out) = 0;
  /// The backend's words for the client: whole lines, the final one last.
  [[nodiscard]] virtual std::string_view said() const = 0;
};

}  // namespace postern::protocols
