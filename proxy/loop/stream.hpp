// SPDX-License-Identifier: GPL-3.0-or-later
// One leg: a connected socket and, optionally, TLS on it. Plaintext in and out, back-pressure, half-close.
// Holds no buffer unless the socket refused bytes.
#pragma once

#include <uv.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "tls/engine.hpp"

namespace postern::proxy {

class Loop;
class Stream;

/// How input ended.
enum class StreamEnd : uint8_t {
  eof,        // in order: FIN, or close_notify under TLS
  truncated,  // FIN under TLS without close_notify
  reset,      // the connection broke; nothing more works
  tls,        // the TLS conversation broke; nothing more works
};

/// What a stream tells its owner. Any call may close the stream; destroying it must wait until the call is
/// over.
class StreamEvents {
 public:
  virtual void stream_secured(Stream& stream) = 0;  // the TLS handshake is complete
  virtual void stream_data(Stream& stream, std::span<const uint8_t> plain) = 0;
  virtual void stream_ended(Stream& stream, StreamEnd end) = 0;
  virtual void stream_shaking(Stream& stream) { (void)stream; }  // part of the TLS handshake has come
  virtual void stream_drained(Stream& stream) = 0;  // nothing is queued any more; see write_failed()

 protected:
  ~StreamEvents() = default;
};

class Stream {
 public:
  Stream(Loop& loop, StreamEvents& owner) : loop_(loop), owner_(&owner) {}
  ~Stream() { close(); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  /// Takes over an accepted or connected socket; on error the descriptor is closed. 0 or a libuv error.
  int open(int fd);
  /// Takes over a connected libuv handle, which must have been made by `new`.
  void adopt(uv_tcp_t* tcp);
  void belong_to(StreamEvents& owner) { owner_ = &owner; }

  /// From here on the wire carries TLS. `early`: ciphertext that was read before. `prefix` goes out in clear
  /// in front of the engine's first bytes (client side only).
  void start_tls(std::unique_ptr<tls::Engine> engine, std::span<const uint8_t> early = {},
                 std::string_view prefix = {});

  void read(bool on);
  /// Whether to read in small pieces: what comes is kept, and its owner bounds what is kept by not reading
  /// on.
  void sip(bool on) { sipping_ = on; }
  [[nodiscard]] bool reading() const { return reading_; }
  /// Reads on, but forgets what comes: only the end still matters.
  void forget_input();
  [[nodiscard]] bool input_over() const { return input_over_; }

  /// Sends, or keeps what the socket would not take (then queued()). False: the stream is broken.
  [[nodiscard]] bool write(std::span<const uint8_t> plain);
  /// Writes around TLS, for the PROXY header in front of it.
  [[nodiscard]] bool write_clear(std::span<const uint8_t> bytes);
  [[nodiscard]] bool queued() const { return queued_ != 0; }
  /// What had been queued could not be sent; input may still hold the peer's last words.
  [[nodiscard]] bool write_failed() const { return write_failed_; }
  /// Ends our direction: close_notify under TLS, then FIN, behind everything queued. With `clean` false the
  /// close_notify is left out: a truncated input must not become a complete output. False: broken.
  [[nodiscard]] bool finish(bool clean = true);
  [[nodiscard]] bool finished() const { return finished_; }

  /// Drops the socket. No event follows. Idempotent.
  void close();
  [[nodiscard]] bool is_open() const { return tcp_ != nullptr; }
  /// True if the kernel reports the connection broken; for streams that are not reading.
  [[nodiscard]] bool broken() const;
  /// For a peer that ended its direction: the kernel asks it now and then whether it is there at all, and
  /// broken() tells.
  void probe();

  /// Memory this leg takes: the socket, what is queued, the TLS conversation.
  [[nodiscard]] size_t held() const;
  [[nodiscard]] tls::Engine* tls() const { return engine_.get(); }
  [[nodiscard]] bool secured() const { return secured_; }
  /// TLS broke for key updates beyond the limit.
  [[nodiscard]] bool flooded() const { return engine_ && engine_->failure() == tls::Failure::key_updates; }

 private:
  struct Queued;
  void apply();
  [[nodiscard]] unsigned gulp() const;
  void received(ssize_t n, const uint8_t* data);
  void decrypt(tls::Input in);
  void shake(tls::Input in);
  bool flush();
  bool send(std::span<const uint8_t> bytes);
  bool transmit(std::span<const uint8_t> bytes);
  void sent(size_t bytes, int status);
  void fail(StreamEnd end);
  bool shut();

  Loop& loop_;
  StreamEvents* owner_;
  uv_tcp_t* tcp_ = nullptr;  // its data points here while open
  std::unique_ptr<tls::Engine> engine_;
  size_t queued_ = 0;       // bytes libuv holds for us
  uint8_t full_reads_ = 0;  // in a row, since reading began
  bool sipping_ = false;
  bool wanted_ = false;   // the owner wants input
  bool choked_ = false;   // the engine's own answers are queued: no more input until they are out
  bool reading_ = false;  // libuv reads: wanted, not choked, not over
  bool forgetting_ = false;
  bool input_over_ = false;
  bool secured_ = false;
  bool finishing_ = false;  // FIN follows the queue
  bool finished_ = false;   // FIN is out
  bool write_failed_ = false;
};

}  // namespace postern::proxy
