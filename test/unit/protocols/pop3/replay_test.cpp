// SPDX-License-Identifier: GPL-3.0-or-later
// A login repeated to POP3 backends of every kind, however their bytes arrive.
#include "protocols/pop3/replay.hpp"

#include <doctest/doctest.h>

#include "test/talk.hpp"

using namespace postern;
using namespace postern::protocols;
using test::Stages;

namespace {

struct Setting {
  conf::TlsMode tls = conf::TlsMode::implicit;
  bool allow_plaintext = false, forward = false, utf8 = false;
  Mechanism mechanism = Mechanism::plain;
  std::string message = std::string("\0alice@example.com\0secret", 25);
};
constexpr auto starttls = conf::TlsMode::starttls;

std::string talk(const Setting& setting, const Stages& stages, test::Pieces pieces) {
  ReplayRules rules;
  rules.tls = setting.tls;
  rules.allow_plaintext = setting.allow_plaintext;
  rules.forward = setting.forward;
  rules.client.peer = {*conf::Ip::parse("203.0.113.5"), 40000};
  rules.client.local = {*conf::Ip::parse("2001:db8::10"), 110};
  rules.client.session = "P1f";
  Login login;
  login.mechanism = setting.mechanism;
  login.message = conf::Secret(setting.message);
  login.utf8 = setting.utf8;
  Pop3Replay replay(rules, login);
  return test::converse(replay, stages, pieces);
}
std::string talk(const Setting& setting, const Stages& stages) {
  return test::however_split(stages, [&](test::Pieces pieces) { return talk(setting, stages, pieces); });
}

const std::string alice = "AGFsaWNlQGV4YW1wbGUuY29tAHNlY3JldA==";
const std::string auth_alice = "<ready>\nAUTH PLAIN " + alice + "\r\n";
const std::string user_alice = "USER alice@example.com\r\n", pass_alice = "PASS secret\r\n";
const std::string xclient =
    "XCLIENT ADDR=203.0.113.5 PORT=40000 DESTADDR=2001:db8::10 DESTPORT=110 SESSION=P1f TTL=6 "
    "CLIENT-TRANSPORT=insecure\r\n";
const std::string in = "<accepted>\n+OK in\r\n<left >\n";
const std::string token = std::string("n,a=carol@example.com,\x01") + "auth=Bearer tok-1\x01\x01";

/// A backend with STLS whose CAPA has these lines as well.
Stages with_capa(const std::string& lines, const std::string& rest) {
  return {"+OK ready\r\n+OK\r\nTOP\r\n" + lines + "stls\r\n.\r\n+OK go\r\n", rest};
}
const std::string upgrade = "CAPA\r\nSTLS\r\n<tls>\n";

}  // namespace

