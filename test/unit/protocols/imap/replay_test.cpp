// SPDX-License-Identifier: GPL-3.0-or-later
// A login repeated to IMAP backends of every kind, however their bytes arrive.
#include "protocols/imap/replay.hpp"

#include <doctest/doctest.h>

#include "test/talk.hpp"

using namespace postern;
using namespace postern::protocols;
using test::Stages;

namespace {

std::string plain(std::string_view user, std::string_view password, std::string_view authzid = {}) {
  std::string message(authzid);
  message += '\0';
  message += user;
  message += '\0';
  message += password;
  return message;
}

struct Setting {
  conf::TlsMode tls = conf::TlsMode::implicit;
  bool allow_plaintext = false, forward = false, client_encrypted = false;
  std::vector<std::pair<std::string, std::string>> id = {};
  Mechanism mechanism = Mechanism::plain;
  std::string message = plain("alice@example.com", "secret");
  std::string tag = "a";
  uint32_t ttl = 7;
};
constexpr auto starttls = conf::TlsMode::starttls;
constexpr auto in_clear = conf::TlsMode::plain;

std::string talk(const Setting& setting, const Stages& stages, test::Pieces pieces) {
  ReplayRules rules;
  rules.tls = setting.tls;
  rules.allow_plaintext = setting.allow_plaintext;
  rules.forward = setting.forward;
  rules.client.peer = {*conf::Ip::parse("203.0.113.5"), 40000};
  rules.client.local = {*conf::Ip::parse("2001:db8::10"), 143};
  rules.client.session = "P1f";
  rules.client.ttl = setting.ttl;
  rules.client.encrypted = setting.client_encrypted;
  Login login;
  login.mechanism = setting.mechanism;
  login.message = conf::Secret(setting.message);
  login.tag = setting.tag;
  login.id = setting.id;
  ImapReplay replay(rules, login);
  return test::converse(replay, stages, pieces);
}
std::string talk(const Setting& setting, const Stages& stages) {
  return test::however_split(stages, [&](test::Pieces pieces) { return talk(setting, stages, pieces); });
}

const std::string alice = "AGFsaWNlQGV4YW1wbGUuY29tAHNlY3JldA==";
const std::string auth_alice = "<ready>\na AUTHENTICATE PLAIN " + alice + "\r\n";
const std::string modern = "* OK [CAPABILITY IMAP4rev1 SASL-IR ID AUTH=PLAIN] ready\r\n";
const std::string withheld = "<ready>\na AUTHENTICATE PLAIN\r\n" + alice + "\r\n";
const std::string asked = "P2 CAPABILITY\r\n";
const std::string told = "* CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN\r\nP2 OK done\r\n";
const std::string in = "<accepted>\na OK in\r\n<left >\n";
const std::string id_fields =
    "\"x-originating-ip\" \"203.0.113.5\" \"x-originating-port\" \"40000\" \"x-connected-ip\" "
    "\"2001:db8::10\" \"x-connected-port\" \"143\" \"x-proxy-ttl\" \"6\" \"x-session-id\" \"P1f\" "
    "\"x-client-transport\" ";
const std::string id = "F1 ID (" + id_fields + "\"insecure\")\r\n";
const std::string token = std::string("n,a=carol@example.com,\x01") + "auth=Bearer tok-1\x01\x01";
const std::string token64 = base64(token);

std::string old(const std::string& words) { return "* OK [CAPABILITY IMAP4rev1 " + words + "] old\r\n"; }

struct Row {
  const char* title;
  Setting setting;
  Stages backend;
  std::string log;
};

void check(const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    CAPTURE(row.title);
    CHECK(talk(row.setting, row.backend) == row.log);
  }
}

std::string repeated(const std::string& line, int times) {
  std::string lines;
  for (int i = 0; i < times; ++i) lines += line;
  return lines;
}

}  // namespace

