// SPDX-License-Identifier: GPL-3.0-or-later
// One client, from accept to the last close: its place on the listener, PROXY header, TLS, the way to a
// backend, the bridge and the end. What is said in between is for the kinds of session to know. Owns both
// legs; lives and dies on one loop.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "conf/address.hpp"
#include "protocols/proxy_header.hpp"
#include "proxy/backend/dial.hpp"
#include "proxy/base/fault.hpp"
#include "proxy/base/guard.hpp"
#include "proxy/limits/admission.hpp"
#include "proxy/loop/stream.hpp"
#include "proxy/loop/timers.hpp"
#include "proxy/session/bridge.hpp"
#include "proxy/session/listener.hpp"

namespace postern::proxy {

struct LoginTimes;
class Roster;

/// Whether this peer is believed when it sends a PROXY header, and is waited for.
bool expects_header(const conf::ListenerConf& conf, const conf::Ip& peer);

class Session : StreamEvents, DialEvents, BridgeEvents {
 public:
  /// The kind of session that the listener's protocol asks for.
  static std::unique_ptr<Session> make(Roster& roster, std::shared_ptr<const ListenerPolicy> policy,
                                       const conf::SocketAddress& peer, const conf::SocketAddress& local,
                                       Admission admission);
  virtual ~Session();

  void start(int fd) noexcept;
  /// Ends the session from outside: shutdown, kick.
  void cut(Fault fault) noexcept;
  /// Ends it at once, with no word to anybody.
  void drop() noexcept;
  Session*& grave() { return next_; }  // see Loop::bury()

 protected:
  Session(Roster& roster, std::shared_ptr<const ListenerPolicy> policy, const conf::SocketAddress& peer,
          const conf::SocketAddress& local, Admission admission);

  /// They go forward, but for STARTTLS and for a login that a backend refused: those go back to the dialogue.
  /// dialogue, routing and replaying are those of a login alone.
  enum class Phase : uint8_t {
    proxy_header,
    handshake,
    dialogue,
    routing,  // the account store is asked where the account is
    dialing,
    replaying,
    bridging,
    closing
  };

  // --- what a kind of session brings --------------------------------------------------------------------
  /// Nothing stands between us and the client's protocol any more; also after a handshake of STARTTLS.
  virtual void client_ready() = 0;
  /// The client's bytes, from dialogue to replaying.
  virtual void client_said(std::span<const uint8_t> plain) = 0;
  virtual void client_ended() {}    // in dialogue, in order, and it has taken all we had for it
  virtual void client_drained() {}  // in dialogue
  /// The client has sent as much ahead of its backend as we keep.
  [[nodiscard]] virtual bool ahead() const = 0;
  virtual void out_of_time() {}  // in dialogue, routing and replaying

  [[nodiscard]] virtual uint32_t ttl() const;  // of hops
  virtual void begin_dial(Dial& dial, const Caller& caller);
  virtual void backend_ready(Leg& leg) = 0;                            // the stream is backend_ already
  virtual void unavailable(Fault fault, std::string_view detail) = 0;  // no backend was to be had
  virtual void backend_said(std::span<const uint8_t> plain) { (void)plain; }  // in replaying
  virtual void backend_ended() {}                                             // the same

  /// Tells the client that the server stops. False: that ended the session.
  virtual bool say_farewell() { return true; }
  /// Gives up what is under way before a bridge. True: the client and we have talked.
  virtual bool give_up() noexcept { return false; }
  /// Memory that only this kind holds.
  [[nodiscard]] virtual size_t held_besides() const { return 0; }
  [[nodiscard]] virtual const LoginTimes* login_times() const { return nullptr; }

  // --- what it finds ------------------------------------------------------------------------------------
  /// Every way into a session from outside leads through here: what throws has found no memory, and ends it.
  template <class Work>
  void safely(Work&& work) noexcept {
    guarded(work, [this](const char* why) { starved(why); });
  }
  void starved(const char* why) noexcept;
  void enter(Phase phase) noexcept;
  void handshake();
  void dial();
  void watch_client() noexcept;
  /// Bytes flow. What is in `before` has been read already.
  void bridge(const Bridge::Before& before);
  void backend_spoke() noexcept override;  // its TLS tickets have arrived
  void close(Fault fault, std::string_view detail = {}) noexcept;
  void keep_early(std::span<const uint8_t> plain);
  [[nodiscard]] bool too_early() const;  // as much as we keep of a client without a backend

  /// How the listener treated connections when it accepted this one; only before the bridge.
  [[nodiscard]] const ListenerPolicy& listener() const { return *policy_; }
  [[nodiscard]] const SessionPolicy& settings() const { return *policy_->session; }
  [[nodiscard]] Loop& loop() const;
  [[nodiscard]] std::string_view id() const { return {id_.data(), id_.size() - 1}; }

  Roster& roster_;
  const std::shared_ptr<Listener> listener_;
  std::shared_ptr<const ListenerPolicy> policy_;  // until bytes flow: no session pins it for hours

 private:
  friend class Roster;  // the list of live sessions runs through next_ and previous_
  Session* next_ = nullptr;
  Session* previous_ = nullptr;

 protected:
  uint64_t accepted_;
  Admission admission_;
  Phase phase_ = Phase::proxy_header;
  bool retired_ = false;
  bool client_over_ = false;  // the client's input ended before the bridge
  bool client_clean_ = true;  // and it did so in order
  conf::SocketAddress peer_;
  conf::SocketAddress local_;
  conf::SocketAddress backend_address_;  // the last one tried; port 0: none
  const std::array<char, 18> id_;        // "P", sixteen hex digits, NUL
  Timer timer_;
  Stream client_;
  std::vector<uint8_t> early_;  // read from the client before a dialogue or a bridge existed
  /// What an inbound PROXY header said, and who sent it.
  struct InboundHeader {
    protocols::ProxyHeader header;
    conf::SocketAddress via;
  };
  std::unique_ptr<InboundHeader> proxy_header_;
  std::shared_ptr<const Destination> destination_;  // chosen; null before, and once nothing is left to do
  DestinationCounters* counted_ = nullptr;          // of the one chosen; they live as long as the process
  uint64_t deadline_;                               // of whatever must be over before a login
  std::unique_ptr<Dial> dial_;
  std::unique_ptr<Stream> backend_;
  std::optional<Bridge> bridge_;

 private:
  // StreamEvents of the client, and of a backend that outlives its bridge
  void stream_secured(Stream& stream) noexcept override;
  void stream_shaking(Stream& stream) noexcept override;
  void stream_data(Stream& stream, std::span<const uint8_t> plain) noexcept override;
  void stream_ended(Stream& stream, StreamEnd end) noexcept override;
  void stream_drained(Stream& stream) noexcept override;
  // DialEvents
  void dialed(Leg leg) noexcept override;
  void dial_failed(Fault fault, const std::string& detail) noexcept override;
  // BridgeEvents
  void bridge_over(Fault fault) noexcept override;

  void open(int fd);
  void ended(Stream& stream, StreamEnd end);
  void weigh();
  [[nodiscard]] size_t held() const;
  void received(Stream& stream, std::span<const uint8_t> plain);
  [[nodiscard]] bool identified();
  void begin();
  void read_header();
  void header_absent();
  void tick();
  void linger(bool clean, uint64_t patience) noexcept;
  void settle(Stream& stream) noexcept;
  void record(Fault fault, std::string_view detail) const;
};

}  // namespace postern::proxy
