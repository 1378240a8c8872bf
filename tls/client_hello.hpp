// SPDX-License-Identifier: GPL-3.0-or-later
// The first message of a client, read before any TLS object exists: what is in it decides the certificate.
// Pure and bounded: at most 16 KiB are kept, and each byte is looked at a constant number of times.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tls/engine.hpp"
#include "tls/outbox.hpp"

namespace postern::tls {

/// What a server needs to know of a ClientHello. The lists are views into the reader's buffer, in wire form
/// (big-endian pairs, ALPN as length-prefixed names); their structure has been checked.
struct ClientHello {
  std::string server_name;  // lower case, without trailing dot; empty: none, or one no certificate can have
  std::span<const uint8_t> suites;
  std::span<const uint8_t> signature_algorithms;
  std::span<const uint8_t> groups;
  std::span<const uint8_t> alpn;
  bool has_signature_algorithms = false;
  bool has_groups = false;
  bool has_alpn = false;
  bool early_data = false;
  bool tls12 = false;  // offered, in whichever way
  bool tls13 = false;

  /// Whether a list of pairs holds `value`.
  static bool holds(std::span<const uint8_t> pairs, unsigned value);
  /// The first of `ours` that the client offers, or an empty view.
  [[nodiscard]] std::string_view choose_alpn(std::span<const std::string> ours) const;
};

/// TLS alerts that are ours to send, because no TLS object exists or the library has sent none.
enum class Alert : uint8_t {
  unexpected_message = 10,
  bad_record_mac = 20,
  record_overflow = 22,
  handshake_failure = 40,
  bad_certificate = 42,
  illegal_parameter = 47,
  decode_error = 50,
  decrypt_error = 51,
  protocol_version = 70,
  internal_error = 80,
  no_application_protocol = 120,
};
/// Appends a fatal alert in the clear.
void append_alert(Outbox& out, Alert alert);

/// Collects records until one ClientHello is complete. The result depends on the bytes, never on how they
/// were split, neither by the network nor (as long as the limits hold) into records.
class HelloReader {
 public:
  static constexpr size_t max_message = 16384;  // as much as one record holds

  enum class Status : uint8_t { want_input, complete, failed };
  /// Takes from `in` what belongs to the ClientHello's records and not a byte more.
  Status feed(Input& in);

  [[nodiscard]] const ClientHello& hello() const { return hello_; }
  /// The hello as one record, whatever it came in: records are not part of what TLS authenticates.
  [[nodiscard]] std::span<const uint8_t> record() const { return buffer_; }
  /// Copies what of that record was not replayed yet, `size` bytes at most. True: that was all of it.
  bool replay(uint8_t* to, size_t& size);

  [[nodiscard]] size_t held() const { return buffer_.capacity(); }
  [[nodiscard]] Failure failure() const { return failure_; }
  [[nodiscard]] const char* error() const { return error_; }
  [[nodiscard]] Alert alert() const { return alert_; }

 private:
  Status fail(Failure failure, Alert alert, const char* error);
  Status header_byte(uint8_t byte);
  Status parse();
  bool extensions(std::span<const uint8_t> body);
  bool extension(unsigned type, std::span<const uint8_t> body);
  void server_name(std::span<const uint8_t> body);

  std::vector<uint8_t> buffer_;  // room for a record header, then the message so far
  uint8_t header_[5] = {};       // of the record being read
  uint8_t header_have_ = 0;
  size_t record_left_ = 0;   // payload bytes of that record still to come
  size_t message_size_ = 0;  // header included; 0: not known yet
  size_t replayed_ = 0;      // bytes of the record
  unsigned legacy_version_ = 0;
  bool has_versions_ = false;
  bool renegotiates_ = false;  // its first handshake claims to be a later one
  uint8_t seen_ = 0;           // which of the extensions we read have come
  Failure failure_ = Failure::none;
  Alert alert_ = Alert::decode_error;
  const char* error_ = "";
  ClientHello hello_;
};

}  // namespace postern::tls
