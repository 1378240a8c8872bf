// SPDX-License-Identifier: GPL-3.0-or-later
// Both conversations of a login joined: what the client says until it is known who it is, the way to a
// backend, what the backend says of the credentials, and what the client hears of that. No socket, no clock,
// no table of accounts: whoever drives it carries bytes, finds the backend and keeps the time.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "conf/config.hpp"
#include "protocols/dialogue.hpp"
#include "protocols/opening.hpp"

namespace postern::protocols {

/// What of a configuration the client's side goes by. Outlives the exchange.
struct LoginSettings {
  const conf::ListenerConf& listener;
  const conf::CapabilitiesConf& capabilities;
  const conf::ServerConf& server;
  const conf::OAuthConf& oauth;
  const conf::RoutingConf& routing;
};

/// The hops that are left: `own`, or fewer if an upstream that is believed has said so. `upstreams`: the
/// peer, and whoever its PROXY header came through.
uint32_t hops_left(uint32_t own, const Login& login, std::span<const conf::Cidr> trusted,
                   std::span<const conf::Ip> upstreams);

/// The members refer to each other, so it stays where it is.
class LoginExchange final : public ReplayOpening {
 public:
  /// `local`: the address that the client has reached, its name where the operator has given none.
  LoginExchange(const LoginSettings& settings, const conf::Ip& local, bool encrypted, DialogueEvents* events);

  Input from_client;   // unread
  Input from_backend;  // unread, from the credentials on

  // --- the client's side; replies are appended to `out` ---------------------------------------------------
  void greet(std::string& out) { dialogue_->greet(out); }
  /// Answers what the client has sent. After Want::start_tls nothing of it is left; after Want::route
  /// login() is whole.
  Step talk(std::string& out);
  void upgraded(std::string& out) { dialogue_->tls_started(out); }
  void farewell(Farewell why, std::string& out) { dialogue_->farewell(why, out); }

  // --- after Want::route ----------------------------------------------------------------------------------
  [[nodiscard]] const Login& login() const { return login_; }
  /// The backend that gets the login. Then the conversation begins, as an Opening.
  void choose(const conf::DestinationConf& destination, const ClientFacts& client, std::string_view hostname);
  /// No backend could be asked, or none that makes sense. The connection ends.
  void unavailable(std::string& out) { dialogue_->unavailable(out); }
  /// The same where nobody can say now which backend has the account.
  void account_unknown_now(std::string& out) { dialogue_->account_unknown_now(out); }

  // --- once the opening is ready: the credentials, and what comes of them ---------------------------------
  /// `unread`: what the backend has said and nobody has looked at.
  ReplayStep authenticate(Input unread, std::string& out);
  ReplayStep hear(std::string& out) { return replay_->advance(from_backend, out); }
  /// After ReplayWant::accepted these are the client's, followed by what is left of from_backend.
  [[nodiscard]] std::string_view said() const { return replay_->said(); }

  /// Whether the backend's words end the conversation (BYE, 421).
  [[nodiscard]] bool says_goodbye() const;
  struct Refused {
    Step step;
    bool temporary;  // the backend asks to come back later: nobody's password was wrong
    bool leaves;     // the client has read a goodbye: it waits for the end
  };
  /// After ReplayWant::rejected: the client may try again, as if it had just connected, and elsewhere.
  Refused refused(std::string& out);
  /// The backend gave no answer to the credentials: a failure that counts, in the words of a temporary one.
  Step unanswered(std::string& out);

  /// Memory that it holds besides itself, about.
  [[nodiscard]] size_t held() const;

 private:
  void forget_backend();

  const std::string hostname_;
  DialogueRules dialogue_rules_;
  bool hide_errors_ = false;  // of the destination
  std::unique_ptr<Dialogue> dialogue_;
};

}  // namespace postern::protocols
