// SPDX-License-Identifier: GPL-3.0-or-later
// IMAP before a login (protocols.md 2.1 to 2.4).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protocols/login_dialogue.hpp"
#include "protocols/tagged_request.hpp"

namespace postern::protocols {

class ImapDialogue final : public LoginDialogue {
 public:
  ImapDialogue(const DialogueRules& rules, bool encrypted, DialogueEvents* events);

  void greet(std::string& out) override;
  void tls_started(std::string& out) override;

 private:
  struct Verb {
    std::string_view name;
    Step (ImapDialogue::*run)(std::string& out);
  };
  static std::span<const Verb> verbs();

  std::optional<Step> take(Input& in, std::string& out) override;
  void line(Say say, std::string_view text, std::string& out) override;
  void challenge(std::string_view base64, std::string& out) override;
  void complete(Login& login) override;
  [[nodiscard]] size_t collected() const override;

  Step command(std::string& out);
  Step authenticate(std::string& out);
  Step capability(std::string& out);
  Step id(std::string& out);
  Step login(std::string& out);
  Step logout(std::string& out);
  Step noop(std::string& out);
  Step starttls(std::string& out);

  void learn_id();
  void tagged(std::string_view text, std::string& out) const;
  [[nodiscard]] std::string capabilities() const;
  /// An argument that is a string; nothing where there is none or a parenthesis.
  [[nodiscard]] std::optional<std::string_view> text(size_t index) const;

  TaggedRequestParser parser_{true};
  std::string tag_;  // of the command being answered

  // From the last ID command.
  std::vector<std::pair<std::string, std::string>> id_;
  std::optional<uint32_t> ttl_;
};

}  // namespace postern::protocols
