// SPDX-License-Identifier: GPL-3.0-or-later
// POP3 before a login (protocols.md 3): one line, one answer.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "protocols/login_dialogue.hpp"

namespace postern::protocols {

class Pop3Dialogue final : public LoginDialogue {
 public:
  Pop3Dialogue(const DialogueRules& rules, bool encrypted, DialogueEvents* events);

  void greet(std::string& out) override;
  void tls_started(std::string& out) override;

 private:
  /// `rest` is everything behind the verb, the separating space included.
  struct Verb {
    std::string_view name;
    Step (Pop3Dialogue::*run)(std::string_view rest, std::string& out);
  };
  static std::span<const Verb> verbs();

  std::optional<Step> take(Input& in, std::string& out) override;
  void line(Say say, std::string_view text, std::string& out) override;
  void challenge(std::string_view base64, std::string& out) override;
  void complete(Login& login) override { login.utf8 = utf8_; }
  [[nodiscard]] size_t collected() const override { return user_.size(); }

  Step command(std::string_view text, std::string& out);
  Step apop(std::string_view rest, std::string& out);
  Step auth(std::string_view rest, std::string& out);
  Step capa(std::string_view rest, std::string& out);
  Step noop(std::string_view rest, std::string& out);
  Step pass(std::string_view rest, std::string& out);
  Step quit(std::string_view rest, std::string& out);
  Step stls(std::string_view rest, std::string& out);
  Step user(std::string_view rest, std::string& out);
  Step utf8(std::string_view rest, std::string& out);

  std::string user_;  // of USER, until PASS
  bool utf8_ = false;
};

}  // namespace postern::protocols
