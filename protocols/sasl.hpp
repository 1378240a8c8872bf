// SPDX-License-Identifier: GPL-3.0-or-later
// The mechanisms, one row each, and the exchange with a client, whatever the protocol calls its lines
// (protocols.md 1.4).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "conf/config.hpp"
#include "protocols/login.hpp"

namespace postern::protocols {

struct MechanismRow {
  Mechanism mechanism;
  std::string_view name;
  bool clear_text;  // wants TLS, or the explicit permission to do without
};
const MechanismRow& row(Mechanism mechanism);
/// By name, in any case.
std::optional<Mechanism> mechanism_named(std::string_view name);

/// Whether `sasl` of the protocol's capabilities has it.
bool listed(const conf::CapabilitiesConf& capabilities, Mechanism mechanism);
/// Names for a capability list, in `sasl` order: without LOGIN unless advertise_login, without what needs TLS
/// while `clear_ok` is false.
std::vector<std::string_view> advertised(const conf::CapabilitiesConf& capabilities, bool clear_ok);

/// One exchange: fed with the client's base64, says what comes next.
class SaslExchange {
 public:
  enum class Next : uint8_t {
    challenge,   // send challenge() and read a line
    complete,    // login() is ready
    bad_base64,  // the rest end the exchange
    malformed,
    aborted,
  };

  /// `initial`: the initial response as sent; "=" is an empty message.
  Next begin(Mechanism mechanism, std::optional<std::string_view> initial);
  /// A line in answer to a challenge; "*" aborts.
  Next answer(std::string_view line);

  [[nodiscard]] Mechanism mechanism() const { return mechanism_; }
  [[nodiscard]] std::string_view challenge() const { return challenge_; }  // base64, static text
  Login take_login() { return std::move(login_); }
  void reset();  // forget everything
  [[nodiscard]] size_t held() const { return login_.held() + (user_ ? user_->reveal().size() : 0); }

 private:
  Next take(std::string_view base64);

  Mechanism mechanism_ = Mechanism::plain;
  std::string_view challenge_;
  std::optional<conf::Secret> user_;  // LOGIN: the first answer
  Login login_;
};

}  // namespace postern::protocols