TEST_CASE("a POP3 backend is asked what the protocol's book has, and no more") {
  struct Row {
    const char* title;
    Setting setting;
    Stages backend;
    std::string log;
  };
  const std::vector<Row> rows = {
      {"accepted, with more behind it",
       {},
       {"+OK hi\r\n+OK logged in\r\n+OK 0 0\r\n"},
       auth_alice + "<accepted>\n+OK logged in\r\n<left +OK 0 0\r\n>\n"},
      {"rejected",
       {},
       {"+OK\r\n-ERR [AUTH] mailbox 42 is frozen\r\n"},
       auth_alice + "<rejected>\n-ERR [AUTH] mailbox 42 is frozen\r\n"},
      {"bare line feeds", {}, {"+OK hi\n+OK in\n"}, auth_alice + in},
      {"a refusing greeting", {}, {"-ERR busy\r\n"}, "<failed greeting>\n"},
      {"another protocol", {}, {"* OK IMAP4rev1\r\n"}, "<failed greeting>\n"},
      {"an empty greeting", {}, {"\r\n"}, "<failed greeting>\n"},
      {"a plain leg that may not carry credentials (scenario 77)",
       {.tls = conf::TlsMode::plain, .forward = true},
       {"+OK [XCLIENT]\r\n"},
       "<failed plaintext>\n"},
      {"a plain leg that may",
       {.tls = conf::TlsMode::plain, .allow_plaintext = true},
       {"+OK hi\r\n+OK in\r\n"},
       auth_alice + in},

      {"STLS", {.tls = starttls}, with_capa("", "+OK in\r\n"), upgrade + auth_alice + in},
      {"no STLS", {.tls = starttls}, {"+OK\r\n+OK\r\nTOP\r\n.\r\n"}, "CAPA\r\n<failed starttls>\n"},
      {"STLS as a word of another line",
       {.tls = starttls},
       {"+OK\r\n+OK\r\nNOT STLS\r\n.\r\n"},
       "CAPA\r\n<failed starttls>\n"},
      {"no CAPA", {.tls = starttls}, {"+OK\r\n-ERR what\r\n"}, "CAPA\r\n<failed starttls>\n"},
      {"STLS refused",
       {.tls = starttls},
       {"+OK\r\n+OK\r\nSTLS\r\n.\r\n-ERR no\r\n"},
       "CAPA\r\nSTLS\r\n<failed starttls>\n"},

      {"XCLIENT",
       {.forward = true},
       {"+OK [XCLIENT] ready\r\n+OK Updated\r\n+OK in\r\n"},
       xclient + auth_alice + in},
      {"XCLIENT at the end of the greeting, among others, in small letters",
       {.forward = true},
       {"+OK ready [AUTH] [a xclient]\r\n+OK\r\n+OK in\r\n"},
       xclient + auth_alice + in},
      {"words of the text announce nothing",
       {.forward = true},
       {"+OK XCLIENT not [here] XCLIENT [NOXCLIENT] [XCLIENT\r\n+OK in\r\n"},
       auth_alice + in},
      {"XCLIENT unwanted", {}, {"+OK [XCLIENT]\r\n+OK in\r\n"}, auth_alice + in},
      {"XCLIENT refused",
       {.forward = true},
       {"+OK [XCLIENT]\r\n-ERR no\r\n"},
       xclient + "<failed forwarding>\n"},
      {"the greeting's XCLIENT outlives STLS",
       {.tls = starttls, .forward = true},
       {"+OK [XCLIENT]\r\n+OK\r\nSTLS\r\n.\r\n+OK\r\n", "+OK\r\n+OK in\r\n"},
       upgrade + xclient + auth_alice + in},

      {"UTF8 on both sides, the answer ignored",
       {.tls = starttls, .utf8 = true},
       with_capa("UTF8 USER\r\n", "-ERR no\r\n+OK in\r\n"),
       upgrade + "UTF8\r\n" + auth_alice + in},
      {"UTF8 the backend has not",
       {.tls = starttls, .utf8 = true},
       with_capa("", "+OK in\r\n"),
       upgrade + auth_alice + in},
      {"UTF8 nobody asked for",
       {.tls = starttls},
       with_capa("UTF8\r\n", "+OK in\r\n"),
       upgrade + auth_alice + in},
      {"UTF8 on a leg without CAPA", {.utf8 = true}, {"+OK\r\n+OK in\r\n"}, auth_alice + in},

      {"PLAIN asked for once more", {}, {"+OK\r\n+ \r\n+OK in\r\n"}, auth_alice + alice + "\r\n" + in},
      {"PLAIN asked for twice more",
       {},
       {"+OK\r\n+\r\n+ \r\n-ERR gone\r\n"},
       auth_alice + alice + "\r\n*\r\n<rejected>\n-ERR gone\r\n"},
      {"PLAIN asked something else",
       {},
       {"+OK\r\n+ abc=\r\n-ERR gone\r\n"},
       auth_alice + "*\r\n<rejected>\n-ERR gone\r\n"},
      {"OAuth's error is fetched",
       {.mechanism = Mechanism::oauthbearer, .message = token},
       {"+OK\r\n+ eyJzdGF0dXMiOiI0MDEifQ==\r\n-ERR expired\r\n"},
       "<ready>\nAUTH OAUTHBEARER " + base64(token) + "\r\nAQ==\r\n<rejected>\n-ERR expired\r\n"},
      {"an empty challenge to OAuth is an error too",
       {.mechanism = Mechanism::xoauth2, .message = token},
       {"+OK\r\n+ \r\n-ERR expired\r\n"},
       "<ready>\nAUTH XOAUTH2 " + base64(token) + "\r\nAQ==\r\n<rejected>\n-ERR expired\r\n"},
      {"neither yes nor no is no rejection",
       {},
       {"+OK\r\nHTTP/1.1 400\r\n"},
       auth_alice + "<failed protocol>\n"},

      {"USER and PASS where SASL lacks PLAIN",
       {.tls = starttls},
       with_capa("USER\r\nSASL CRAM-MD5\r\n", "+OK\r\n+OK in\r\n"),
       upgrade + "<ready>\n" + user_alice + pass_alice + in},
      {"USER and PASS where there is no SASL",
       {.tls = starttls},
       with_capa("USER\r\n", "+OK\r\n-ERR no\r\n"),
       upgrade + "<ready>\n" + user_alice + pass_alice + "<rejected>\n-ERR no\r\n"},
      {"no such user",
       {.tls = starttls},
       with_capa("USER\r\n", "-ERR who\r\n"),
       upgrade + "<ready>\n" + user_alice + "<rejected>\n-ERR who\r\n"},
      {"a challenge to USER is beyond POP3",
       {.tls = starttls},
       with_capa("USER\r\n", "+ \r\n"),
       upgrade + "<ready>\n" + user_alice + "<failed protocol>\n"},
      {"PLAIN where both are listed",
       {.tls = starttls},
       with_capa("USER\r\nSASL login plain\r\n", "+OK in\r\n"),
       upgrade + auth_alice + in},
      {"PLAIN where neither is listed",
       {.tls = starttls},
       with_capa("SASL\r\n", "+OK in\r\n"),
       upgrade + auth_alice + in},
      {"LOGIN where nothing else is",
       {.tls = starttls},
       with_capa("SASL LOGIN\r\n", "+ x\r\n+ y\r\n+OK in\r\n"),
       upgrade + "<ready>\nAUTH LOGIN\r\nYWxpY2VAZXhhbXBsZS5jb20=\r\nc2VjcmV0\r\n" + in},
      {"LOGIN that asks too much",
       {.tls = starttls},
       with_capa("SASL LOGIN\r\n", "+\r\n+\r\n+\r\n-ERR no\r\n"),
       upgrade +
           "<ready>\nAUTH LOGIN\r\nYWxpY2VAZXhhbXBsZS5jb20=\r\nc2VjcmV0\r\n*\r\n<rejected>\n-ERR no\r\n"},
      {"OAuth is never turned into a password",
       {.tls = starttls, .mechanism = Mechanism::xoauth2, .message = token},
       with_capa("USER\r\nSASL LOGIN\r\n", "-ERR unknown command\r\n"),
       upgrade + "<ready>\nAUTH XOAUTH2 " + base64(token) + "\r\n<rejected>\n-ERR unknown command\r\n"},

      {"AUTH unknown",
       {},
       {"+OK\r\n-ERR Unknown Command.\r\n+OK\r\n+OK in\r\n"},
       auth_alice + user_alice + pass_alice + in},
      {"AUTH not implemented, the password wrong",
       {},
       {"+OK\r\n-ERR Not implemented\r\n+OK\r\n-ERR no\r\n"},
       auth_alice + user_alice + pass_alice + "<rejected>\n-ERR no\r\n"},
      {"USER unknown as well",
       {},
       {"+OK\r\n-ERR invalid command\r\n-ERR invalid command\r\n"},
       auth_alice + user_alice + "<rejected>\n-ERR invalid command\r\n"},
      {"an exchange that has begun is not begun anew",
       {},
       {"+OK\r\n+\r\n-ERR unrecognized\r\n"},
       auth_alice + alice + "\r\n<rejected>\n-ERR unrecognized\r\n"},
      {"another identity as its own",
       {.message = std::string("a\0a\0b", 5)},
       {"+OK\r\n-ERR unrecognized\r\n+OK\r\n+OK in\r\n"},
       "<ready>\nAUTH PLAIN YQBhAGI=\r\nUSER a\r\nPASS b\r\n" + in},
      {"another identity cannot be said with USER",
       {.message = std::string("x\0a\0b", 5)},
       {"+OK\r\n-ERR unrecognized\r\n"},
       "<ready>\nAUTH PLAIN eABhAGI=\r\n<rejected>\n-ERR unrecognized\r\n"},
      {"a line break in a password cannot be said with PASS",
       {.message = std::string("\0a\0b\r\nDELE 1", 12)},
       {"+OK\r\n-ERR unrecognized\r\n"},
       "<ready>\nAUTH PLAIN AGEAYg0KREVMRSAx\r\n<rejected>\n-ERR unrecognized\r\n"},
      {"nor a line feed in a user with USER",
       {.tls = starttls, .message = std::string("\0a\nb\0c", 6)},
       with_capa("USER\r\n", "+OK in\r\n"),
       upgrade + "<ready>\nAUTH PLAIN AGEKYgBj\r\n" + in},
  };
  for (const Row& row : rows) {
    CAPTURE(row.title);
    CHECK(talk(row.setting, row.backend) == row.log);
  }
}

