// SPDX-License-Identifier: GPL-3.0-or-later
// One TLS conversation over memory: ciphertext in, plaintext out and the reverse. No socket, no clock,
// no thread. The caller owns the order of calls: handshake until established, then read and write. Want of
// memory is a failure like others; only those who make a conversation throw.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "tls/outbox.hpp"

namespace postern::tls {

class ServerContext;
class ClientContext;
class Resumption;

enum class Progress : uint8_t { want_input, established, failed };

enum class ReadEnd : uint8_t {
  want_input,  // everything given was used
  full,        // `plain` is full, or `out` should go first, and more may be inside: call again
  closed,      // the peer's close_notify: an orderly end; writing still works
  failed,      // fatal; error() says why
};
/// When a call happens, and whether what the engine said before still waits for the peer to take it: what the
/// limits on key updates go by. 32 in a second and 3 requests whose answers wait are the most.
struct Moment {
  uint32_t milliseconds = 0;  // of any clock; may wrap around
  bool backlog = false;
};
struct ReadResult {
  size_t bytes = 0;
  ReadEnd end = ReadEnd::want_input;
};

/// Why a handshake or a conversation ended; a metric label, so the set is closed.
enum class Failure : uint8_t {
  none,
  not_tls,  // noise or plain text where a ClientHello belongs
  hello_too_large,
  version,      // nothing older than TLS 1.2
  cipher,       // no suite or group in common
  alpn,         // only foreign protocols on offer
  certificate,  // the peer's certificate was refused (verification, name, pin)
  alert,        // the peer sent a fatal alert
  protocol,     // anything else against the rules
  key_updates,  // more of them than anybody needs
  memory,       // there was none for it
};
std::string_view name(Failure);

/// Facts of an established conversation, for the log, the metrics and PROXY TLVs.
struct Facts {
  std::string_view version;  // "TLSv1.3"
  std::string_view suite;    // the first of its names in configuration.md P2.3
  std::string_view group;    // "X25519MLKEM768", ...; empty when unknown
  std::string_view
      signature;  // server side: the scheme of our own signature, by its name in RFC 8446; empty if resumed
  bool resumed = false;
};

class Engine {
 public:
  /// Server side. The context (policy, certificates, tickets) is chosen from the ClientHello; it must outlive
  /// the engine's handshake, which the engine sees to by holding it.
  static std::unique_ptr<Engine> server(std::shared_ptr<const ServerContext> context);
  /// Client side. `server_name` is sent as SNI and checked unless the context pins or trusts anything.
  /// `resume` may be null. Fails only for want of memory (nullptr).
  static std::unique_ptr<Engine> client(std::shared_ptr<const ClientContext> context,
                                        const std::string& server_name, const Resumption* resume);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// Call with empty input to start the client side. Bytes left in `in` when established are application
  /// data. After `failed`, `out` may hold an alert worth sending.
  [[nodiscard]] Progress handshake(Input& in, Outbox& out) noexcept;
  /// Decrypts until `in` is used up or `plain` is full. May append to `out` (KeyUpdate answers, alerts).
  /// `plain` must not overlap `in`; behind the bytes that are reported it may be written to as well.
  [[nodiscard]] ReadResult read(Input& in, std::span<uint8_t> plain, Outbox& out,
                                Moment moment = {}) noexcept;
  /// Encrypts all of `plain`. False: fatal, error() says why.
  [[nodiscard]] bool write(std::span<const uint8_t> plain, Outbox& out) noexcept;
  /// Queues close_notify, once. The read side stays open.
  void close(Outbox& out) noexcept;

  [[nodiscard]] bool is_client() const;
  /// Memory this conversation takes now, the library's included.
  [[nodiscard]] size_t held() const;
  [[nodiscard]] Facts facts() const;
  [[nodiscard]] Failure failure() const { return failure_; }
  [[nodiscard]] const char* error() const;  // a clause for the log; no peer bytes in it

  // Server side, from the ClientHello on; empty before.
  [[nodiscard]] std::string_view server_name() const;  // lower case, validated; empty: none or odd
  [[nodiscard]] std::string_view certificate_id()
      const;                                    // the entry presented; "self-signed" for the built-in one
  [[nodiscard]] std::string_view alpn() const;  // negotiated protocol

  /// Client side: the ClientHello offers to resume. If the handshake fails, that may be the reason.
  [[nodiscard]] bool offers_resumption() const;
  /// Client side, after established and again after some reads (TLS 1.3 tickets arrive late): brings up to
  /// date what a next connection may resume with. It stays as it is where this one resumed and the server
  /// gave nothing new, and becomes null where the server would not resume and there is nothing better.
  void renew(std::unique_ptr<Resumption>& kept) const;
  /// A ticket travels in every ClientHello, which has to fit into a record, and is kept for each worker and
  /// protocol: larger ones are not.
  static constexpr size_t ticket_limit = 2048;

 private:
  Engine();
  struct Impl;  // wolfSSL stays behind this door
  std::unique_ptr<Impl> impl_;
  Failure failure_ = Failure::none;
};

/// A client session to resume; opaque, movable between connections of one thread.
class Resumption {
 public:
  explicit Resumption(void* session) : session_(session) {}
  ~Resumption();
  Resumption(const Resumption&) = delete;
  Resumption& operator=(const Resumption&) = delete;
  [[nodiscard]] void* get() const { return session_; }

 private:
  friend class Engine;
  void* session_;
};

}  // namespace postern::tls
