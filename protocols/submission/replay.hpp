// SPDX-License-Identifier: GPL-3.0-or-later
// Submission with a backend: greeting, EHLO, STARTTLS, XCLIENT, and the login once (protocols.md 5.5).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "protocols/replay.hpp"

namespace postern::protocols {

class SubmissionReplay final : public Replay {
 public:
  SubmissionReplay(const ReplayRules& rules, const Login& login) : rules_(rules), login_(login) {}

  ReplayStep advance(Input& in, std::string& out) override;
  ReplayStep tls_started(std::string& out) override;
  ReplayStep authenticate(std::string& out) override;
  [[nodiscard]] std::string_view said() const override { return said_; }

 private:
  /// Whose reply is being read.
  enum class Phase : uint8_t { greeting, ehlo, starttls, xclient, ready, auth };
  /// What the next challenge is answered with.
  enum class Answer : uint8_t {
    whole,        // the message: it was withheld
    whole_again,  // the message once more, if the challenge is empty
    user,         // AUTH LOGIN, twice prompted
    password,
    dummy,   // OAuth: the error is to be acknowledged
    cancel,  // nothing is left to say
  };

  /// Looks at one line of a reply; false: no reply has such a line.
  bool take_line(std::string_view line);
  ReplayStep reply_complete(const Input& in, std::string& out);
  ReplayStep ehlo_complete(std::string& out);
  ReplayStep verdict(std::string& out);
  void say_ehlo(std::string& out);
  void note_keyword(std::string_view text);
  [[nodiscard]] bool login_only() const;
  void send_auth(std::string& out);
  void send_login(std::string& out);
  bool fall_back(std::string& out);
  void answer_challenge(std::string& out);
  void send_secret(std::string_view before, std::string_view secret, std::string& out) const;

  const ReplayRules& rules_;
  const Login& login_;
  Phase phase_ = Phase::greeting;
  Answer answer_ = Answer::cancel;
  bool challenged_ = false;  // a challenge was answered: the command was understood
  bool tls_ = false;         // started by this conversation
  bool introduced_ = false;  // XCLIENT is behind us

  // The reply being read.
  int code_ = 0;  // 0: none begun
  bool last_ = false;
  unsigned lines_ = 0;       // of this reply; once the credentials are out, of all of them
  bool empty_text_ = false;  // its last line has nothing but the code

  // What the last EHLO was told; nothing of it outlives an upgrade.
  struct Offers {
    bool starttls = false, xclient = false, plain = false, login = false;
    std::string attributes;  // behind XCLIENT
  } offers_;
  std::string said_;
};

}  // namespace postern::protocols
