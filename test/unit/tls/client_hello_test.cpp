// SPDX-License-Identifier: GPL-3.0-or-later
// The ClientHello reader: the same answer however the bytes come, and an end for everything absurd.
#include "tls/client_hello.hpp"

#include <doctest/doctest.h>

#include <chrono>

namespace postern::tls {
namespace {

using Bytes = std::vector<uint8_t>;
using Status = HelloReader::Status;

void put(Bytes& to, size_t value, size_t width) {
  for (size_t i = width; i-- > 0;) to.push_back(static_cast<uint8_t>(value >> (8 * i)));
}
Bytes vector(const Bytes& body, size_t width) {
  Bytes out;
  put(out, body.size(), width);
  for (const uint8_t byte : body) out.push_back(byte);
  return out;
}
Bytes bytes(std::string_view text) { return {text.begin(), text.end()}; }
Bytes operator+(Bytes a, const Bytes& b) {
  for (const uint8_t byte : b) a.push_back(byte);
  return a;
}

Bytes extension(size_t type, const Bytes& body) {
  Bytes out;
  put(out, type, 2);
  return out + vector(body, 2);
}
Bytes server_name(std::string_view name) {
  return extension(0, vector(Bytes{0} + vector(bytes(name), 2), 2));
}

struct Parts {
  unsigned legacy_version = 0x0303;
  Bytes session = Bytes(32, 7);
  Bytes suites = {0x13, 0x01, 0xc0, 0x2b};
  Bytes compression = {0};
  Bytes extensions = {};
  bool with_extensions = true;
};
Bytes message(const Parts& parts) {
  Bytes body;
  put(body, parts.legacy_version, 2);
  body = body + Bytes(32, 0xaa) + vector(parts.session, 1) + vector(parts.suites, 2) +
         vector(parts.compression, 1);
  if (parts.with_extensions) body = body + vector(parts.extensions, 2);
  return Bytes{1} + vector(body, 3);
}
/// The message in records of at most `size` bytes.
Bytes records(const Bytes& message, size_t size = 16384) {
  Bytes out;
  for (size_t at = 0; at < message.size(); at += size) {
    const Bytes piece(message.begin() + static_cast<std::ptrdiff_t>(at),
                      message.begin() + static_cast<std::ptrdiff_t>(std::min(at + size, message.size())));
    out = out + Bytes{22, 3, 1} + vector(piece, 2);
  }
  return out;
}

/// Feeds `data` in pieces; the status after the piece that decided, and how much was taken.
std::pair<Status, size_t> feed(HelloReader& reader, const Bytes& data, size_t piece = SIZE_MAX) {
  size_t at = 0;
  Status status = Status::want_input;
  while (at < data.size() && status == Status::want_input) {
    Input in{data.data() + at, std::min(piece, data.size() - at)};
    const size_t given = in.size;
    status = reader.feed(in);
    at += given - in.size;
  }
  return {status, at};
}

const Bytes full_extensions = server_name("Mail.Example.ORG.") +
                              extension(10, vector({0x11, 0xec, 0, 29}, 2)) +
                              extension(13, vector({4, 3, 8, 4}, 2)) +
                              extension(16, vector(vector(bytes("h2"), 1) + vector(bytes("imap"), 1), 2)) +
                              extension(0x1a1a, {}) + extension(43, vector({0x7a, 0x7a, 3, 4, 3, 3}, 1));

TEST_CASE("a ClientHello tells name, protocols, versions, suites, groups and signatures") {
  HelloReader reader;
  const Bytes data = records(message({.extensions = full_extensions}));
  CHECK(feed(reader, data) == std::pair(Status::complete, data.size()));
  const ClientHello& hello = reader.hello();
  CHECK(hello.server_name == "mail.example.org");
  CHECK(hello.tls12);
  CHECK(hello.tls13);
  CHECK(ClientHello::holds(hello.suites, 0x1301));
  CHECK_FALSE(ClientHello::holds(hello.suites, 0x01c0));  // pairs, not any two bytes
  CHECK(hello.has_groups);
  CHECK(ClientHello::holds(hello.groups, 0x11ec));
  CHECK(hello.has_signature_algorithms);
  CHECK(ClientHello::holds(hello.signature_algorithms, 0x0403));
  const std::string ours[] = {"pop3", "imap", "h2"};
  CHECK(hello.has_alpn);
  CHECK(hello.choose_alpn(ours) == "imap");  // our order
  CHECK(hello.choose_alpn(std::span(ours, 1)).empty());
}

TEST_CASE("every split of bytes and every size of record gives the same answer, and takes no byte too many") {
  const Bytes plain = message({.extensions = full_extensions});
  const Bytes behind = {23, 3, 3, 0, 1, 0};
  for (const size_t record : {size_t{1}, size_t{3}, size_t{4}, size_t{5}, size_t{100}, size_t{16384}}) {
    const Bytes data = records(plain, record);
    for (size_t piece = 1; piece <= data.size() + 6; ++piece) {
      HelloReader reader;
      const auto [status, taken] = feed(reader, data + behind, piece);
      REQUIRE(status == Status::complete);
      REQUIRE(taken == data.size());
      REQUIRE(reader.hello().server_name == "mail.example.org");
      const auto whole = records(plain);
      REQUIRE(std::equal(reader.record().begin(), reader.record().end(), whole.begin(), whole.end()));
    }
  }
}

TEST_CASE("an unfinished ClientHello waits, at every byte") {
  const Bytes data = records(message({.extensions = full_extensions}));
  for (size_t size = 0; size < data.size(); ++size) {
    HelloReader reader;
    const Bytes part(data.begin(), data.begin() + static_cast<std::ptrdiff_t>(size));
    REQUIRE(feed(reader, part) == std::pair(Status::want_input, size));
  }
}

TEST_CASE("versions: the extension decides, and the old field without it") {
  struct Row {
    unsigned legacy;
    Bytes extension;
    bool tls12, tls13;
  };
  const Row rows[] = {
      {0x0303, {}, true, false},
      {0x0302, {}, false, false},
      {0x0301, {}, false, false},
      {0x0300, {}, false, false},
      {0x0304, {}, true, false},
      {0x0400, {}, true, false},
      {0x0304, {3, 4}, false, true},
      {0x0303, {3, 4}, false, true},
      {0x0303, {3, 3}, true, false},
      {0x0301, {3, 4, 3, 3}, true, true},
      {0x0303, {3, 2, 3, 1}, false, false},
      {0x0303, {0x7f, 0x1c}, false, false},
  };
  for (const Row& row : rows) {
    CAPTURE(row.legacy);
    HelloReader reader;
    const Bytes list = row.extension.empty() ? Bytes{} : extension(43, vector(row.extension, 1));
    REQUIRE(feed(reader, records(message({.legacy_version = row.legacy, .extensions = list}))).first ==
            Status::complete);
    CHECK(reader.hello().tls12 == row.tls12);
    CHECK(reader.hello().tls13 == row.tls13);
  }
}

TEST_CASE("a hello without extensions is served as TLS 1.2") {
  HelloReader reader;
  CHECK(feed(reader, records(message({.with_extensions = false}))).first == Status::complete);
  CHECK(reader.hello().server_name.empty());
  CHECK(reader.hello().tls12);
  CHECK_FALSE(reader.hello().has_groups);
}

TEST_CASE("odd server names count as none and do not end the handshake") {
  struct Row {
    std::string_view name, read;
  };
  const std::string long_name = std::string(63, 'a') + "." + std::string(63, 'b') + "." +
                                std::string(63, 'c') + "." + std::string(61, 'd');
  const std::string longer = long_name + "d";
  using namespace std::string_view_literals;
  const Row rows[] = {
      {"alpha.test", "alpha.test"},
      {"ALPHA.test", "alpha.test"},
      {"alpha.test.", "alpha.test"},
      {"a", "a"},
      {"_x-1.test", "_x-1.test"},
      {"127.0.0.1", "127.0.0.1"},
      {long_name, long_name},
      {longer, ""},
      {"", ""},
      {".", ""},
      {"..", ""},
      {"alpha.test..", ""},
      {".alpha.test", ""},
      {"al..pha", ""},
      {"alpha.test\0.evil"sv, ""},
      {"\0"sv, ""},
      {"alpha test", ""},
      {"alpha\r\n", ""},
      {"\xc3\xa4.test", ""},
      {"*.alpha.test", ""},
      {"::1", ""},
      {"a/b", ""},
      {"a@b", ""},
      {"a:993", ""},
  };
  for (const Row& row : rows) {
    CAPTURE(row.name);
    HelloReader reader;
    REQUIRE(feed(reader, records(message({.extensions = server_name(row.name)}))).first == Status::complete);
    CHECK(reader.hello().server_name == row.read);
  }
  const Bytes odd_bodies[] = {{},          {0}, {0, 0}, {0, 5, 0}, {0, 3, 0, 0, 9}, {0, 4, 0, 0, 1, 'a', 0},
                              {0, 2, 7, 0}};
  for (const Bytes& body : odd_bodies) {
    HelloReader reader;
    REQUIRE(feed(reader, records(message({.extensions = extension(0, body)}))).first == Status::complete);
    CHECK(reader.hello().server_name.empty());
  }
  HelloReader reader;  // another type of name first
  const Bytes two =
      extension(0, vector(Bytes{9} + vector(bytes("x"), 2) + Bytes{0} + vector(bytes("a.test"), 2), 2));
  REQUIRE(feed(reader, records(message({.extensions = two}))).first == Status::complete);
  CHECK(reader.hello().server_name == "a.test");
}

TEST_CASE("what is no ClientHello fails at once, with its own kind of failure") {
  struct Row {
    const char* what;
    Bytes data;
    Failure failure;
    size_t taken;  // at most
  };
  const Bytes good = message({.extensions = full_extensions});
  const Row rows[] = {
      {"plain text", bytes("a NOOP\r\n"), Failure::not_tls, 1},
      {"HTTP", bytes("GET / HTTP/1.1\r\n"), Failure::not_tls, 1},
      {"SSH", bytes("SSH-2.0-x\r\n"), Failure::not_tls, 1},
      {"SSLv2", {0x80, 0x2e, 1, 3, 1}, Failure::not_tls, 1},
      {"an alert", {21, 3, 1, 0, 2, 2, 40}, Failure::not_tls, 1},
      {"another major version", {22, 2, 0, 0, 1, 1}, Failure::not_tls, 2},
      {"an empty record", {22, 3, 1, 0, 0}, Failure::protocol, 5},
      {"a record over the limit", {22, 3, 1, 0x40, 1}, Failure::hello_too_large, 5},
      {"another message", {22, 3, 1, 0, 4, 2, 0, 0, 0}, Failure::protocol, 6},
      {"a huge message", {22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff}, Failure::hello_too_large, 9},
      {"one byte too large", {22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfd}, Failure::hello_too_large, 9},
      {"a second message in the record", records(good + Bytes{1}), Failure::protocol, SIZE_MAX},
      {"an empty message", records({1, 0, 0, 0}), Failure::protocol, SIZE_MAX},
      {"an endless session id", records(message({.session = Bytes(33, 1)})), Failure::protocol, SIZE_MAX},
      {"no suites", records(message({.suites = {}})), Failure::protocol, SIZE_MAX},
      {"half a suite", records(message({.suites = {1, 2, 3}})), Failure::protocol, SIZE_MAX},
      {"compression demanded", records(message({.compression = {1}})), Failure::protocol, SIZE_MAX},
      {"an extension past the end", records(message({.extensions = {0, 0, 0, 1}})), Failure::protocol,
       SIZE_MAX},
      {"half an extension", records(message({.extensions = {0, 0, 0}})), Failure::protocol, SIZE_MAX},
      {"the same extension twice", records(message({.extensions = server_name("a") + server_name("b")})),
       Failure::protocol, SIZE_MAX},
      {"an empty list of protocols", records(message({.extensions = extension(16, {0, 0})})),
       Failure::protocol, SIZE_MAX},
      {"an empty protocol", records(message({.extensions = extension(16, {0, 1, 0})})), Failure::protocol,
       SIZE_MAX},
      {"a protocol past its list", records(message({.extensions = extension(16, {0, 2, 5, 'a'})})),
       Failure::protocol, SIZE_MAX},
      {"odd groups", records(message({.extensions = extension(10, {0, 3, 0, 29, 0})})), Failure::protocol,
       SIZE_MAX},
      {"no groups", records(message({.extensions = extension(10, {0, 0})})), Failure::protocol, SIZE_MAX},
      {"early data with a body", records(message({.extensions = extension(42, {0})})), Failure::protocol,
       SIZE_MAX},
      {"a renegotiation of nothing", records(message({.extensions = extension(0xff01, {1, 7})})),
       Failure::protocol, SIZE_MAX},
      {"half a renegotiation_info", records(message({.extensions = extension(0xff01, {2, 7})})),
       Failure::protocol, SIZE_MAX},
      {"odd versions", records(message({.extensions = extension(43, {3, 3, 4, 3})})), Failure::protocol,
       SIZE_MAX},
  };
  for (const Row& row : rows) {
    for (const size_t piece : {SIZE_MAX, size_t{1}}) {
      CAPTURE(row.what);
      HelloReader reader;
      const auto [status, taken] = feed(reader, row.data, piece);
      CHECK(status == Status::failed);
      CHECK(reader.failure() == row.failure);
      CHECK(taken <= row.taken);
      CHECK(*reader.error() != '\0');
      Input more{row.data.data(), row.data.size()};
      CHECK(reader.feed(more) == Status::failed);  // final
    }
  }
}

TEST_CASE(
    "the largest ClientHello that fits one record is read, in single bytes and single-byte records too") {
  Parts parts;
  const size_t rest = HelloReader::max_message - message(parts).size();
  parts.extensions = extension(21, Bytes(rest - 4, 0));
  const Bytes plain = message(parts);
  REQUIRE(plain.size() == HelloReader::max_message);
  for (const size_t record : {size_t{1}, size_t{16384}}) {
    HelloReader reader;
    const Bytes data = records(plain, record);
    const auto start = std::chrono::steady_clock::now();
    CHECK(feed(reader, data, 1) == std::pair(Status::complete, data.size()));
    CHECK(std::chrono::steady_clock::now() - start <
          std::chrono::seconds(1));  // a rescan per byte takes minutes
  }
}

TEST_CASE("the alert tells a limit of ours from a breach of the protocol") {
  const auto alert = [](const Bytes& data) {
    HelloReader reader;
    REQUIRE(feed(reader, data).first == Status::failed);
    return reader.alert();
  };
  CHECK(alert({22, 3, 1, 0x40, 1}) == Alert::record_overflow);
  CHECK(alert({22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfd}) == Alert::illegal_parameter);
  CHECK(alert(records(message({.extensions = extension(0xff01, {1, 7})}))) == Alert::handshake_failure);
  CHECK(alert(records(message({.extensions = extension(0xff01, {2, 7})}))) == Alert::decode_error);
  CHECK(alert(records(message({.extensions = extension(42, {0})}))) == Alert::decode_error);
}

TEST_CASE("an offer of early data and an empty renegotiation_info are nothing bad") {
  HelloReader reader;
  REQUIRE(feed(reader, records(message({.extensions = extension(42, {}) + extension(0xff01, {0})}))).first ==
          Status::complete);
  CHECK(reader.hello().early_data);
  HelloReader plain;
  REQUIRE(feed(plain, records(message({}))).first == Status::complete);
  CHECK_FALSE(plain.hello().early_data);
}

TEST_CASE("an alert in the clear is one record of two bytes") {
  Outbox out;
  append_alert(out, Alert::protocol_version);
  const auto sent = out.bytes();
  CHECK(Bytes(sent.begin(), sent.end()) == Bytes{21, 3, 3, 0, 2, 2, 70});
}

}  // namespace
}  // namespace postern::tls
