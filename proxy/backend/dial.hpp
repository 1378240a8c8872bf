// SPDX-License-Identifier: GPL-3.0-or-later
// From a destination to a leg that is ready: loop check, breaker, resolution, addresses in turn, PROXY
// header, TLS, the opening, retries, all within backend_timeout
// (protocols.md 1.6).
#pragma once

#include <uv.h>

#include <memory>
#include <string>
#include <vector>

#include "conf/address.hpp"
#include "protocols/opening.hpp"
#include "proxy/backend/attempt.hpp"
#include "proxy/backend/caller.hpp"
#include "proxy/backend/destination.hpp"
#include "proxy/backend/leg.hpp"
#include "proxy/backend/probe_waiter.hpp"
#include "proxy/base/fault.hpp"
#include "proxy/base/guard.hpp"
#include "proxy/loop/resolver.hpp"
#include "proxy/loop/stream.hpp"
#include "proxy/loop/timers.hpp"

namespace postern::proxy {

class Loop;
class Probes;

class DialEvents {
 public:
  /// The last thing a Dial does; it may be destroyed from here.
  virtual void dialed(Leg leg) noexcept = 0;
  virtual void dial_failed(Fault fault, const std::string& detail) noexcept = 0;

 protected:
  ~DialEvents() = default;
};

class Dial final : Resolver::Waiter, ProbeWaiter, StreamEvents {
 public:
  Dial(Probes& probes, std::shared_ptr<const BackendPolicy> policy,
       std::shared_ptr<const Destination> destination, conf::Protocol protocol, const Caller& caller,
       DialEvents& owner);
  ~Dial() override { cancel(); }

  /// Before start(): the conversation that makes the leg ready. It outlives this. Without one the leg is
  /// ready as soon as it is connected, and encrypted if it is to be.
  void open_with(protocols::Opening& opening) { opening_ = &opening; }
  /// Before start(): this is a trial of our own. It asks nobody's leave, speaks for no client and reports to
  /// its owner alone.
  void probe() {
    attempt_.reset();
    in_full_ = true;  // it shows that a whole handshake works, certificate included
  }
  void start();  // may throw: then its owner, who called, gives it up
  /// Gives up without a word: the client left. Nothing is recorded. Idempotent.
  void cancel() noexcept;

  [[nodiscard]] const conf::SocketAddress& backend() const { return target_; }  // last address tried

 private:
  struct Connecting;

  // Resolver::Waiter
  void name_learned() noexcept override {
    safely([this] { look_up(); });
  }
  void probe_over(bool up) noexcept override;
  // StreamEvents, until the stream is handed over
  void stream_secured(Stream& stream) noexcept override;
  void stream_data(Stream& stream, std::span<const uint8_t> plain) noexcept override;
  void stream_ended(Stream& stream, StreamEnd end) noexcept override;
  void stream_drained(Stream&) noexcept override {}

  /// Every way into a dial but start() leads through here. Without memory it fails.
  template <class Work>
  void safely(Work&& work) noexcept {
    guarded(work, [this](const char*) { starved(); });
  }
  void starved() noexcept;

  void round();
  void look_up();
  void name_unanswered(const std::string& detail);
  void out_of_time(const std::string& detail);
  void next_address();
  int open_socket();
  bool connect(int fd);
  void connect_over(uv_tcp_t* tcp, int status);
  void connected();
  void heard(std::span<const uint8_t> plain);
  void ended(Stream& stream, StreamEnd end);
  void start_tls(std::string_view prefix);
  bool again_in_full();
  [[nodiscard]] Resume& resume() const;
  void established();
  void converse(protocols::ReplayStep step, const std::string& out);
  void tick();
  void note_failure(Fault fault, std::string detail);
  void attempt_failed(Fault fault, std::string detail);
  void again_or_fail();
  void fail(Fault fault, const std::string& detail);
  void succeed();
  void drop_attempt() noexcept;
  [[nodiscard]] bool shaking() const { return stream_ && stream_->tls() && !stream_->secured(); }
  [[nodiscard]] std::string proxy_header() const;
  [[nodiscard]] uint64_t window() const;
  /// Waiting for the name has eaten so much of the window that what is late now says nothing about the host.
  [[nodiscard]] bool name_was_slow() const { return looked_up_ms_ > window() / 2; }

  Probes& probes_;
  Loop& loop_;
  std::shared_ptr<const BackendPolicy> policy_;
  std::shared_ptr<const Destination> destination_;
  const conf::Protocol protocol_;
  const conf::LegConf* leg_ = nullptr;
  Caller caller_;
  DialEvents& owner_;
  Timer timer_;

  const uint64_t began_;  // nanoseconds of uv_hrtime, for the metric
  uint64_t window_end_;
  uint64_t attempt_end_ = 0;
  bool in_full_ = false;  // a handshake that would have resumed failed: no more of that
  uint32_t retries_left_;
  bool pausing_ = false;   // between two rounds
  bool retrying_ = false;  // the addresses of an earlier round have failed
  bool over_ = false;
  bool told_ = false;                 // its owner has heard of the end
  std::unique_ptr<Attempt> attempt_;  // null: a trial of our own

  Addresses addresses_;  // null: not known yet
  size_t next_ = 0;
  uint64_t looking_since_ = 0;  // 0: not waiting for the name
  uint64_t looked_up_ms_ = 0;   // of the window, spent on that
  conf::SocketAddress target_;
  Connecting* connecting_ = nullptr;
  std::unique_ptr<Stream> stream_;
  protocols::Opening* opening_ = nullptr;  // null: none
  bool opening_begun_ = false;             // on this stream
  protocols::Input input_;
  uint64_t connected_at_ = 0;  // nanoseconds, of the attempt that got furthest
  Fault last_fault_ = Fault::none;
  std::string last_detail_;
};

}  // namespace postern::proxy