TEST_CASE("bytes behind the go-ahead for TLS end a POP3 leg") {
  Setting setting{.tls = starttls};
  const Stages stages = {"+OK\r\n+OK\r\nSTLS\r\n.\r\n+OK go\r\n+OK injected\r\n"};
  CHECK(talk(setting, stages) == "CAPA\r\nSTLS\r\n<failed starttls>\n");
}

TEST_CASE("a POP3 message goes with AUTH up to a line of 255 bytes, and after the challenge beyond") {
  for (const size_t size : {178U, 179U, 180U, 181U, 3000U}) {
    Setting setting{.message = std::string("\0u\0", 3) + std::string(size - 3, 'p')};
    const std::string text = base64(setting.message);
    if (11 + text.size() + 2 <= 255)
      CHECK(talk(setting, {"+OK\r\n+OK in\r\n"}, {}) == "<ready>\nAUTH PLAIN " + text + "\r\n" + in);
    else
      CHECK(talk(setting, {"+OK\r\n+ \r\n+OK in\r\n"}) == "<ready>\nAUTH PLAIN\r\n" + text + "\r\n" + in);
  }
  Setting setting{.message = std::string("\0u\0", 3) + std::string(300, 'p')};
  const std::string begun = "<ready>\nAUTH PLAIN\r\n";
  CHECK(talk(setting, {"+OK\r\n+ \r\n+ \r\n-ERR no\r\n"}) ==
        begun + base64(setting.message) + "\r\n*\r\n<rejected>\n-ERR no\r\n");
  CHECK(talk(setting, {"+OK\r\n-ERR not implemented\r\n+OK\r\n+OK in\r\n"}) ==
        begun + "USER u\r\nPASS " + std::string(300, 'p') + "\r\n" + in);
}

