// SPDX-License-Identifier: GPL-3.0-or-later
// ManageSieve before a login (protocols.md 4).
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "protocols/login_dialogue.hpp"
#include "protocols/tagged_request.hpp"

namespace postern::protocols {

class ManageSieveDialogue final : public LoginDialogue {
 public:
  ManageSieveDialogue(const DialogueRules& rules, bool encrypted, DialogueEvents* events);

  void greet(std::string& out) override { block(out); }
  void tls_started(std::string& out) override;

 private:
  struct Verb {
    std::string_view name;
    Step (ManageSieveDialogue::*run)(std::string& out);
  };
  static std::span<const Verb> verbs();

  std::optional<Step> take(Input& in, std::string& out) override;
  void line(Say say, std::string_view text, std::string& out) override;
  void challenge(std::string_view base64, std::string& out) override;
  [[nodiscard]] size_t collected() const override { return sizeof parser_ + parser_.held(); }

  /// What a client may know, and OK.
  void block(std::string& out) const;
  Step unparsable(std::string& out);
  Step answer(std::string& out);
  Step command(std::string& out);
  Step authenticate(std::string& out);
  Step capability(std::string& out);
  Step logout(std::string& out);
  Step noop(std::string& out);
  Step starttls(std::string& out);

  /// An argument that is a string of any kind.
  [[nodiscard]] std::optional<std::string_view> text(size_t index) const;

  TaggedRequestParser parser_{false};
};

}  // namespace postern::protocols
