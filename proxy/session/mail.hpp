// SPDX-License-Identifier: GPL-3.0-or-later
// A session of a protocol with a login: the dialogue with the client, the way to the backend that has the
// account, and the verdict. What is said is a LoginExchange's affair; here it gets bytes and time.
#pragma once

#include <memory>
#include <string>

#include "protocols/dialogue.hpp"
#include "protocols/replay.hpp"
#include "proxy/routing/router.hpp"
#include "proxy/session/login_state.hpp"
#include "proxy/session/session.hpp"

namespace postern::proxy {

class MailSession final : public Session, protocols::DialogueEvents {
 public:
  MailSession(Roster& roster, std::shared_ptr<const ListenerPolicy> policy, const conf::SocketAddress& peer,
              const conf::SocketAddress& local, Admission admission)
      : Session(roster, std::move(policy), peer, local, std::move(admission)) {}

 private:
  void client_ready() override;
  void client_said(std::span<const uint8_t> plain) override;
  void client_ended() override { ended_without_login("the client ended"); }
  void client_drained() override { talk(); }
  [[nodiscard]] bool ahead() const override { return login_->exchange.from_client.full(); }
  void out_of_time() override;
  [[nodiscard]] uint32_t ttl() const override;
  void begin_dial(Dial& dial, const Caller& caller) override;
  void backend_ready(Leg& leg) override;
  void unavailable(Fault fault, std::string_view detail) override;
  void backend_said(std::span<const uint8_t> plain) override;
  void backend_ended() override;
  bool say_farewell() override;
  bool give_up() override;
  [[nodiscard]] size_t held_besides() const override;
  [[nodiscard]] const LoginTimes* login_times() const override { return times_.get(); }
  // DialogueEvents
  void login_refused(std::string_view method, protocols::Refusal refusal) override;
  void clear_text_discarded(size_t bytes) override;

  void greet();
  void upgraded();
  void talk();
  void route();
  void locate();
  void ask_store(std::string identifier);
  void looked_up(LookupAnswer&& answer);
  void routed(Route route);
  void unlocated(std::string_view detail);
  void replay(protocols::ReplayStep step, std::string out);
  void answered();
  void accepted_login();
  void rejected_login();
  void unanswered(Fault fault, std::string_view detail);
  void try_again(protocols::Step step, const std::string& out, bool leaves = false);
  void ended_without_login(std::string_view detail);
  bool tell_client(const std::string& text);
  void report_login(AuthResult result);

  std::unique_ptr<LoginState> login_;  // until bytes flow
  std::unique_ptr<LoginTimes> times_;
};

}  // namespace postern::proxy
