// SPDX-License-Identifier: GPL-3.0-or-later
// Submission with backends, good and bad, however their bytes arrive.
#include "protocols/submission/replay.hpp"

#include <doctest/doctest.h>

#include "test/talk.hpp"

using namespace postern;
using namespace postern::protocols;
using test::Stages;

namespace {

struct Setting {
  conf::TlsMode tls = conf::TlsMode::plain;
  bool allow_plaintext = true, forward = false;
  std::string helo = {}, hostname = "mail.example.com";
  Mechanism mechanism = Mechanism::plain;
  std::string message = std::string("\0alice@example.com\0secret", 25);
};

std::string talk(const Setting& setting, const Stages& stages, test::Pieces pieces) {
  ReplayRules rules;
  rules.tls = setting.tls;
  rules.allow_plaintext = setting.allow_plaintext;
  rules.forward = setting.forward;
  rules.hostname = setting.hostname;
  rules.client = {*conf::SocketAddress::parse("127.0.0.1:40000"),
                  *conf::SocketAddress::parse("127.0.0.1:587"), 7, "P1f", true};
  Login login;
  login.mechanism = setting.mechanism;
  login.message = conf::Secret(setting.message);
  login.helo = setting.helo;
  SubmissionReplay replay(rules, login);
  return test::converse(replay, stages, pieces);
}
std::string talk(const Setting& setting, const Stages& stages) {
  return test::however_split(stages, [&](test::Pieces pieces) { return talk(setting, stages, pieces); });
}

const Setting simple;
const std::string alice = "AGFsaWNlQGV4YW1wbGUuY29tAHNlY3JldA==";
const std::string ehlo = "EHLO mail.example.com\r\n", auth = "<ready>\nAUTH PLAIN " + alice + "\r\n";
const std::string hello = "220 backend ESMTP\r\n250-backend\r\n250 AUTH PLAIN\r\n";
const std::string accepted = "<accepted>\n235 ok\r\n<left >\n";
std::string failed(const char* fault) { return "<failed " + std::string(fault) + ">\n"; }

}  // namespace