TEST_CASE("an IMAP backend gets the login with the client's tag, and its words come back") {
  check({
      {"accepted, with more behind it",
       {},
       {modern + "* CAPABILITY IMAP4rev1 IDLE\r\n* OK almost\r\na OK in\r\n* 5 EXISTS\r\n"},
       auth_alice +
           "<accepted>\n* CAPABILITY IMAP4rev1 IDLE\r\n* OK almost\r\na OK in\r\n<left * 5 EXISTS\r\n>\n"},
      {"rejected",
       {},
       {modern + "* OK [X] note\r\na NO [AUTHENTICATIONFAILED] no such user 42\r\n"},
       auth_alice + "<rejected>\n* OK [X] note\r\na NO [AUTHENTICATIONFAILED] no such user 42\r\n"},
      {"the tag is compared as it is, OK in any case",
       {.tag = "x7.Q"},
       {modern + "X7.Q OK no\r\nx7.Q2 OK no\r\nx7.Q ok\r\n"},
       "<ready>\nx7.Q AUTHENTICATE PLAIN " + alice +
           "\r\n<accepted>\nX7.Q OK no\r\nx7.Q2 OK no\r\nx7.Q ok\r\n<left >\n"},
      {"everything tagged but OK is a no",
       {},
       {modern + "a OKAY\r\n"},
       auth_alice + "<rejected>\na OKAY\r\n"},
      {"a tag nobody can have sent",
       {.tag = "a\r\nb"},
       {modern + "A1 OK in\r\n"},
       "<ready>\nA1 AUTHENTICATE PLAIN " + alice + "\r\n<accepted>\nA1 OK in\r\n<left >\n"},
      {"IMAP4rev2 does not announce SASL-IR",
       {},
       {"* OK [CAPABILITY IMAP4rev2] x\r\n+ \r\na OK in\r\n"},
       withheld + in},
      {"a silent greeting is asked", {}, {"* ok hello\r\n" + told + "a OK in\r\n"}, asked + auth_alice + in},
      {"and its answer is what counts",
       {},
       {"* ok hello\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\nP2 OK\r\n+ \r\na OK in\r\n"},
       asked + withheld + in},
      {"CAPABILITY refused: nothing is known, nothing is sent unasked",
       {},
       {"* ok hello\r\nP2 BAD what\r\n+ \r\na OK in\r\n"},
       asked + withheld + in},
      {"BAD is no verdict while there is another way to say it: without the message",
       {},
       {modern + "* OK dropped\r\na BAD what\r\n+ \r\n* OK kept\r\na NO wrong\r\n"},
       auth_alice + "a AUTHENTICATE PLAIN\r\n" + alice + "\r\n<rejected>\n* OK kept\r\na NO wrong\r\n"},
      {"then as LOGIN, whose answer counts",
       {},
       {modern + "a BAD what\r\na BAD what\r\na BAD what\r\n"},
       auth_alice + "a AUTHENTICATE PLAIN\r\na LOGIN \"alice@example.com\" \"secret\"\r\n"
                    "<rejected>\na BAD what\r\n"},
      {"also behind AUTHENTICATE LOGIN",
       {},
       {old("AUTH=LOGIN") + "a BAD what\r\na OK in\r\n"},
       "<ready>\na AUTHENTICATE LOGIN\r\na LOGIN \"alice@example.com\" \"secret\"\r\n" + in},
      {"not where LOGIN is disabled",
       {},
       {old("AUTH=PLAIN LOGINDISABLED") + "a BAD what\r\n"},
       "<ready>\na AUTHENTICATE PLAIN\r\n<rejected>\na BAD what\r\n"},
      {"nor with a token",
       {.mechanism = Mechanism::xoauth2, .message = token},
       {modern + "a BAD what\r\na BAD what\r\n"},
       "<ready>\na AUTHENTICATE XOAUTH2 " + token64 +
           "\r\na AUTHENTICATE XOAUTH2\r\n"
           "<rejected>\na BAD what\r\n"},
      {"nor once the message was asked for",
       {},
       {old("AUTH=PLAIN") + "+ \r\na BAD what\r\n"},
       withheld + "<rejected>\na BAD what\r\n"},
      {"without SASL-IR the message waits to be asked for",
       {},
       {old("AUTH=PLAIN") + "+ \r\na OK in\r\n"},
       "<ready>\na AUTHENTICATE PLAIN\r\n" + alice + "\r\n" + in},
      {"an empty challenge gets the message again, the next is cancelled",
       {},
       {modern + "+\r\n+ \r\na BAD cancelled\r\n"},
       auth_alice + alice + "\r\n*\r\n<rejected>\na BAD cancelled\r\n"},
      {"a challenge with something in it is cancelled",
       {},
       {modern + "+ Zm9v\r\na NO x\r\n"},
       auth_alice + "*\r\n<rejected>\na NO x\r\n"},
      {"OAuth errors are answered, and not shown",
       {.mechanism = Mechanism::oauthbearer, .message = token},
       {modern + "+ eyJzdGF0dXMiOiI0MDEifQ==\r\na NO expired\r\n"},
       "<ready>\na AUTHENTICATE OAUTHBEARER " + token64 + "\r\nAQ==\r\n<rejected>\na NO expired\r\n"},
      {"OAuth, asked for",
       {.mechanism = Mechanism::xoauth2, .message = token},
       {old("") + "+\r\n+ e30=\r\na NO expired\r\n"},
       "<ready>\na AUTHENTICATE XOAUTH2\r\n" + token64 + "\r\nAQ==\r\n<rejected>\na NO expired\r\n"},
      {"too many lines", {}, {modern + repeated("* OK\r\n", 65)}, auth_alice + "<failed protocol>\n"},
      {"just as many as may be",
       {},
       {modern + repeated("* OK\r\n", 63) + "a OK in\r\n"},
       auth_alice + "<accepted>\n" + repeated("* OK\r\n", 63) + "a OK in\r\n<left >\n"},
  });
  const std::string endless = modern + "* " + std::string(70000, 'x');
  CHECK(talk({}, {endless}, {4096, 4096}) == auth_alice + "<failed protocol>\n");
}

