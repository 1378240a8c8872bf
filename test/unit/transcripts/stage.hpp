// SPDX-License-Identifier: GPL-3.0-or-later
// A login exchange, which is the daemon's own, with strings for sockets and no time.
#pragma once

#include <string>
#include <string_view>

#include "conf/config.hpp"
#include "protocols/login_exchange.hpp"
#include "test/talk.hpp"
#include "test/unit/transcripts/transcript.hpp"

namespace postern::test {

class Stage {
 public:
  /// `config` has one listener and one destination, and outlives this. What peers say comes in `pieces`.
  Stage(const conf::Config& config, std::string greeting, Pieces pieces);

  /// Plays all steps. Empty: everything went as written.
  std::string play(const std::vector<ScriptStep>& steps);

 private:
  std::string step(const ScriptStep& step);
  void client_says(std::string_view segment);
  void backend_says(std::string_view segment);
  void talk();  // the dialogue takes what there is
  void follow(protocols::Step step);
  void dial();
  void ask();  // the exchange takes what the backend has said
  void follow(protocols::ReplayStep step);
  void unavailable();
  void close();
  void hang_up();
  std::string hear(std::string& said, const ScriptStep& step) const;

  const conf::Config& config_;
  const conf::ListenerConf& listener_;
  const conf::DestinationConf& destination_;
  const conf::LegConf& leg_;
  const std::string greeting_;
  const Pieces pieces_;

  protocols::ClientFacts facts_;
  protocols::LoginExchange exchange_;
  protocols::Input backend_;  // unread, up to the credentials
  std::string to_client_, to_backend_;
  bool client_tls_due_ = false, backend_tls_due_ = false;  // a handshake is to come
  bool connected_ = false, ready_ = false, bridged_ = false, closed_ = false;
};

}  // namespace postern::test