TEST_CASE("a login reaches a submission backend and its verdict comes back") {
  const std::string tls_hello = "220 backend\r\n250-backend\r\n250 STARTTLS\r\n220 go\r\n";
  const Setting starttls{.tls = conf::TlsMode::starttls, .allow_plaintext = false};
  const Setting forward{.forward = true, .helo = "client.example"};
  const std::string client_ehlo = "EHLO client.example\r\n";
  const Setting oauth{.mechanism = Mechanism::xoauth2,
                      .message =
                          "user=d@e\x01"
                          "auth=Bearer t\x01\x01"};
  const std::string oauth_auth = "<ready>\nAUTH XOAUTH2 dXNlcj1kQGUBYXV0aD1CZWFyZXIgdAEB\r\n";
  struct Row {
    const char* title;
    Setting setting;
    Stages backend;
    std::string log;
  };
  const std::vector<Row> rows = {
      {"plain and simple",
       simple,
       {hello + "235 2.7.0 accepted\r\n"},
       ehlo + auth + "<accepted>\n235 2.7.0 accepted\r\n<left >\n"},
      {"replies of several lines and bare line feeds",
       simple,
       {"220-first\n220 second\n250-backend\r\n250-SIZE\r\n250 AUTH PLAIN\n235-2.7.0 so\n235 2.7.0 "
        "accepted\n"},
       ehlo + auth + "<accepted>\n235-2.7.0 so\r\n235 2.7.0 accepted\r\n<left >\n"},
      {"a code alone is a line",
       simple,
       {"220\r\n250\r\n235\r\n"},
       ehlo + auth + "<accepted>\n235\r\n<left >\n"},
      {"what follows the verdict is the client's",
       simple,
       {hello + "235 ok\r\n250 more"},
       ehlo + auth + "<accepted>\n235 ok\r\n<left 250 more>\n"},
      {"rejected in several lines",
       simple,
       {hello + "535-5.7.8 a\r\n535 5.7.8 b\r\n"},
       ehlo + auth + "<rejected>\n535-5.7.8 a\r\n535 5.7.8 b\r\n"},
      {"rejected for now",
       simple,
       {hello + "454 4.7.0 later\r\n"},
       ehlo + auth + "<rejected>\n454 4.7.0 later\r\n"},
      {"the client's own name",
       {.helo = "laptop.example.net"},
       {hello + "235 ok\r\n"},
       "EHLO laptop.example.net\r\n" + auth + accepted},
      {"a name that is none", {.helo = "a b"}, {hello + "235 ok\r\n"}, ehlo + auth + accepted},
      {"no name at all", {.hostname = ""}, {hello + "235 ok\r\n"}, "EHLO proxy\r\n" + auth + accepted},
      {"STARTTLS",
       starttls,
       {tls_hello, "250-backend\r\n250 AUTH PLAIN\r\n235 ok\r\n"},
       ehlo + "STARTTLS\r\n<tls>\n" + ehlo + auth + accepted},
      {"implicit TLS",
       {.tls = conf::TlsMode::implicit, .allow_plaintext = false},
       {hello + "235 ok\r\n"},
       ehlo + auth + accepted},
      {"the response is asked for again",
       simple,
       {hello + "334 \r\n235 ok\r\n"},
       ehlo + auth + alice + "\r\n" + accepted},
      {"once, not twice",
       simple,
       {hello + "334\r\n334 \r\n501 no\r\n"},
       ehlo + auth + alice + "\r\n*\r\n<rejected>\n501 no\r\n"},
      {"a challenge to PLAIN that is no empty one",
       simple,
       {hello + "334 Zm9v\r\n501 no\r\n"},
       ehlo + auth + "*\r\n<rejected>\n501 no\r\n"},
      {"OAuth errors are acknowledged and not shown",
       oauth,
       {hello + "334 eyJzdGF0dXMiOiI0MDEifQ==\r\n334 \r\n535 5.7.8 expired\r\n"},
       ehlo + oauth_auth + "AQ==\r\nAQ==\r\n<rejected>\n535 5.7.8 expired\r\n"},
      {"LOGIN where there is nothing else",
       simple,
       {"220 b\r\n250-b\r\n250 AUTH LOGIN\r\n334 VXNlcm5hbWU6\r\n334 UGFzc3dvcmQ6\r\n235 ok\r\n"},
       ehlo + "<ready>\nAUTH LOGIN\r\nYWxpY2VAZXhhbXBsZS5jb20=\r\nc2VjcmV0\r\n" + accepted},
      {"LOGIN in the old spelling, prompted once too often",
       simple,
       {"220 b\r\n250-b\r\n250 auth=login\r\n334 a\r\n334 b\r\n334 c\r\n501 no\r\n"},
       ehlo + "<ready>\nAUTH LOGIN\r\nYWxpY2VAZXhhbXBsZS5jb20=\r\nc2VjcmV0\r\n*\r\n<rejected>\n501 no\r\n"},
      {"PLAIN if it is listed anywhere",
       simple,
       {"220 b\r\n250-b\r\n250-AUTH=LOGIN\r\n250 AUTH LOGIN PLAIN\r\n235 ok\r\n"},
       ehlo + auth + accepted},
      {"LOGIN cannot say on whose behalf",
       {.message = std::string("bob\0al\0pw", 9)},
       {"220 b\r\n250-b\r\n250 AUTH LOGIN\r\n535 no\r\n"},
       ehlo + "<ready>\nAUTH PLAIN Ym9iAGFsAHB3\r\n<rejected>\n535 no\r\n"},
      {"LOGIN is no way to say a token",
       oauth,
       {"220 b\r\n250 AUTH LOGIN\r\n535 no\r\n"},
       ehlo + oauth_auth + "<rejected>\n535 no\r\n"},
      {"XCLIENT with what was asked for",
       forward,
       {"220 b\r\n250-b\r\n250 XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT\r\n"
        "220 again\r\n250 AUTH PLAIN\r\n235 ok\r\n"},
       client_ehlo +
           "XCLIENT ADDR=127.0.0.1 PORT=40000 DESTADDR=127.0.0.1 DESTPORT=587 HELO=client.example "
           "PROTO=ESMTP\r\n" +
           client_ehlo + auth + accepted},
      {"XCLIENT is not said twice",
       forward,
       {"220 b\r\n250 XCLIENT TTL\r\n250 ok\r\n250 XCLIENT TTL\r\n235 ok\r\n"},
       client_ehlo + "XCLIENT TTL=6\r\n" + client_ehlo + auth + accepted},
      {"XCLIENT with nothing to say, or not offered",
       forward,
       {"220 b\r\n250 XCLIENT NAME LOGIN\r\n235 ok\r\n"},
       client_ehlo + auth + accepted},
      {"XCLIENT only where it is wanted",
       simple,
       {"220 b\r\n250 XCLIENT ADDR\r\n235 ok\r\n"},
       ehlo + auth + accepted},
      {"XCLIENT offered in clear is not believed",
       {.tls = conf::TlsMode::starttls, .forward = true},
       {"220 b\r\n250-STARTTLS\r\n250 XCLIENT ADDR\r\n220 go\r\n", "250 AUTH PLAIN\r\n235 ok\r\n"},
       ehlo + "STARTTLS\r\n<tls>\n" + ehlo + auth + accepted},
  };
  for (const Row& row : rows) {
    CAPTURE(row.title);
    CHECK(talk(row.setting, row.backend) == row.log);
  }
}