TEST_CASE("an IMAP backend without AUTH=PLAIN is asked in another way, if it says so") {
  const std::string own = plain("b\"\\", "p w", "b\"\\");
  const std::string strange = plain("b\xc3\xa4", "p\r\nq");
  check({
      {"AUTH=LOGIN",
       {},
       {old("SASL-IR AUTH=LOGIN") + "+ VXNlcm5hbWU6\r\n+ UGFzc3dvcmQ6\r\na OK in\r\n"},
       "<ready>\na AUTHENTICATE LOGIN\r\nYWxpY2VAZXhhbXBsZS5jb20=\r\nc2VjcmV0\r\n" + in},
      {"AUTH=LOGIN that asks once more",
       {},
       {old("AUTH=LOGIN") + "+\r\n+\r\n+\r\na BAD x\r\n"},
       "<ready>\na AUTHENTICATE LOGIN\r\nYWxpY2VAZXhhbXBsZS5jb20=\r\nc2VjcmV0\r\n*\r\n"
       "<rejected>\na BAD x\r\n"},
      {"the command, quoted",
       {},
       {old("SASL-IR") + "a OK in\r\n"},
       "<ready>\na LOGIN \"alice@example.com\" \"secret\"\r\n" + in},
      {"the command, with what quoting is for",
       {.message = own},
       {old("") + "a OK in\r\n"},
       "<ready>\na LOGIN \"b\\\"\\\\\" \"p w\"\r\n" + in},
      {"the command, with literals",
       {.message = strange},
       {old("") + "+ go\r\n+ go\r\na OK in\r\n"},
       "<ready>\na LOGIN {3}\r\nb\xc3\xa4 {4}\r\np\r\nq\r\n" + in},
      {"the command, with a literal that is refused",
       {.message = strange},
       {old("") + "a BAD no literals\r\n"},
       "<ready>\na LOGIN {3}\r\n<rejected>\na BAD no literals\r\n"},
      {"the command, with literals unasked",
       {.message = strange},
       {old("LITERAL+") + "a OK in\r\n"},
       "<ready>\na LOGIN {3+}\r\nb\xc3\xa4 {4+}\r\np\r\nq\r\n" + in},
      {"one of each",
       {.message = plain("alice", "p\xc3\xa4")},
       {old("LITERAL-") + "a OK in\r\n"},
       "<ready>\na LOGIN \"alice\" {3+}\r\np\xc3\xa4\r\n" + in},
      {"LITERAL- has a limit",
       {.message = plain("alice", "p\xc3\xa4" + std::string(4094, 'x'))},
       {old("LITERAL-") + "+\r\na OK in\r\n"},
       "<ready>\na LOGIN \"alice\" {4097}\r\np\xc3\xa4" + std::string(4094, 'x') + "\r\n" + in},
      {"the command asks for nothing more",
       {},
       {old("LITERAL+") + "+ go\r\n"},
       "<ready>\na LOGIN \"alice@example.com\" \"secret\"\r\n<failed protocol>\n"},
      {"LOGINDISABLED", {}, {old("SASL-IR LOGINDISABLED") + "a OK in\r\n"}, auth_alice + in},
      {"only SASL can say for whom",
       {.message = plain("boss", "pw", "alice")},
       {old("SASL-IR AUTH=LOGIN") + "a OK in\r\n"},
       "<ready>\na AUTHENTICATE PLAIN " + base64(plain("boss", "pw", "alice")) + "\r\n" + in},
      {"a bearer token has no other way",
       {.mechanism = Mechanism::oauthbearer, .message = token},
       {old("SASL-IR AUTH=LOGIN") + "a OK in\r\n"},
       "<ready>\na AUTHENTICATE OAUTHBEARER " + token64 + "\r\n" + in},
  });
}

