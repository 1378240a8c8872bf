// SPDX-License-Identifier: GPL-3.0-or-later
// Two legs, two directions, two counters: bytes pass unchanged, a slow reader stops the other side's
// reading, an end is passed on, silence has a limit (protocols.md 1.9), and a client that is gone ends it.
#pragma once

#include <cstdint>
#include <span>

#include "proxy/base/fault.hpp"
#include "proxy/loop/stream.hpp"
#include "proxy/loop/timers.hpp"
#include "proxy/observe/counters.hpp"

namespace postern::proxy {

class BridgeEvents {
 public:
  /// The last thing a bridge says: both directions are done, or `fault` ended them.
  virtual void bridge_over(Fault fault) noexcept = 0;
  /// Once: the backend has sent its first bytes (its TLS tickets have arrived by then).
  virtual void backend_spoke() noexcept = 0;

 protected:
  ~BridgeEvents() = default;
};

class Bridge final : public StreamEvents {
 public:
  /// The cells count the same bytes for the metrics, as they pass.
  Bridge(Loop& loop, Stream& client, Stream& backend, uint64_t idle_ms, Cell& to_backend, Cell& to_client,
         BridgeEvents& owner);

  /// What was read before the bridge: it is passed on first. `client_over`: the client's input is already
  /// over.
  struct Before {
    std::span<const uint8_t> from_client, from_backend;
    bool client_over = false;
    bool client_clean = true;
  };
  void run(const Before& before);
  void stop();  // no more events; the streams stay as they are

  /// A leg that is not read cannot report its own reset, so such legs are looked at this often.
  static constexpr uint64_t look_ms = 500;
  /// What a peer that cannot be written to still says has this long to get through.
  static constexpr uint64_t last_words_ms = 400;

  [[nodiscard]] uint64_t to_backend() const { return client_.sent_on; }
  [[nodiscard]] uint64_t to_client() const { return backend_.sent_on; }

 private:
  /// One leg as a source. Invariant: reading is on unless its input is over, or the other leg is queued or
  /// dead.
  struct Side {
    Stream& stream;
    Fault reset;  // what to call it when this leg breaks
    Fault tls;
    Cell& counted;
    uint64_t sent_on = 0;  // bytes from here passed to the other leg
    bool input_over = false;
    bool output_dead = false;  // writing here failed; what it still says is delivered, then all ends
    bool stalled = false;      // not read because the other leg would not take more
  };
  Side& side(const Stream& stream) { return &stream == &client_.stream ? client_ : backend_; }
  Side& other(const Side& side) { return &side == &client_ ? backend_ : client_; }

  void stream_secured(Stream&) noexcept override {}
  void stream_data(Stream& stream, std::span<const uint8_t> plain) noexcept override;
  void stream_ended(Stream& stream, StreamEnd end) noexcept override;
  void stream_drained(Stream& stream) noexcept override;

  void output_failed(Side& to);
  [[nodiscard]] bool unread(const Side& side) const;
  [[nodiscard]] bool said_all(const Side& side) const;
  void pass_end(Side& from, bool clean);
  void maybe_over();
  void tick();
  void arm();
  void over(Fault fault);

  Loop& loop_;
  BridgeEvents& owner_;
  Side client_;
  Side backend_;
  Timer timer_;
  uint64_t idle_ms_;
  uint64_t last_byte_;
  uint64_t failed_at_ = 0;  // when writing to one side failed
  bool heard_backend_ = false;
  bool over_ = false;
};

}  // namespace postern::proxy
