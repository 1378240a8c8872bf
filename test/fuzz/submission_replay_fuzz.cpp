// SPDX-License-Identifier: GPL-3.0-or-later
// A submission backend that says anything: the same commands however its bytes arrive, credentials once and
// only where they may be sent. Input: settings, the place of a cut, then what the backend says; a byte 0x1e
// starts what it says inside TLS.
#include "protocols/submission/replay.hpp"

#include "test/fuzz/require.hpp"
#include "test/talk.hpp"

using namespace postern;
using namespace postern::protocols;
using fuzz::require;

namespace {

std::string run(uint8_t settings, const test::Stages& stages, test::Pieces pieces) {
  ReplayRules rules;
  rules.tls = static_cast<conf::TlsMode>(settings % 3);
  rules.allow_plaintext = (settings & 4) != 0;
  rules.forward = (settings & 8) != 0;
  rules.hostname = (settings & 16) != 0 ? "mail.example.com" : "";
  rules.client = {*conf::SocketAddress::parse("127.0.0.1:40000"),
                  *conf::SocketAddress::parse("127.0.0.1:587"), 7, "P1f", false};
  Login login;
  login.helo = (settings & 32) != 0 ? "client.example" : "";
  if ((settings & 64) != 0) {
    login.mechanism = Mechanism::xoauth2;
    login.message = conf::Secret(
        "user=d@e\x01"
        "auth=Bearer t\x01\x01");
  } else {
    login.message = make_plain("alice", "secret");
  }
  SubmissionReplay replay(rules, login);
  return test::converse(replay, stages, pieces);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const std::string_view said = fuzz::text_of(data + 2, size - 2);
  const size_t tls = std::min(said.find('\x1e'), said.size());
  const test::Stages stages = {std::string(said.substr(0, tls)),
                               std::string(said.substr(std::min(tls + 1, said.size())))};
  const std::string whole = run(data[0], stages, test::at_once);
  require(whole == run(data[0], stages, test::byte_by_byte), "another conversation byte by byte");
  require(whole == run(data[0], stages, {data[1], 0}), "another conversation for a cut");
  require(whole == run(data[0], stages, {data[1], 3}), "another conversation in pieces");
  // What the backend said in the end is its own affair.
  const std::string log = whole.substr(0, std::min(whole.find("<accepted>\n"), whole.find("<rejected>\n")));
  const size_t ready = log.find("<ready>\n"), tls_at = log.find("<tls>\n");
  const auto mode = static_cast<conf::TlsMode>(data[0] % 3);
  require(log.find("AUTH ") >= ready, "credentials before the way is clear");
  if (ready == std::string::npos) return 0;
  if (mode == conf::TlsMode::plain) require((data[0] & 4) != 0, "credentials in clear");
  if (mode == conf::TlsMode::starttls) require(tls_at < ready, "credentials before TLS");
  require(log.find("<ready>\n", ready + 1) == std::string::npos, "ready twice");
  return 0;
}