TEST_CASE("an IMAP backend that is no good gets no credentials") {
  const std::string upgraded = "P1 STARTTLS\r\n";
  const Setting upgrade{.tls = starttls};
  check({
      {"BYE", {}, {"* BYE overloaded\r\n"}, "<failed greeting>\n"},
      {"PREAUTH", {}, {"* PREAUTH welcome\r\n"}, "<failed greeting>\n"},
      {"another protocol", {}, {"+OK wrong protocol\r\n"}, "<failed greeting>\n"},
      {"OKAY is not OK", {}, {"* OKAY\r\n"}, "<failed greeting>\n"},
      {"a leg in clear that may not be",
       {.tls = in_clear, .forward = true},
       {modern},
       "<failed plaintext>\n"},
      {"a leg in clear that may be",
       {.tls = in_clear, .allow_plaintext = true},
       {modern + "a OK in\r\n"},
       auth_alice + in},
      {"STARTTLS not offered",
       upgrade,
       {"* OK [CAPABILITY IMAP4rev1 SASL-IR] hi\r\n"},
       "<failed starttls>\n"},
      {"STARTTLS refused", upgrade, {"* OK hi\r\nP1 NO not now\r\n"}, upgraded + "<failed starttls>\n"},
      {"BYE instead of STARTTLS", upgrade, {"* OK hi\r\n* BYE\r\n"}, upgraded + "<failed starttls>\n"},
      {"another tag", upgrade, {"* OK hi\r\na OK go\r\n"}, upgraded + "<failed starttls>\n"},
      {"untagged lines without end",
       upgrade,
       {"* OK hi\r\n" + repeated("* OK\r\n", 256)},
       upgraded + "<failed starttls>\n"},
  });
  CHECK(talk(upgrade, {"* OK [CAPABILITY STARTTLS] hi\r\nP1 OK go\r\na OK forged\r\n"}, test::at_once) ==
        upgraded + "<failed starttls>\n");
  CHECK(talk({}, {"* " + std::string(70000, 'x')}, {999, 999}) == "<failed protocol>\n");
}

