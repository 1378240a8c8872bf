// SPDX-License-Identifier: GPL-3.0-or-later
// Records to message, message to facts. RFC 8446 4.1.2 and 5.1, RFC 6066 3, RFC 7301 3.1.
#include "tls/client_hello.hpp"

#include <algorithm>

namespace postern::tls {
namespace {

constexpr size_t header_room = 5;
constexpr uint8_t handshake_record = 22, client_hello_message = 1;
constexpr unsigned tls12_version = 0x0303, tls13_version = 0x0304;
constexpr size_t max_name = 253;  // RFC 1035, in text form

/// Walks a byte string; a read past the end yields zeros and makes ok() false for good.
class Walker {
 public:
  explicit Walker(std::span<const uint8_t> bytes) : bytes_(bytes) {}
  std::span<const uint8_t> take(size_t n) {
    if (n > bytes_.size()) {
      ok_ = false;
      n = 0;
    }
    auto head = bytes_.first(n);
    bytes_ = bytes_.subspan(n);
    return head;
  }
  unsigned number(size_t width) {
    unsigned value = 0;
    for (uint8_t byte : take(width)) value = value << 8 | byte;
    return value;
  }
  std::span<const uint8_t> vector(size_t width) { return take(number(width)); }
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] bool done() const { return bytes_.empty(); }

 private:
  std::span<const uint8_t> bytes_;
  bool ok_ = true;
};

/// A vector of pairs that fills `body` exactly.
bool pairs(std::span<const uint8_t> body, size_t width, std::span<const uint8_t>& list) {
  Walker in(body);
  list = in.vector(width);
  return in.ok() && in.done() && !list.empty() && list.size() % 2 == 0;
}

}  // namespace

bool ClientHello::holds(std::span<const uint8_t> pairs, unsigned value) {
  for (size_t i = 0; i + 1 < pairs.size(); i += 2)
    if ((unsigned{pairs[i]} << 8 | pairs[i + 1]) == value) return true;
  return false;
}

std::string_view ClientHello::choose_alpn(std::span<const std::string> ours) const {
  for (const std::string& name : ours) {
    Walker in(alpn);
    while (in.ok() && !in.done()) {
      const auto offered = in.vector(1);
      if (std::equal(offered.begin(), offered.end(), name.begin(), name.end())) return name;
    }
  }
  return {};
}

void append_alert(Outbox& out, Alert alert) {
  const uint8_t record[] = {21, 3, 3, 0, 2, 2, static_cast<uint8_t>(alert)};
  out.append(record, sizeof record);
}

HelloReader::Status HelloReader::fail(Failure failure, Alert alert, const char* error) {
  failure_ = failure;
  alert_ = alert;
  error_ = error;
  buffer_ = {};
  hello_ = {};
  return Status::failed;
}

HelloReader::Status HelloReader::header_byte(uint8_t byte) {
  const char* noise = "the client does not speak TLS";
  switch (header_have_) {
    case 0:
      if (byte != handshake_record) return fail(Failure::not_tls, Alert::unexpected_message, noise);
      break;
    case 1:
      if (byte != 3) return fail(Failure::not_tls, Alert::unexpected_message, noise);
      break;
    default:
      break;
  }
  header_[header_have_++] = byte;
  if (header_have_ < sizeof header_) return Status::want_input;
  record_left_ = size_t{header_[3]} << 8 | header_[4];
  if (record_left_ == 0) return fail(Failure::protocol, Alert::unexpected_message, "empty handshake record");
  if (record_left_ > max_message)
    return fail(Failure::hello_too_large, Alert::record_overflow, "a record longer than any may be");
  return Status::want_input;
}

HelloReader::Status HelloReader::feed(Input& in) {
  if (failure_ != Failure::none) return Status::failed;
  while (in.size > 0) {
    if (record_left_ == 0) {
      const uint8_t byte = *in.data;
      if (header_byte(byte) == Status::failed) return Status::failed;
      in.skip(1);
      continue;
    }
    if (buffer_.empty()) {
      buffer_.reserve(header_room + std::min(record_left_, in.size));  // what is here, not what is announced
      buffer_.resize(header_room);
    }
    // Its type first, then its length: only that tells how much more may be kept.
    const size_t have = buffer_.size() - header_room;
    const size_t wanted = message_size_ ? message_size_ - have : have ? 4 - have : 1;
    const size_t n = std::min({in.size, record_left_, wanted});
    buffer_.insert(buffer_.end(), in.data, in.data + n);
    in.skip(n);
    record_left_ -= n;
    if (record_left_ == 0) header_have_ = 0;
    const uint8_t* message = buffer_.data() + header_room;
    const size_t now = have + n;
    if (message[0] != client_hello_message)
      return fail(Failure::protocol, Alert::unexpected_message,
                  "another message where a ClientHello belongs");
    if (message_size_ == 0 && now == 4) {
      message_size_ = 4 + (size_t{message[1]} << 16 | size_t{message[2]} << 8 | message[3]);
      if (message_size_ > max_message)  // well-formed, as far as anybody can tell
        return fail(Failure::hello_too_large, Alert::illegal_parameter, "the ClientHello is too large");
    }
    if (now == message_size_) {
      if (record_left_ != 0)
        return fail(Failure::protocol, Alert::unexpected_message,
                    "bytes behind the ClientHello in its record");
      return parse();
    }
  }
  return Status::want_input;
}

