// SPDX-License-Identifier: GPL-3.0-or-later
// A login repeated to ManageSieve backends of every kind, however their bytes arrive.
#include "protocols/managesieve/replay.hpp"

#include <doctest/doctest.h>

#include "test/talk.hpp"

using namespace postern;
using namespace postern::protocols;
using test::Stages;

namespace {

struct Setting {
  conf::TlsMode tls = conf::TlsMode::implicit;
  bool allow_plaintext = false, forward = false;
  Mechanism mechanism = Mechanism::plain;
  std::string message = std::string("\0alice@example.com\0secret", 25);
};
constexpr auto starttls = conf::TlsMode::starttls;

std::string talk(const Setting& setting, const Stages& stages, test::Pieces pieces) {
  ReplayRules rules;
  rules.tls = setting.tls;
  rules.allow_plaintext = setting.allow_plaintext;
  rules.forward = setting.forward;
  rules.client.peer = {*conf::Ip::parse("2001:db8::5"), 40000};
  rules.client.local = {*conf::Ip::parse("192.0.2.10"), 4190};
  rules.client.session = "P1f";
  rules.client.encrypted = true;
  Login login;
  login.mechanism = setting.mechanism;
  login.message = conf::Secret(setting.message);
  ManageSieveReplay replay(rules, login);
  return test::converse(replay, stages, pieces);
}
std::string talk(const Setting& setting, const Stages& stages) {
  return test::however_split(stages, [&](test::Pieces pieces) { return talk(setting, stages, pieces); });
}

const std::string hi = "\"IMPLEMENTATION\" \"x\"\r\n\"SASL\" \"PLAIN\"\r\nOK \"hi\"\r\n";
const std::string alice = "AGFsaWNlQGV4YW1wbGUuY29tAHNlY3JldA==";
const std::string auth_alice = "<ready>\nAUTHENTICATE \"PLAIN\" \"" + alice + "\"\r\n";
const std::string again = "\"" + alice + "\"\r\n", cancel = "\"*\"\r\n";
const std::string xclient =
    "XCLIENT ADDR=2001:db8::5 PORT=40000 DESTADDR=192.0.2.10 DESTPORT=4190 SESSION=P1f TTL=6 "
    "CLIENT-TRANSPORT=TLS\r\n";
const std::string in = "<accepted>\nOK \"in\"\r\n<left >\n", in_line = "OK \"in\"\r\n";
const std::string no = "<rejected>\nNO \"no\"\r\n", no_line = "NO \"no\"\r\n";
const std::string token = std::string("n,a=carol@example.com,\x01") + "auth=Bearer tok-1\x01\x01";
const Setting oauth{.mechanism = Mechanism::oauthbearer, .message = token};
const std::string auth_oauth = "<ready>\nAUTHENTICATE \"OAUTHBEARER\" \"" + base64(token) + "\"\r\n";
const std::string auth_login =
    "<ready>\nAUTHENTICATE \"LOGIN\"\r\n\"YWxpY2VAZXhhbXBsZS5jb20=\"\r\n\"c2VjcmV0\"\r\n";

}  // namespace

