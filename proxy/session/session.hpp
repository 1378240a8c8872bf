// SPDX-License-Identifier: GPL-3.0-or-later
// One client, from accept to the last close. Owns both legs; lives and dies on one loop. Phases go forward,
// but for STARTTLS and for a login that a backend refused: they go back to the dialogue.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "conf/address.hpp"
#include "protocols/dialogue.hpp"
#include "protocols/proxy_header.hpp"
#include "proxy/backend/dial.hpp"
#include "proxy/base/fault.hpp"
#include "proxy/limits/admission.hpp"
#include "proxy/loop/stream.hpp"
#include "proxy/loop/timers.hpp"
#include "proxy/session/bridge.hpp"
#include "proxy/session/login_state.hpp"
#include "proxy/session/snapshot.hpp"

namespace postern::proxy {

class Roster;

/// Whether this peer is believed when it sends a PROXY header, and is waited for.
bool expects_header(const conf::ListenerConf& conf, const conf::Ip& peer);

class Session final : StreamEvents, DialEvents, BridgeEvents, protocols::DialogueEvents {
 public:
  Session(Roster& roster, std::shared_ptr<const ListenerPolicy> policy, const conf::SocketAddress& peer,
          const conf::SocketAddress& local, Admission admission);
  ~Session();

  void start(int fd);
  /// Ends the session from outside: shutdown, kick.
  void cut(Fault fault);

 private:
  friend class Roster;  // the list of live sessions runs through next_ and previous_

  enum class Phase : uint8_t { proxy_header, handshake, dialogue, dialing, replaying, bridging, closing };

  // StreamEvents of the client, and of a backend that outlives its bridge
  void stream_secured(Stream& stream) override;
  void stream_shaking(Stream& stream) override;
  void stream_data(Stream& stream, std::span<const uint8_t> plain) override;
  void stream_ended(Stream& stream, StreamEnd end) override;
  void stream_drained(Stream& stream) override;
  // DialEvents
  void dialed(Leg leg) override;
  void dial_failed(Fault fault, const std::string& detail) override;
  // BridgeEvents
  void bridge_over(Fault fault) override;
  void backend_spoke() override;
  // DialogueEvents
  void login_refused(std::string_view method, protocols::Refusal refusal) override;
  void clear_text_discarded(size_t bytes) override;

  // The conversation before a login is bridged: session_login.cpp.
  void greet();
  void upgraded();
  void talk();
  void route();
  void replay(protocols::ReplayStep step, std::string out);
  void answered();
  void accepted_login();
  void rejected_login();
  void unanswered(Fault fault, std::string_view detail);
  void try_again(protocols::Step step, const std::string& out, bool leaves = false);
  void ended_without_login(std::string_view detail);
  void unavailable(Fault fault, std::string_view detail);
  bool tell_client(const std::string& text);
  void report_login(AuthResult result);
  [[nodiscard]] uint32_t ttl() const;
  [[nodiscard]] bool ahead() const;
  void weigh();
  [[nodiscard]] size_t held() const;
  void received(Stream& stream, std::span<const uint8_t> plain);

  [[nodiscard]] bool identified();
  void begin();
  void client_ready();
  void read_header();
  void header_absent();
  void handshake();
  void dial();
  void watch_client();
  void bridge();
  void tick();
  void close(Fault fault, std::string_view detail = {});
  void linger(bool clean, uint64_t patience);
  void settle(Stream& stream);
  void record(Fault fault, std::string_view detail) const;

  /// How the listener treated connections when it accepted this one; only before the bridge.
  [[nodiscard]] const ListenerPolicy& listener() const { return *policy_; }
  [[nodiscard]] const SessionPolicy& settings() const { return *policy_->session; }
  [[nodiscard]] Loop& loop() const;
  [[nodiscard]] std::string_view id() const { return {id_.data(), id_.size() - 1}; }

  Roster& roster_;
  const std::shared_ptr<Listener> listener_;
  std::shared_ptr<const ListenerPolicy> policy_;  // until bytes flow: no session pins it for hours
  Session* next_ = nullptr;
  Session* previous_ = nullptr;
  uint64_t accepted_;
  Admission admission_;
  Phase phase_ = Phase::proxy_header;
  bool client_over_ = false;  // the client's input ended before the bridge
  bool client_clean_ = true;  // and it did so in order
  conf::SocketAddress peer_;
  conf::SocketAddress local_;
  conf::SocketAddress backend_address_;  // the last one tried; port 0: none
  const std::array<char, 18> id_;        // "P", sixteen hex digits, NUL
  Timer timer_;
  Stream client_;
  std::vector<uint8_t> early_;  // read from the client before there was a place for it
  /// What an inbound PROXY header said, and who sent it.
  struct InboundHeader {
    protocols::ProxyHeader header;
    conf::SocketAddress via;
  };
  std::unique_ptr<InboundHeader> proxy_header_;
  std::unique_ptr<LoginState> login_;               // until bytes flow
  std::unique_ptr<LoginTimes> times_;               // of protocols with a login
  std::shared_ptr<const Destination> destination_;  // chosen; null before, and once nothing is left to do
  DestinationCounters* counted_ = nullptr;          // of the one chosen; they live as long as the process
  uint64_t deadline_;                               // of whatever must be over before a login
  std::unique_ptr<Dial> dial_;
  std::unique_ptr<Stream> backend_;
  std::optional<Bridge> bridge_;
};

}  // namespace postern::proxy
