// SPDX-License-Identifier: GPL-3.0-or-later
// Submission with a client, from the greeting to a whole set of credentials (protocols.md 5.1 to 5.4).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "protocols/login_dialogue.hpp"

namespace postern::protocols {

class SubmissionDialogue final : public LoginDialogue {
 public:
  SubmissionDialogue(const DialogueRules& rules, bool encrypted, DialogueEvents* events);

  void greet(std::string& out) override;
  void tls_started(std::string& out) override;

 private:
  struct Verb {
    std::string_view name;
    Step (SubmissionDialogue::*act)(std::string_view rest, std::string& out);
  };
  static const Verb verbs[];

  std::optional<Step> take(Input& in, std::string& out) override;
  void line(Say say, std::string_view text, std::string& out) override;
  void challenge(std::string_view base64, std::string& out) override;
  void complete(Login& login) override { login.helo = helo_; }
  [[nodiscard]] size_t collected() const override { return helo_.size(); }

  Step command(std::string_view text, std::string& out);
  Step syntax_error(std::string& out);
  /// Remembers the name a client gives itself; false: it is none.
  bool introduce(std::string_view rest);

  // One for every row of `verbs`.
  Step ehlo(std::string_view rest, std::string& out);
  Step helo(std::string_view rest, std::string& out);
  Step auth(std::string_view rest, std::string& out);
  Step starttls(std::string_view rest, std::string& out);
  Step noop(std::string_view rest, std::string& out);
  Step quit(std::string_view rest, std::string& out);
  Step not_now(std::string_view rest, std::string& out);

  std::string helo_;  // of the last EHLO, LHLO or HELO on this side of the upgrade
};

}  // namespace postern::protocols