TEST_CASE("an IMAP backend with STARTTLS is asked anew behind it") {
  check({
      {"capabilities of before are forgotten",
       {.tls = starttls},
       {"* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] hi\r\n* OK soon\r\np1 ok go\r\n",
        told + "a OK in\r\n"},
       "P1 STARTTLS\r\n<tls>\n" + asked + auth_alice + in},
      {"a greeting without capabilities",
       {.tls = starttls},
       {"* OK ready\r\nP1 OK\r\n", told + "a OK in\r\n"},
       "P1 STARTTLS\r\n<tls>\n" + asked + auth_alice + in},
      {"ID behind it",
       {.tls = starttls, .forward = true},
       {"* OK [CAPABILITY IMAP4rev1 STARTTLS ID] hi\r\nP1 OK go\r\n",
        "* CAPABILITY IMAP4rev1 SASL-IR ID AUTH=PLAIN\r\nP2 OK x\r\nF1 OK\r\na OK in\r\n"},
       "P1 STARTTLS\r\n<tls>\nP2 CAPABILITY\r\n" + id + auth_alice + in},
      {"ID not there any more, and no SASL-IR",
       {.tls = starttls, .forward = true},
       {"* OK [CAPABILITY IMAP4rev1 STARTTLS ID SASL-IR] hi\r\nP1 OK go\r\n",
        "* OK x\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\nP2 OK x\r\n+\r\na OK in\r\n"},
       "P1 STARTTLS\r\n<tls>\nP2 CAPABILITY\r\n<ready>\na AUTHENTICATE PLAIN\r\n" + alice + "\r\n" + in},
      {"CAPABILITY refused",
       {.tls = starttls, .forward = true},
       {"* OK hi\r\nP1 OK go\r\n", "P2 BAD x\r\n+\r\na OK in\r\n"},
       "P1 STARTTLS\r\n<tls>\nP2 CAPABILITY\r\n" + withheld + in},
      {"CAPABILITY without end",
       {.tls = starttls, .forward = true},
       {"* OK hi\r\nP1 OK go\r\n", repeated("* OK\r\n", 256)},
       "P1 STARTTLS\r\n<tls>\nP2 CAPABILITY\r\n<failed protocol>\n"},
      {"the client's own ID is a reason to ask as well",
       {.tls = starttls, .id = {{"name", "x"}}},
       {"* OK hi\r\nP1 OK go\r\n", "* CAPABILITY SASL-IR ID AUTH=PLAIN\r\nP2 OK\r\nF1 OK\r\na OK in\r\n"},
       "P1 STARTTLS\r\n<tls>\nP2 CAPABILITY\r\nF1 ID (\"name\" \"x\")\r\n" + auth_alice + in},
  });
}

TEST_CASE("an IMAP backend is told who calls, if it asks to be") {
  const Setting forward{.forward = true};
  check({
      {"ID", forward, {modern + "* ID NIL\r\nF1 OK done\r\na OK in\r\n"}, id + auth_alice + in},
      {"ID refused", forward, {modern + "F1 NO\r\na OK in\r\n"}, id + auth_alice + in},
      {"ID unknown after all", forward, {modern + "f1 BAD x\r\na OK in\r\n"}, id + auth_alice + in},
      {"a client on TLS",
       {.forward = true, .client_encrypted = true},
       {modern + "F1 OK done\r\na OK in\r\n"},
       "F1 ID (" + id_fields + "\"TLS\")\r\n" + auth_alice + in},
      {"a word in the text is no announcement",
       forward,
       {"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN IDLE] ID 42 ready\r\na OK in\r\n"},
       auth_alice + in},
      {"nor is another code",
       forward,
       {"* OK [ALERT] [CAPABILITY ID] ready\r\n" + told + "a OK in\r\n"},
       asked + auth_alice + in},
      {"and silence is asked",
       forward,
       {"* OK ready\r\n* CAPABILITY SASL-IR ID AUTH=PLAIN\r\nP2 OK\r\nF1 OK\r\na OK in\r\n"},
       asked + id + auth_alice + in},
      {"the client's own words come last, and what only proxies say is left out",
       {.forward = true, .id = {{"name", "a\"b\\"}, {"x-proxy-ttl", "9"}, {"os", "a\r\nb"}}},
       {modern + "F1 OK\r\na OK in\r\n"},
       id.substr(0, id.size() - 3) + " \"name\" \"a\\\"b\\\\\")\r\n" + auth_alice + in},
      {"the client's own words alone",
       {.id = {{"name", "x"}}},
       {modern + "F1 OK\r\na OK in\r\n"},
       "F1 ID (\"name\" \"x\")\r\n" + auth_alice + in},
      {"nothing fit to be said", {.id = {{"x-session-id", "x"}}}, {modern + "a OK in\r\n"}, auth_alice + in},
      {"fifteen lines and the last",
       forward,
       {modern + repeated("* ID NIL\r\n", 15) + "F1 OK\r\na OK in\r\n"},
       id + auth_alice + in},
      {"one too many",
       forward,
       {modern + repeated("* ID NIL\r\n", 16) + "F1 OK\r\n"},
       id + "<failed forwarding>\n"},
  });
}