TEST_CASE("a ManageSieve backend is asked what the protocol's book has, and no more") {
  struct Row {
    const char* title;
    Setting setting;
    Stages backend;
    std::string log;
  };
  const std::vector<Row> rows = {
      {"accepted, with more behind it",
       {},
       {hi + "OK (SASL \"eA==\") \"welcome\"\r\n\"X\"\r\n"},
       auth_alice + "<accepted>\nOK (SASL \"eA==\") \"welcome\"\r\n<left \"X\"\r\n>\n"},
      {"accepted in small letters, by bare line feeds",
       {},
       {"\"SASL\" \"PLAIN\"\nok\nok\n"},
       auth_alice + "<accepted>\nok\r\n<left >\n"},
      {"rejected", {}, {hi + no_line}, auth_alice + no},
      {"rejected with a literal",
       {},
       {hi + "NO {17}\r\naccount 42 frozen\r\n"},
       auth_alice + "<rejected>\nNO {17}\r\naccount 42 frozen\r\n"},
      {"rejected with literals in the middle, one of them like an answer",
       {},
       {hi + "NO (TAG {4+}\r\nOK\r\n) {0}\r\n\r\nOK\r\n"},
       auth_alice + "<rejected>\nNO (TAG {4+}\r\nOK\r\n) {0}\r\n\r\n"},
      {"accepted with a literal, more behind it",
       {},
       {hi + "OK (SASL {4}\r\neA==) \"welcome\"\r\nmore"},
       auth_alice + "<accepted>\nOK (SASL {4}\r\neA==) \"welcome\"\r\n<left more>\n"},
      {"no literal, though it has braces", {}, {hi + "NO {x}\r\n"}, auth_alice + "<rejected>\nNO {x}\r\n"},
      {"no literal either", {}, {hi + "NO \"{5}\"\r\n"}, auth_alice + "<rejected>\nNO \"{5}\"\r\n"},
      {"other lines come along",
       {},
       {hi + "NOTE a\r\nOKAY {3}\r\nOK \r\n" + in_line},
       auth_alice + "<accepted>\nNOTE a\r\nOKAY {3}\r\nOK \r\nOK \"in\"\r\n<left >\n"},
      {"a goodbye is a no", {}, {hi + "BYE \"locked\"\r\n"}, auth_alice + "<rejected>\nBYE \"locked\"\r\n"},

      {"a goodbye for a greeting", {}, {"BYE \"down\"\r\n"}, "<failed greeting>\n"},
      {"a no for a greeting", {}, {"\"SASL\" \"\"\r\nno\r\n"}, "<failed greeting>\n"},
      {"another protocol", {}, {"* OK IMAP4rev1\r\n"}, "<failed greeting>\n"},
      {"a capability with a literal",
       {.forward = true},
       {"\"IMPLEMENTATION\" {11}\r\n\r\n\"XCLIENT\"\r\n\"VERSION\" \"1.0\"\r\nOK\r\n" + in_line},
       auth_alice + in},
      {"a plain leg that may not carry credentials (scenario 77)",
       {.tls = conf::TlsMode::plain, .forward = true},
       {"\"XCLIENT\"\r\nOK\r\n"},
       "<failed plaintext>\n"},
      {"a plain leg that may",
       {.tls = conf::TlsMode::plain, .allow_plaintext = true},
       {hi + in_line},
       auth_alice + in},

      {"STARTTLS",
       {.tls = starttls},
       {"\"SASL\" \"\"\r\n\"STARTTLS\"\r\nOK \"hi\"\r\nOK \"go\"\r\n", hi + in_line},
       "STARTTLS\r\n<tls>\n" + auth_alice + in},
      {"no STARTTLS", {.tls = starttls}, {hi}, "<failed starttls>\n"},
      {"STARTTLS as a value of another",
       {.tls = starttls},
       {"\"SASL\" \"STARTTLS\"\r\nOK\r\n"},
       "<failed starttls>\n"},
      {"STARTTLS refused",
       {.tls = starttls},
       {"\"starttls\"\r\nOK\r\nNO\r\n"},
       "STARTTLS\r\n<failed starttls>\n"},
      {"what was said in clear is forgotten",
       {.tls = starttls, .forward = true},
       {"\"SASL\" \"LOGIN\"\r\n\"XCLIENT\"\r\n\"STARTTLS\"\r\nOK\r\nOK\r\n", "OK\r\n" + in_line},
       "STARTTLS\r\n<tls>\n" + auth_alice + in},
      {"XCLIENT behind STARTTLS",
       {.tls = starttls, .forward = true},
       {"\"STARTTLS\"\r\nOK\r\nOK\r\n", "\"XCLIENT\" \"ADDR PORT\"\r\nOK\r\nOK\r\n" + in_line},
       "STARTTLS\r\n<tls>\n" + xclient + auth_alice + in},
      {"a goodbye behind the handshake",
       {.tls = starttls},
       {"\"STARTTLS\"\r\nOK\r\nOK\r\n", "BYE\r\n"},
       "STARTTLS\r\n<tls>\n<failed greeting>\n"},

      {"XCLIENT",
       {.forward = true},
       {"\"SASL\" \"PLAIN\"\r\n\"XCLIENT\" \"ADDR PORT\"\r\nOK \"hi\"\r\nOK \"Updated\"\r\n" + in_line},
       xclient + auth_alice + in},
      {"XCLIENT not there", {.forward = true}, {"\"SASL\" \"XCLIENT\"\r\n" + hi + in_line}, auth_alice + in},
      {"XCLIENT unwanted", {}, {"\"XCLIENT\"\r\n" + hi + in_line}, auth_alice + in},
      {"XCLIENT refused",
       {.forward = true},
       {"\"XCLIENT\"\r\n" + hi + no_line},
       xclient + "<failed forwarding>\n"},

      {"PLAIN asked for once more", {}, {hi + "{0}\r\n\r\n" + in_line}, auth_alice + again + in},
      {"the same, quoted, then twice",
       {},
       {hi + "\"\"\r\n\"\"\r\n" + no_line},
       auth_alice + again + cancel + no},
      {"the same, with a plus", {}, {hi + "+\r\n+ \r\n" + no_line}, auth_alice + again + cancel + no},
      {"PLAIN asked something else", {}, {hi + "{4+}\r\nabcd\r\n" + no_line}, auth_alice + cancel + no},
      {"a challenge without the line end that is due",
       {},
       {hi + "{0}\r\n" + in_line},
       auth_alice + again + in},
      {"OAuth's error is fetched, and not shown",
       oauth,
       {hi + "\"eyJzdGF0dXMiOiI0MDEifQ==\"\r\n" + no_line},
       auth_oauth + "\"AQ==\"\r\n" + no},
      {"OAuth's error as a literal",
       oauth,
       {hi + "{24}\r\neyJzdGF0dXMiOiI0MDEifQ==\r\n" + no_line},
       auth_oauth + "\"AQ==\"\r\n" + no},
      {"an empty challenge to OAuth is an error too",
       oauth,
       {hi + "{0}\r\n\r\n" + no_line},
       auth_oauth + "\"AQ==\"\r\n" + no},

      {"LOGIN where PLAIN is not listed",
       {},
       {"\"sasl\" \"DIGEST-MD5 login\"\r\nOK\r\n\"x\"\r\n{1}\r\ny\r\n" + in_line},
       auth_login + in},
      {"LOGIN that asks too much",
       {},
       {"\"SASL\" \"LOGIN\"\r\nOK\r\n\"\"\r\n\"\"\r\n\"\"\r\n" + no_line},
       auth_login + cancel + no},
      {"PLAIN where both are listed", {}, {"\"SASL\" \"LOGIN PLAIN\"\r\nOK\r\n" + in_line}, auth_alice + in},
      {"PLAIN where nothing is", {}, {"\"SASL\" \"\"\r\nOK\r\n" + in_line}, auth_alice + in},
      {"LOGIN cannot say another identity",
       {.message = std::string("x\0a\0b", 5)},
       {"\"SASL\" \"LOGIN\"\r\nOK\r\n" + no_line},
       "<ready>\nAUTHENTICATE \"PLAIN\" \"eABhAGI=\"\r\n" + no},
      {"OAuth is never turned into a password",
       oauth,
       {"\"SASL\" \"LOGIN\"\r\nOK\r\n" + no_line},
       auth_oauth + no},
  };
  for (const Row& row : rows) {
    CAPTURE(row.title);
    CHECK(talk(row.setting, row.backend) == row.log);
  }
}