HelloReader::Status HelloReader::parse() {
  const auto malformed = [this] {
    return fail(Failure::protocol, Alert::decode_error, "malformed ClientHello");
  };
  Walker in(std::span<const uint8_t>(buffer_).subspan(header_room + 4));
  legacy_version_ = in.number(2);
  in.take(32);
  const auto session = in.vector(1);
  hello_.suites = in.vector(2);
  const auto compression = in.vector(1);
  if (!in.ok() || session.size() > 32 || hello_.suites.empty() || hello_.suites.size() % 2 != 0 ||
      std::find(compression.begin(), compression.end(), 0) == compression.end())
    return malformed();
  if (!in.done()) {
    const auto body = in.vector(2);
    if (!in.ok() || !in.done() || !extensions(body)) return malformed();
  }
  if (renegotiates_)  // RFC 5746, 3.6
    return fail(Failure::protocol, Alert::handshake_failure, "a renegotiation of nothing");
  if (!has_versions_) hello_.tls12 = legacy_version_ >= tls12_version;

  const size_t size = buffer_.size() - header_room;
  const uint8_t header[header_room] = {handshake_record, 3, 1, static_cast<uint8_t>(size >> 8),
                                       static_cast<uint8_t>(size)};
  std::copy(std::begin(header), std::end(header), buffer_.begin());
  return Status::complete;
}

bool HelloReader::replay(uint8_t* to, size_t& size) {
  const auto rest = std::span<const uint8_t>(buffer_).subspan(replayed_);
  size = std::min(size, rest.size());
  std::copy_n(rest.begin(), size, to);
  replayed_ += size;
  return size == rest.size();
}

bool HelloReader::extensions(std::span<const uint8_t> body) {
  Walker in(body);
  while (!in.done()) {
    const unsigned type = in.number(2);
    const auto data = in.vector(2);
    if (!in.ok() || !extension(type, data)) return false;
  }
  return true;
}

bool HelloReader::extension(unsigned type, std::span<const uint8_t> body) {
  const auto once = [this](unsigned bit) {
    const bool first = !(seen_ >> bit & 1);
    seen_ = static_cast<uint8_t>(seen_ | 1u << bit);
    return first;
  };
  switch (type) {
    case 0:
      server_name(body);
      return once(0);
    case 10:
      hello_.has_groups = true;
      return once(1) && pairs(body, 2, hello_.groups);
    case 13:
      hello_.has_signature_algorithms = true;
      return once(2) && pairs(body, 2, hello_.signature_algorithms);
    case 16: {
      Walker in(body);
      hello_.alpn = in.vector(2);
      hello_.has_alpn = true;
      if (!once(3) || !in.ok() || !in.done() || hello_.alpn.empty()) return false;
      for (Walker names(hello_.alpn); !names.done();)
        if (names.vector(1).empty()) return false;  // also when it runs past the end
      return true;
    }
    case 42:
      hello_.early_data = true;
      return body.empty();
    case 0xff01: {
      Walker in(body);
      renegotiates_ = !in.vector(1).empty() || renegotiates_;
      return in.ok() && in.done();
    }
    case 43: {
      std::span<const uint8_t> versions;
      if (!once(4) || !pairs(body, 1, versions)) return false;
      has_versions_ = true;
      hello_.tls12 = ClientHello::holds(versions, tls12_version);
      hello_.tls13 = ClientHello::holds(versions, tls13_version);
      return true;
    }
    default:
      return true;
  }
}

/// A name that is malformed, empty, too long or made of bytes no host name has counts as none.
void HelloReader::server_name(std::span<const uint8_t> body) {
  Walker in(body);
  Walker list(in.vector(2));
  if (!in.ok() || !in.done()) return;
  while (list.ok() && !list.done()) {
    const unsigned kind = list.number(1);
    auto host = list.vector(2);
    if (!list.ok() || kind != 0) continue;
    if (!host.empty() && host.back() == '.') host = host.first(host.size() - 1);
    if (host.empty() || host.size() > max_name) return;
    std::string name;
    name.reserve(host.size());
    for (uint8_t byte : host) {
      const char c = static_cast<char>(byte >= 'A' && byte <= 'Z' ? byte + ('a' - 'A') : byte);
      const bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
      const bool dot = c == '.' && !name.empty() && name.back() != '.';
      if (!plain && !dot) return;
      name += c;
    }
    if (name.back() != '.') hello_.server_name = std::move(name);
    return;
  }
}

}  // namespace postern::tls
