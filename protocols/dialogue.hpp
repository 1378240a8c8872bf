// SPDX-License-Identifier: GPL-3.0-or-later
// The pre-login conversation with a client as a value: bytes in, replies and a wish out. No socket, no clock.
// The result is the same however the input is split.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "conf/config.hpp"
#include "protocols/input.hpp"
#include "protocols/login.hpp"

namespace postern::protocols {

/// What a dialogue goes by; outlives it.
struct DialogueRules {
  const conf::CapabilitiesConf* capabilities = nullptr;
  std::string_view hostname;            // effective: the local address where none is configured
  std::optional<std::string> greeting;  // the listener's own
  bool can_upgrade = false;             // a STARTTLS listener
  bool courtesy = true;                 // server.extended_replies (protocols.md 1.12)
  uint32_t max_failures = 3;            // listener.max_auth_attempts
  uint32_t max_errors = 20;             // listener.max_errors

  // What a name must pass before it may be looked up (protocols.md 1.5).
  std::string_view claim;                   // oauth.jwt_username_claim
  std::span<const std::string> separators;  // routing.master_user_separators
};

/// What the caller must do next.
enum class Want : uint8_t {
  input,      // everything whole has been answered; feed more
  pause,      // `out` is full: send it, then call again
  start_tls,  // send what was said, forget all further input, handshake; then tls_started()
  route,      // take_login(), find and ask the backend; then rejected() or unavailable(), or bridge
  close,      // send what was said and end the connection
};

/// Why a dialogue wants to close.
enum class Parting : uint8_t { none, quit, failures, errors, line_length, commands };

struct Step {
  Want want = Want::input;
  Parting parting = Parting::none;
};

/// Attempts that never reach a backend, for counters and records.
enum class Refusal : uint8_t { malformed, privacy, name };
class DialogueEvents {
 public:
  /// `method` is static text, or empty for a mechanism nobody knows.
  virtual void login_refused(std::string_view method, Refusal refusal) = 0;
  /// Bytes stood behind STARTTLS in clear: somebody tried to have them taken for encrypted ones.
  virtual void clear_text_discarded(size_t bytes) { (void)bytes; }

 protected:
  ~DialogueEvents() = default;
};

/// Farewells that the caller, not the client, brings about.
enum class Farewell : uint8_t { timeout, shutdown };

class Dialogue {
 public:
  virtual ~Dialogue() = default;

  virtual void greet(std::string& out) = 0;
  /// Answers what `in` holds; replies are appended to `out`.
  virtual Step advance(Input& in, std::string& out) = 0;
  /// Want::start_tls is done: what was learned in clear is forgotten.
  virtual void tls_started(std::string& out) = 0;

  // After Want::route, once each:
  virtual Login take_login() = 0;
  /// The backend said no. `said` is its words, whole lines; with `hide` the client hears the generic ones.
  virtual Step rejected(std::string_view said, bool hide, std::string& out) = 0;
  /// The backend was asked and gave no answer: a failure that counts, in the words of a temporary one.
  virtual Step unanswered(std::string& out) = 0;
  /// No backend could be asked, or nobody knows which. The connection ends.
  virtual void unavailable(std::string& out) = 0;
  virtual void account_unknown_now(std::string& out) = 0;

  /// The last line of a connection that ends for want of time or of a server; nothing where the protocol or
  /// the operator wants silence.
  virtual void farewell(Farewell why, std::string& out) = 0;

  /// Memory of its own, about: what it has taken out of the input and keeps.
  [[nodiscard]] virtual size_t held() const = 0;
};

}  // namespace postern::protocols