TEST_CASE("bytes behind the go-ahead for TLS end a ManageSieve leg") {
  const Stages stages = {"\"STARTTLS\"\r\nOK\r\nOK \"go\"\r\nOK \"injected\"\r\n"};
  CHECK(talk({.tls = starttls}, stages) == "STARTTLS\r\n<failed starttls>\n");
}

TEST_CASE("a ManageSieve message of more than 1024 bytes goes as a literal") {
  for (const size_t size : {768U, 769U, 4000U}) {
    const Setting setting{.message = std::string("\0u\0", 3) + std::string(size - 3, 'p')};
    const std::string text = base64(setting.message);
    const std::string sent = text.size() <= 1024
                                 ? "\"" + text + "\"\r\n"
                                 : "{" + std::to_string(text.size()) + "+}\r\n" + text + "\r\n";
    CHECK(talk(setting, {hi + "{0}\r\n\r\n" + in_line}) ==
          "<ready>\nAUTHENTICATE \"PLAIN\" " + sent + sent + in);
  }
}

TEST_CASE("a ManageSieve backend without end is given up") {
  std::string many;
  for (int i = 0; i < 255; ++i) many += "\"X\"\r\n";
  CHECK(talk({}, {many + "OK\r\n" + in_line}, {}) == auth_alice + in);
  CHECK(talk({}, {many + "\"X\"\r\nOK\r\n"}, {}) == "<failed protocol>\n");

  const std::string longest(65536, 'x');
  for (const test::Pieces pieces : {test::at_once, test::Pieces{1, 13}, test::Pieces{65536, 1}}) {
    CHECK(talk({}, {"\"" + longest.substr(1) + "\r\n" + hi}, pieces) == auth_alice);
    CHECK(talk({}, {"\"" + longest + "\r\n"}, pieces) == "<failed protocol>\n");
    CHECK(talk({}, {hi + longest + "\r\n" + longest + "\r\n"}, pieces) == auth_alice + "<failed protocol>\n");
    CHECK(talk({}, {hi + "NO {65536}\r\n" + longest + "\r\n"}, pieces) ==
          auth_alice + "<rejected>\nNO {65536}\r\n" + longest + "\r\n");
    CHECK(talk({}, {hi + "NO {65536}\r\n" + longest + " {65536}\r\n"}, pieces) ==
          auth_alice + "<failed protocol>\n");
  }
  for (const char* size : {"65537", "18446744073709551616", "99999999999999999999999999"})
    CHECK(talk({}, {hi + "NO {" + size + "}\r\n"}) == auth_alice + "<failed protocol>\n");

  std::string lines = hi;
  for (int i = 0; i < 65; ++i) lines += "\"\"\r\n";
  std::string answers = auth_alice + again;
  for (int i = 0; i < 63; ++i) answers += cancel;
  CHECK(talk({}, {lines}, {}) == answers + "<failed protocol>\n");
}