TEST_CASE("a POP3 backend without end is given up") {
  std::string many;
  for (int i = 0; i < 254; ++i) many += "X\r\n";
  const Setting setting{.tls = starttls};
  CHECK(talk(setting, {"+OK\r\n+OK\r\n" + many + ".\r\n"}, {}) == "CAPA\r\n<failed starttls>\n");
  CHECK(talk(setting, {"+OK\r\n+OK\r\n" + many + "X\r\n.\r\n"}, {}) == "CAPA\r\n<failed protocol>\n");

  const std::string longest = "+OK" + std::string(65536 - 3, 'x');
  for (const test::Pieces pieces : {test::at_once, test::Pieces{1, 13}, test::Pieces{65536, 1}}) {
    CHECK(talk({}, {longest + "\r\n"}, pieces) == auth_alice);
    CHECK(talk({}, {longest + "x\r\n"}, pieces) == "<failed protocol>\n");
    CHECK(talk({}, {longest + "xx"}, pieces) == "<failed protocol>\n");
  }

  std::string challenges = "+OK\r\n", answers = auth_alice + alice + "\r\n";
  for (int i = 0; i < 65; ++i) challenges += "+ \r\n";
  for (int i = 0; i < 63; ++i) answers += "*\r\n";
  CHECK(talk({}, {challenges}, {}) == answers + "<failed protocol>\n");
}
