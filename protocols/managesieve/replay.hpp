// SPDX-License-Identifier: GPL-3.0-or-later
// A login repeated to a ManageSieve backend (protocols.md 4.4).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "protocols/replay.hpp"

namespace postern::protocols {

class ManageSieveReplay final : public Replay {
 public:
  static constexpr size_t longest_response = 128 * 1024;  // literals included; and all that is collected

  ManageSieveReplay(const ReplayRules& rules, const Login& login) : rules_(rules), login_(login) {}

  ReplayStep advance(Input& in, std::string& out) override;
  ReplayStep tls_started(std::string& out) override;
  ReplayStep authenticate(std::string& out) override;
  [[nodiscard]] std::string_view said() const override { return said_; }

 private:
  /// The response that comes next, named after what it answers.
  enum class Await : uint8_t {
    greeting,  // the block of capabilities and its OK
    starttls,
    block,  // the same after the upgrade
    xclient,
    nothing,  // the caller's turn, or the end
    auth,
  };
  struct Offers {
    bool starttls = false, xclient = false, sasl = false, plain = false, login = false;
  };

  ReplayStep line(std::string_view text, std::string& out);
  ReplayStep literal_read(std::string& out);
  ReplayStep response(std::string_view text, std::string& out);
  ReplayStep capability(std::string_view text, std::string& out);
  ReplayStep verdict(std::string_view text);
  ReplayStep forward(std::string& out);
  ReplayStep end(ReplayWant want, ReplayFault fault = ReplayFault::none);
  void answer_challenge(bool empty, std::string& out);

  const ReplayRules& rules_;
  const Login& login_;
  Await await_ = Await::greeting;
  ReplayStep last_;  // of the caller's turn
  Offers offers_;
  unsigned lines_ = 0;  // of the block or the authentication
  // A response is a line, or several with literals in between.
  std::string response_;
  bool in_literal_ = false;
  size_t literal_left_ = 0;
  bool challenge_ = false;        // the literal is one: its bytes are dropped
  bool empty_challenge_ = false;  // as announced
  bool line_end_due_ = false;     // of a challenge already answered; some backends leave it out
  bool as_login_ = false;         // SASL LOGIN in place of PLAIN
  unsigned challenges_ = 0;       // answered
  std::string said_;
};

}  // namespace postern::protocols
