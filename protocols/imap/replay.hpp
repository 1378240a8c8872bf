// SPDX-License-Identifier: GPL-3.0-or-later
// A login repeated to an IMAP backend (protocols.md 2.5, 2.6; forwarding.md 4). Nothing a client chose leaves
// in another form than base64, a quoted string or a literal; but for its tag, which is checked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "protocols/replay.hpp"

namespace postern::protocols {

class ImapReplay final : public Replay {
 public:
  static constexpr unsigned most_id_lines = 16;  // of the answer to ID

  ImapReplay(const ReplayRules& rules, const Login& login);

  ReplayStep advance(Input& in, std::string& out) override;
  ReplayStep tls_started(std::string& out) override;
  ReplayStep authenticate(std::string& out) override;
  [[nodiscard]] std::string_view said() const override { return said_; }

 private:
  /// The reply that comes next, named after what it answers.
  enum class Await : uint8_t {
    greeting,
    starttls,
    capability,
    id,
    nothing,  // the caller's turn, or the end
    verdict,
  };
  /// How the credentials travel.
  enum class Form : uint8_t { sasl, sasl_login, command };
  /// What the backend is known to have; nothing of it outlives the start of TLS.
  struct Offers {
    bool known = false;
    bool starttls = false, id = false, rev2 = false, sasl_ir = false, plain = false, login = false;
    bool no_login = false, literal_plus = false, literal_minus = false;
  };
  struct Word {
    std::string_view name;
    bool Offers::*flag;
  };

  ReplayStep take(std::string_view line, std::string& out);
  ReplayStep greeting(std::string_view line, std::string& out);
  ReplayStep capability(std::string_view line, std::string& out);
  ReplayStep verdict(std::string_view line, std::string& out);
  ReplayStep ask(std::string_view command, Await next, std::string& out);
  ReplayStep secured(std::string& out);
  ReplayStep forward(std::string& out);
  ReplayStep end(ReplayWant want, ReplayFault fault = ReplayFault::none);

  void learn(std::string_view words);
  [[nodiscard]] Form best_form() const;
  [[nodiscard]] bool goes_unasked(size_t literal) const;
  void begin_login(std::string& out);
  bool fall_back(std::string& out);
  void send_message(std::string& out);
  void send_login(std::string& out);
  ReplayStep go_on(bool empty, std::string& out);

  const ReplayRules& rules_;
  const Login& login_;
  const std::string_view tag_;
  Await await_ = Await::greeting;
  ReplayStep last_;  // of the caller's turn
  Offers offers_;
  unsigned lines_ = 0;  // of the reply, then of the authentication
  Form form_ = Form::sasl;
  bool with_initial_ = false;  // AUTHENTICATE carried the message
  unsigned challenges_ = 0;    // answered
  size_t argument_ = 0;        // of LOGIN: the next to be sent
  std::string said_;
};

}  // namespace postern::protocols
