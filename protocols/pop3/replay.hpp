// SPDX-License-Identifier: GPL-3.0-or-later
// A login repeated to a POP3 backend (protocols.md 3.5): AUTH, or USER and PASS where AUTH is unknown.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "protocols/replay.hpp"

namespace postern::protocols {

class Pop3Replay final : public Replay {
 public:
  Pop3Replay(const ReplayRules& rules, const Login& login) : rules_(rules), login_(login) {}

  ReplayStep advance(Input& in, std::string& out) override;
  ReplayStep tls_started(std::string& out) override;
  ReplayStep authenticate(std::string& out) override;
  [[nodiscard]] std::string_view said() const override { return said_; }

 private:
  /// The line that comes next, named after what it answers.
  enum class Await : uint8_t {
    greeting,
    capa,
    capability,  // of CAPA's list
    stls,
    xclient,
    utf8,
    nothing,  // the caller's turn, or the end
    auth,
    user,
    pass,
  };
  /// How the credentials travel.
  enum class Form : uint8_t { sasl, sasl_login, user_pass };
  /// What CAPA's list had.
  struct Offers {
    bool listed = false;  // there was a list
    bool stls = false, utf8 = false, user = false, plain = false, login = false;
  };

  ReplayStep take(std::string_view line, std::string& out);
  ReplayStep greeting(std::string_view line, std::string& out);
  ReplayStep capability(std::string_view line, std::string& out);
  ReplayStep verdict(std::string_view line, std::string& out);
  ReplayStep ask(std::string_view command, Await next, std::string& out);
  ReplayStep forward(std::string& out);
  ReplayStep announce_utf8(std::string& out);
  ReplayStep end(ReplayWant want, ReplayFault fault = ReplayFault::none);

  [[nodiscard]] std::optional<PlainParts> name_and_password() const;
  [[nodiscard]] Form best_form() const;
  void send_auth(std::string& out);
  bool fall_back(std::string_view line, std::string& out);
  void answer_challenge(bool empty, std::string& out);
  ReplayStep send_user(std::string& out);
  void send_pass(std::string& out);

  const ReplayRules& rules_;
  const Login& login_;
  Await await_ = Await::greeting;
  ReplayStep last_;  // of the caller's turn
  Offers offers_;
  bool xclient_ = false;  // the greeting has the mark
  unsigned lines_ = 0;    // of the reply, then of the authentication
  Form form_ = Form::sasl;
  bool with_initial_ = false;  // AUTH carried the message
  unsigned challenges_ = 0;    // answered
  std::string said_;
};

}  // namespace postern::protocols
