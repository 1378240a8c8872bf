// SPDX-License-Identifier: GPL-3.0-or-later
// What the four dialogues have in common: counting failures and errors, when clear text is allowed, the SASL
// exchange, and the things every protocol says in words of its own. A protocol adds its grammar, its verbs
// and its phrases.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "protocols/dialogue.hpp"
#include "protocols/sasl.hpp"

namespace postern::protocols {

/// What is said in every protocol, though never in the same words.
enum class Say : uint8_t {
  no_such_mechanism,
  login_mechanism,  // LOGIN, where it is not listed
  privacy,          // AUTH before TLS
  bad_base64,
  malformed,
  aborted,
  unavailable,
  unlocated,  // nobody can say now which backend has the account
  rejected,   // the generic failure
  timeout,
  failures,
  errors,
  shutdown,
};
inline constexpr size_t say_count = 13;

struct Phrase {
  Say say;
  std::string_view standard;
  std::string_view courteous;  // with extended replies; where it says the same, the same
};
/// Rows in the order of Say. Lines without their end; empty: silence.
using Phrases = std::array<Phrase, say_count>;

class LoginDialogue : public Dialogue {
 public:
  static constexpr unsigned max_commands = 1000;   // before a login, right or wrong
  static constexpr size_t longest_line = 65536;    // and SASL response
  static constexpr size_t enough_said = 8 * 1024;  // replies beyond this wait until the client has read

  Step advance(Input& in, std::string& out) final;
  void tls_started(std::string& out) override;
  Login take_login() override;
  Step rejected(std::string_view said, bool hide, std::string& out) final;
  Step unanswered(std::string& out) final;
  void unavailable(std::string& out) final { say(Say::unavailable, out); }
  void account_unknown_now(std::string& out) final { say(Say::unlocated, out); }
  void farewell(Farewell why, std::string& out) final;
  [[nodiscard]] size_t held() const final {
    return sizeof *this + sasl_.held() + login_.held() + collected();
  }

 protected:
  LoginDialogue(const DialogueRules& rules, bool encrypted, const Phrases& phrases, DialogueEvents* events)
      : rules_(rules), phrases_(phrases), events_(events), encrypted_(encrypted) {}

  // --- what a protocol brings ---------------------------------------------------------------------------

  /// Takes one command, or one answer to a challenge while in_exchange(), and replies to it. Nothing: it is
  /// not whole yet.
  virtual std::optional<Step> take(Input& in, std::string& out) = 0;
  /// Writes a phrase as the protocol frames it. `say` tells which ones carry a tag, say.
  virtual void line(Say say, std::string_view text, std::string& out) = 0;
  virtual void challenge(std::string_view base64, std::string& out) = 0;

  // --- what they share ----------------------------------------------------------------------------------

  void say(Say what, std::string& out);
  /// What a greeting says: the listener's own words, those of the capabilities, or who is ready.
  [[nodiscard]] std::string banner() const;
  // Every command that is answered with an error counts once: as a failed login, or else as an error. The
  // reply is in `out` already. Each closes when it was the last one allowed.
  Step failed(std::string& out);
  Step mistaken(std::string& out);
  /// The same for a command nobody knows, of which `word` stood first on its line. Where that is how a
  /// browser begins, the connection ends: what follows is a page's to choose.
  Step unknown(std::string_view word, std::string& out);
  /// A command was taken, whatever became of it. Closes beyond max_commands, without a word.
  bool count_command() { return ++commands_ <= max_commands; }
  [[nodiscard]] bool clear_ok() const {
    return encrypted_ || rules_.capabilities->allow_plain_auth_without_tls;
  }
  [[nodiscard]] bool upgradable() const { return rules_.can_upgrade && !encrypted_; }

  /// The go-ahead for TLS is said: forgets all input behind the command.
  Step upgrade(Input& in);

  /// AUTH and AUTHENTICATE with a mechanism named: checks and their replies in the order of protocols.md 1.4.
  Step begin_sasl(std::string_view mechanism, std::optional<std::string_view> initial, std::string& out);
  Step answer_sasl(std::string_view base64, std::string& out);
  [[nodiscard]] bool in_exchange() const { return in_exchange_; }
  /// LOGIN and PASS: `method` is static text. Empty or ill-encoded parts are malformed and count.
  Step plain_login(std::string_view method, std::string_view user, std::string_view password,
                   std::string& out);
  /// Reports an attempt that ends here.
  void refused(std::string_view method, Refusal refusal) {
    if (events_) events_->login_refused(method, refusal);
  }

  /// Adds what the replay must know to a login about to be handed over.
  virtual void complete(Login& login) { (void)login; }
  /// Memory of what a protocol's own grammar has collected.
  [[nodiscard]] virtual size_t collected() const = 0;

  const DialogueRules& rules_;

 private:
  Step exchange(SaslExchange::Next next, std::string& out);
  Step hand_over(Login login, std::string& out);

  const Phrases& phrases_;
  DialogueEvents* const events_;
  bool encrypted_;
  bool in_exchange_ = false;
  unsigned commands_ = 0;
  unsigned failures_ = 0;
  unsigned errors_ = 0;
  SaslExchange sasl_;
  Login login_;
};

}  // namespace postern::protocols
