// SPDX-License-Identifier: GPL-3.0-or-later
// A session that only relays, to the one destination of its listener: smtp and lmtp.
#pragma once

#include "proxy/session/session.hpp"

namespace postern::proxy {

class RelaySession final : public Session {
 public:
  RelaySession(Roster& roster, std::shared_ptr<const ListenerPolicy> policy, const conf::SocketAddress& peer,
               const conf::SocketAddress& local, Admission admission)
      : Session(roster, std::move(policy), peer, local, std::move(admission)) {}

 private:
  void client_ready() override;
  void client_said(std::span<const uint8_t> plain) override;
  [[nodiscard]] bool ahead() const override { return too_early(); }
  void backend_ready(Leg& leg) override;
  void unavailable(Fault fault, std::string_view detail) override { close(fault, detail); }
};

}  // namespace postern::proxy