TEST_CASE("a submission backend that is no good sees no credentials") {
  const Setting starttls{.tls = conf::TlsMode::starttls};
  const Setting forward{.forward = true};
  const std::string offer = "220 b\r\n250 STARTTLS\r\n";
  struct Row {
    const char* title;
    Setting setting;
    std::string backend, log;
  };
  const std::vector<Row> rows = {
      {"refusing greeting", simple, "554 go away\r\n", failed("greeting")},
      {"half a greeting", simple, "220-a\r\n554 b\r\n", failed("greeting")},
      {"another protocol", simple, "* OK ready\r\n", failed("greeting")},
      {"an empty line", simple, "\r\n", failed("greeting")},
      {"EHLO refused", simple, "220 b\r\n502 no\r\n", ehlo + failed("greeting")},
      {"two codes in a reply", simple, "220 b\r\n250-b\r\n500 x\r\n", ehlo + failed("protocol")},
      {"a code of four digits", simple, "220 b\r\n2500 b\r\n", ehlo + failed("protocol")},
      {"a code with a sign", simple, "220 b\r\n+50 b\r\n", ehlo + failed("protocol")},
      {"a code with another separator", simple, "220 b\r\n250\tb\r\n", ehlo + failed("protocol")},
      {"two digits", simple, "220 b\r\n25\r\n", ehlo + failed("protocol")},
      {"no STARTTLS", starttls, "220 b\r\n250-b STARTTLS\r\n250 XSTARTTLS\r\n", ehlo + failed("starttls")},
      {"STARTTLS refused", starttls, offer + "454 no\r\n", ehlo + "STARTTLS\r\n" + failed("starttls")},
      {"clear text is not allowed",
       {.allow_plaintext = false, .forward = true},
       "220 b\r\n250 XCLIENT ADDR\r\n",
       ehlo + failed("plaintext")},
      {"XCLIENT refused", forward, "220 b\r\n250 XCLIENT TTL\r\n550 no\r\n",
       ehlo + "XCLIENT TTL=6\r\n" + failed("forwarding")},
      {"no EHLO behind XCLIENT", forward, "220 b\r\n250 XCLIENT TTL\r\n250 ok\r\n550 no\r\n",
       ehlo + "XCLIENT TTL=6\r\n" + ehlo + failed("greeting")},
      {"noise for a verdict", simple, hello + "ok\r\n", ehlo + auth + failed("protocol")},
      {"a verdict of two minds", simple, hello + "235-ok\r\n535 no\r\n", ehlo + auth + failed("protocol")},
  };
  for (const Row& row : rows) {
    CAPTURE(row.title);
    CHECK(talk(row.setting, {row.backend}) == row.log);
  }
  CHECK(talk(starttls, {offer + "220 go\r\n250 AUTH PLAIN\r\n"}) ==
        ehlo + "STARTTLS\r\n" + failed("starttls"));
}

TEST_CASE("a submission backend cannot talk for ever") {
  std::string greeting, hello_line = "220 b\r\n", challenges = hello, verdict = hello, dummies;
  for (unsigned i = 0; i < Replay::most_reply_lines; ++i) greeting += "220-x\r\n", hello_line += "250-x\r\n";
  for (unsigned i = 0; i < Replay::most_auth_lines; ++i) {
    challenges += "334 eA==\r\n";
    verdict += "235-x\r\n";
    dummies += "*\r\n";
  }
  for (const test::Pieces pieces : {test::at_once, test::byte_by_byte}) {
    CHECK(talk(simple, {greeting + "220 y\r\n"}, pieces) == failed("greeting"));
    CHECK(talk(simple, {hello_line + "250 y\r\n"}, pieces) == ehlo + failed("protocol"));
    CHECK(talk(simple, {challenges + "235 ok\r\n"}, pieces) == ehlo + auth + dummies + failed("protocol"));
    CHECK(talk(simple, {verdict + "235 ok\r\n"}, pieces) == ehlo + auth + failed("protocol"));
    CHECK(talk(simple, {"220 " + std::string(Replay::longest_line, 'x')}, pieces) == failed("protocol"));
  }
}

TEST_CASE("a message too long for the command follows it on a line of its own") {
  // 512 bytes with AUTH PLAIN, a space and CR LF leave 499 for base64: 372 bytes make 496 of it.
  for (const size_t size : {size_t{372}, size_t{373}}) {
    Setting setting;
    setting.message = std::string("\0a\0", 3) + std::string(size - 3, 'x');
    const std::string encoded = base64(setting.message);
    const bool fits = size == 372;
    CHECK(talk(setting, {hello + (fits ? "" : "334 \r\n") + "235 ok\r\n"}, test::at_once) ==
          ehlo + "<ready>\nAUTH PLAIN" + (fits ? " " : "\r\n") + encoded + "\r\n" + accepted);
  }
}
