// SPDX-License-Identifier: GPL-3.0-or-later
// IMAP with a client, word for word, however its bytes arrive.
#include "protocols/imap/dialogue.hpp"

#include <doctest/doctest.h>
#include <fmt/core.h>

#include "test/talk.hpp"

using namespace postern;
using namespace postern::protocols;
using test::Stages;

namespace {

struct Setting {
  bool encrypted = false, can_upgrade = false, courtesy = true, clear = false;
  std::vector<std::string> sasl = {"PLAIN", "OAUTHBEARER", "XOAUTH2"};
  std::vector<std::string> advertise = {"IMAP4rev2", "IMAP4rev1", "ENABLE", "SASL-IR",
                                        "LITERAL+",  "ID",        "IDLE",   "UTF8=ACCEPT"};
  std::optional<std::string> greeting = {};
  uint32_t failures = 3, errors = 20;
  std::vector<test::Answer> answers = {};
};
const Setting on_tls{.encrypted = true}, before_tls{.can_upgrade = true}, in_clear{.clear = true},
    quiet{.courtesy = false, .clear = true};

struct Refusals final : DialogueEvents {
  void login_refused(std::string_view method, Refusal refusal) override {
    log += std::string(method) + (refusal == Refusal::privacy ? ":privacy "
                                  : refusal == Refusal::name  ? ":name "
                                                              : ":malformed ");
  }
  void clear_text_discarded(size_t bytes) override { log += fmt::format("discarded:{} ", bytes); }
  std::string log;
};

std::string talk(const Setting& setting, const Stages& stages, test::Pieces pieces,
                 DialogueEvents* events = nullptr, const std::function<void(const Login&)>& look = {}) {
  conf::CapabilitiesConf capabilities;
  capabilities.sasl = setting.sasl;
  capabilities.advertise = setting.advertise;
  capabilities.allow_plain_auth_without_tls = setting.clear;
  DialogueRules rules;
  const std::vector<std::string> separators = {"%"};
  rules.capabilities = &capabilities;
  rules.hostname = "mail.example.com";
  rules.claim = "email";
  rules.separators = separators;
  rules.greeting = setting.greeting;
  rules.can_upgrade = setting.can_upgrade;
  rules.courtesy = setting.courtesy;
  rules.max_failures = setting.failures;
  rules.max_errors = setting.errors;
  ImapDialogue dialogue(rules, setting.encrypted, events);
  return test::converse(dialogue, stages, pieces, setting.answers, look);
}
std::string talk(const Setting& setting, const Stages& stages) {
  return test::however_split(stages, [&](test::Pieces pieces) { return talk(setting, stages, pieces); });
}

const std::string tokens = "IMAP4rev2 IMAP4rev1 ENABLE SASL-IR LITERAL+ ID IDLE UTF8=ACCEPT ";
const std::string secure = tokens + "AUTH=PLAIN AUTH=OAUTHBEARER AUTH=XOAUTH2";
const std::string insecure = tokens + "AUTH=OAUTHBEARER AUTH=XOAUTH2 LOGINDISABLED";
std::string greeting(const std::string& list) {
  return "* OK [CAPABILITY " + list + "] mail.example.com ready\r\n";
}

const std::string alice = "AGFsaWNlQGV4YW1wbGUuY29tAHNlY3JldA==";
const std::string by_login = "<route LOGIN command PLAIN alice@example.com " + alice + ">\n";
const std::string by_plain = "<route PLAIN PLAIN alice@example.com " + alice + ">\n";
const std::string nothing_left = "<left >\n";
const std::string bye = "* BYE Too many authentication failures.\r\n<close failures>\n";
const std::string enough = "* BYE Too many errors.\r\n<close errors>\n";
const std::string login = "a LOGIN alice@example.com secret\r\n";

struct Row {
  const char* title;
  Setting setting;
  Stages client;
  std::string answer;  // behind the greeting
};

void check(const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    CAPTURE(row.title);
    const std::string log = talk(row.setting, row.client);
    CHECK(log.substr(std::min(log.size(), log.find("\r\n") + 2)) == row.answer);
  }
}

std::string secret_by_login(const std::string& base64) {
  return "<route LOGIN command PLAIN alice@example.com " + base64 + ">\n" + nothing_left;
}

}  // namespace

TEST_CASE("IMAP greets with what it can") {
  CHECK(talk(on_tls, {}) == greeting(secure));
  CHECK(talk(before_tls, {}) == greeting(insecure + " STARTTLS"));
  CHECK(talk({}, {}) == greeting(insecure));
  CHECK(talk(in_clear, {}) == greeting(secure));
  CHECK(talk({.can_upgrade = true, .clear = true}, {}) == greeting(secure + " STARTTLS"));
  CHECK(talk({.clear = true, .sasl = {"PLAIN", "LOGIN"}}, {}) == greeting(tokens + "AUTH=PLAIN AUTH=LOGIN"));
  CHECK(talk({.encrypted = true, .greeting = "Edge ready."}, {}) ==
        "* OK [CAPABILITY " + secure + "] Edge ready.\r\n");
  CHECK(talk({.encrypted = true, .sasl = {"XOAUTH2"}, .advertise = {"IMAP4rev1", "X-TEST"}},
             {"a CAPABILITY\r\n"}) ==
        greeting("IMAP4rev1 X-TEST AUTH=XOAUTH2") +
            "* CAPABILITY IMAP4rev1 X-TEST AUTH=XOAUTH2\r\na OK CAPABILITY completed.\r\n");
}

TEST_CASE("IMAP answers every command in its turn") {
  const std::string not_now = " BAD Command not allowed in this state.\r\n";
  std::string many, all_answered;
  for (int i = 0; i < 1000; ++i) {
    many += "a1 NOOP\n";
    all_answered += "a1 OK NOOP completed.\r\n";
  }
  check({
      {"pipelined commands",
       in_clear,
       {"a NOOP\r\nb CAPABILITY\r\nc ID (\"name\" \"x\")\r\nd LOGOUT\r\ne NOOP\r\n"},
       "a OK NOOP completed.\r\n* CAPABILITY " + secure +
           "\r\nb OK CAPABILITY completed.\r\n* ID NIL\r\nc OK ID completed.\r\n"
           "* BYE Logging out\r\nd OK LOGOUT completed.\r\n<close quit>\n"},
      {"commands that need a login",
       {.clear = true, .failures = 1},
       {"a1 SELECT INBOX\r\na1 SELECT {1+}\r\nx\r\na2 ENABLE CONDSTORE\na3 FROBNICATE\r\na4 UID noop\r\n"
        "a5 UNAUTHENTICATE\r\n"},
       "a1" + not_now + "a1" + not_now + "a2" + not_now + "a3" + not_now + "a4 OK NOOP completed.\r\na5" +
           not_now},
      {"a tag without a command",
       in_clear,
       {"lonely\r\n+x\r\nb NOOP\r\n"},
       "lonely BAD Missing command after tag \"lonely\", found CRLF instead.\r\n"
       "* BAD Tag is not a valid UTF-8 string.\r\nb OK NOOP completed.\r\n"},
      {"malformed lines are answered once and count, not as failures",
       {.clear = true, .failures = 1, .errors = 5},
       {"a LOGIN {abc}\r\nb LOGIN {30} junk\r\nc LOGIN \"open\r\nd NO!OP x y z\r\ne NOOP\r\nf NO!\r\ng "
        "NOOP\r\n"},
       "a BAD Invalid character 'a' in literal.\r\n"
       "b BAD Expected CRLF after literal, found an invalid char.\r\n"
       "c BAD Unterminated quoted argument.\r\nd BAD Invalid character '!' in command name.\r\n"
       "e OK NOOP completed.\r\nf BAD Invalid character '!' in command name.\r\n" +
           enough},
      {"every error counts, whatever it is, and nothing else does",
       {.can_upgrade = true, .failures = 1, .errors = 7},
       {"a SELECT x\r\nb LOGIN\r\n" + login + "c AUTHENTICATE\r\nd NOOP\r\ne STARTTLS\r\n",
        "f STARTTLS\r\ng AUTHENTICATE PLAIN\r\n*\r\nh AUTHENTICATE XOAUTH2\r\n*\r\ni NOOP\r\n"},
       "a" + not_now +
           "b BAD LOGIN requires a username and password.\r\n"
           "a NO [PRIVACYREQUIRED] Cleartext login requires TLS.\r\nc BAD Missing mechanism.\r\n"
           "d OK NOOP completed.\r\ne OK Begin TLS negotiation now.\r\n<tls>\n"
           "f BAD STARTTLS not available.\r\n+ \r\ng BAD Authentication aborted.\r\n"
           "+ \r\nh BAD Authentication aborted.\r\n" +
           enough},
      {"without courtesy the last error is followed by silence",
       {.courtesy = false, .clear = true, .errors = 1},
       {"a SELECT x\r\nb NOOP\r\n"},
       "a" + not_now + "<close errors>\n"},
      {"a browser",
       in_clear,
       {"POST /{99+} HTTP/1.1\r\na NOOP\r\n"},
       "POST BAD Invalid character '/' in command name.\r\n<close errors>\n"},
      {"a tag is no method", in_clear, {"GET NOOP\r\n"}, "GET OK NOOP completed.\r\n"},
      {"an oversized literal",
       in_clear,
       {"a LOGIN alice@example.com {200000}\r\nb NOOP\r\n"},
       "a BAD Literal exceeds the maximum request size of 65536 bytes.\r\nb OK NOOP completed.\r\n"},
      {"an endless literal",
       in_clear,
       {"a LOGIN alice@example.com {20000000+}\r\nb NOOP\r\n"},
       "a BAD Literal exceeds the maximum request size of 65536 bytes.\r\n<close line length>\n"},
      {"STARTTLS",
       before_tls,
       {"a STARTTLS\r\nz NOOP\r\n", "b CAPABILITY\r\nc STARTTLS\r\n"},
       "a OK Begin TLS negotiation now.\r\n<tls>\n* CAPABILITY " + secure +
           "\r\nb OK CAPABILITY completed.\r\nc BAD STARTTLS not available.\r\n"},
      {"STARTTLS not available",
       in_clear,
       {"a STARTTLS\r\nb NOOP\r\n"},
       "a BAD STARTTLS not available.\r\nb OK NOOP completed.\r\n"},
      {"failures before and behind STARTTLS add up",
       {.can_upgrade = true, .failures = 2},
       {"a AUTHENTICATE X\r\nb STARTTLS\r\n", "c AUTHENTICATE X\r\n"},
       "a NO Unsupported authentication mechanism.\r\nb OK Begin TLS negotiation now.\r\n<tls>\n"
       "c NO Unsupported authentication mechanism.\r\n" +
           bye},
  });
  const test::Pieces whole = test::at_once;
  CHECK(talk(in_clear, {many}, whole) == greeting(secure) + all_answered);
  CHECK(talk(in_clear, {many + "b NOOP\r\n"}, whole) ==
        greeting(secure) + all_answered + "<close commands>\n");
  CHECK(talk(in_clear, {"a LOGIN alice@example.com " + std::string(70000, 'A') + "\r\nb NOOP\r\n"}, whole) ==
        greeting(secure) +
            "a BAD Argument exceeds maximum length of 65536 bytes.\r\nb OK NOOP completed.\r\n");
  CHECK(talk(in_clear, {"a AUTHENTICATE PLAIN\r\n" + std::string(70000, 'A')}, {100, 100}) ==
        greeting(secure) + "+ \r\n<close line length>\n");
}

TEST_CASE("IMAP takes a login in every form") {
  check({
      {"atoms", in_clear, {login + "a2 NOOP\r\n"}, by_login + "<left a2 NOOP\r\n>\n"},
      {"lower case, quoted",
       in_clear,
       {"a1 login \"alice@example.com\" \"secret\" more\r\n"},
       by_login + nothing_left},
      {"escapes",
       in_clear,
       {"a1 LOGIN alice@example.com \"se\\\"cr\\\\et x\"\r\n"},
       secret_by_login("AGFsaWNlQGV4YW1wbGUuY29tAHNlImNyXGV0IHg=")},
      {"synchronising literals",
       in_clear,
       {"a1 LOGIN {17}\r\nalice@example.com {6}\r\nsecret\r\n"},
       "+ Ready for 17 bytes.\r\n+ Ready for 6 bytes.\r\n" + by_login + nothing_left},
      {"literals unasked",
       in_clear,
       {"a1 LOGIN {17+}\r\nalice@example.com ~{6+}\r\nsecret\r\n"},
       by_login + nothing_left},
      {"a literal and an atom",
       in_clear,
       {"a1 LOGIN {17}\r\nalice@example.com secret\r\n"},
       "+ Ready for 17 bytes.\r\n" + by_login + nothing_left},
      {"a UTF-8 password",
       in_clear,
       {"a1 LOGIN alice@example.com {10+}\r\np\xc3\xa4ssw\xc3\xb6rt\r\n"},
       secret_by_login("AGFsaWNlQGV4YW1wbGUuY29tAHDDpHNzd8O2cnQ=")},
      {"missing and empty arguments",
       {.clear = true, .failures = 3},
       {"a LOGIN\r\nb LOGIN alice@example.com\r\nc LOGIN alice@example.com \"\"\r\nd LOGIN {0+}\r\n "
        "secret\r\n"
        "e LOGIN alice (x)\r\n" +
        std::string("f LOGIN alice {3+}\r\na\0b\r\n", 25)},
       "a BAD LOGIN requires a username and password.\r\nb BAD LOGIN requires a username and password.\r\n"
       "c NO Malformed credentials.\r\nd NO Malformed credentials.\r\n"
       "e BAD LOGIN requires a username and password.\r\nf NO Malformed credentials.\r\n" +
           bye},
      {"an initial response",
       in_clear,
       {"x7.Q AUTHENTICATE PLAIN " + alice + "\r\n"},
       by_plain + nothing_left},
      {"an initial response as a literal",
       in_clear,
       {"a AUTHENTICATE {5+}\r\nPLAIN {36+}\r\n" + alice + "\r\n"},
       by_plain + nothing_left},
      {"a continuation",
       in_clear,
       {"a AUTHENTICATE plain\r\n" + alice + "\r\nb NOOP\r\n"},
       "+ \r\n" + by_plain + "<left b NOOP\r\n>\n"},
      {"base64 without padding",
       in_clear,
       {"a AUTHENTICATE PLAIN\r\nAHVzZXJAZXhhbXBsZS5jb20AcHc\r\n"},
       "+ \r\n<route PLAIN PLAIN user@example.com AHVzZXJAZXhhbXBsZS5jb20AcHc=>\n" + nothing_left},
      {"an authzid is kept",
       in_clear,
       {"a AUTHENTICATE PLAIN Ym9zc0BleGFtcGxlLmNvbQBhbGljZUBleGFtcGxlLmNvbQBzZWNyZXQ=\r\n"},
       "<route PLAIN PLAIN alice@example.com Ym9zc0BleGFtcGxlLmNvbQBhbGljZUBleGFtcGxlLmNvbQBzZWNyZXQ=>\n" +
           nothing_left},
      {"SASL LOGIN when listed",
       {.clear = true, .sasl = {"PLAIN", "LOGIN"}},
       {"a AUTHENTICATE LOGIN\r\nYWxpY2VAZXhhbXBsZS5jb20=\r\nc2VjcmV0\r\n"},
       "+ VXNlcm5hbWU6\r\n+ UGFzc3dvcmQ6\r\n<route LOGIN PLAIN alice@example.com " + alice + ">\n" +
           nothing_left},
      {"SASL LOGIN with the name at once, and an abort",
       {.clear = true, .sasl = {"PLAIN", "LOGIN"}, .failures = 1},
       {"a AUTHENTICATE LOGIN YWxpY2VAZXhhbXBsZS5jb20=\r\n*\r\n"
        "b AUTHENTICATE LOGIN YWxpY2VAZXhhbXBsZS5jb20=\r\nc2VjcmV0\r\n"},
       "+ UGFzc3dvcmQ6\r\na BAD Authentication aborted.\r\n+ UGFzc3dvcmQ6\r\n"
       "<route LOGIN PLAIN alice@example.com " +
           alice + ">\n" + nothing_left},
      {"PLAIN not listed is no obstacle to the command",
       {.clear = true, .sasl = {"OAUTHBEARER"}},
       {"a AUTHENTICATE PLAIN " + alice + "\r\n" + login},
       "a NO Unsupported authentication mechanism.\r\n" + by_login + nothing_left},
      {"a bearer token in clear",
       before_tls,
       {"a AUTHENTICATE OAUTHBEARER bixhPWNhcm9sQGV4YW1wbGUuY29tLAFob3N0PW1haWwuZXhhbXBsZS5jb20BcG9ydD05OTMB"
        "YXV0aD1CZWFyZXIgdG9rLTEBAQ==\r\n"},
       "<route OAUTHBEARER OAUTHBEARER carol@example.com bixhPWNhcm9sQGV4YW1wbGUuY29tLAFob3N0PW1haWwuZXhhbXBs"
       "ZS5jb20BcG9ydD05OTMBYXV0aD1CZWFyZXIgdG9rLTEBAQ==>\n" +
           nothing_left},
  });
}

TEST_CASE("IMAP refuses a login in the words of the book") {
  const std::string no_tls = " NO [PRIVACYREQUIRED] Cleartext authentication requires TLS.\r\n";
  check({
      {"clear text, which is no failure",
       {.can_upgrade = true, .failures = 1},
       {login + "b AUTHENTICATE PLAIN " + alice + "\r\nc AUTHENTICATE PLAIN\r\nd NOOP\r\n"},
       "a NO [PRIVACYREQUIRED] Cleartext login requires TLS.\r\nb" + no_tls + "c" + no_tls +
           "d OK NOOP completed.\r\n"},
      {"an empty initial response",
       in_clear,
       {"a AUTHENTICATE PLAIN =\r\nb NOOP\r\n"},
       "a NO Malformed credentials.\r\nb OK NOOP completed.\r\n"},
      {"an abort, which is no failure",
       {.clear = true, .failures = 1},
       {"a AUTHENTICATE PLAIN\r\n*\r\nb AUTHENTICATE PLAIN\r\n*\r\n" + login},
       "+ \r\na BAD Authentication aborted.\r\n+ \r\nb BAD Authentication aborted.\r\n" + by_login +
           nothing_left},
      {"bad base64, a bad message, and what is pipelined",
       in_clear,
       {"a AUTHENTICATE PLAIN !!!!\r\nb AUTHENTICATE PLAIN bm9udWxoZXJl\r\nc CAPABILITY\r\n"},
       "a NO Invalid base64 in SASL response.\r\nb NO Malformed credentials.\r\n* CAPABILITY " + secure +
           "\r\nc OK CAPABILITY completed.\r\n"},
      {"mechanisms missing and unknown",
       in_clear,
       {"a AUTHENTICATE\r\na AUTHENTICATE (\r\nb AUTHENTICATE CRAM-MD5\r\nc AUTHENTICATE GSSAPI\r\nd NOOP\r\n"
        "e AUTHENTICATE SCRAM-SHA-256\r\nf NOOP\r\n"},
       "a BAD Missing mechanism.\r\na BAD Missing mechanism.\r\n"
       "b NO Unsupported authentication mechanism.\r\nc NO Unsupported authentication mechanism.\r\n"
       "d OK NOOP completed.\r\ne NO Unsupported authentication mechanism.\r\n" +
           bye},
      {"SASL LOGIN by default",
       in_clear,
       {"a AUTHENTICATE LOGIN\r\n"},
       "a NO AUTH LOGIN is not supported.\r\n"},
      {"one failure allowed, and silence",
       {.courtesy = false, .clear = true, .failures = 1},
       {"a AUTHENTICATE PLAIN bm9udWxoZXJl\r\n"},
       "a NO Malformed credentials.\r\n<close failures>\n"},
      {"rejected by the backend, and again",
       {.clear = true, .failures = 2, .answers = {{"* OK [X] note\r\na NO no\r\n"}, {"c NO no\r\n"}}},
       {login + "b SELECT INBOX\r\nc LOGIN alice@example.com secret\r\nd NOOP\r\n"},
       by_login + "* OK [X] note\r\na NO no\r\nb BAD Command not allowed in this state.\r\n" + by_login +
           "c NO no\r\n" + bye},
      {"rejected, hidden",
       {.clear = true, .answers = {{"* NO 77\r\na NO 77\r\n", true}}},
       {login},
       by_login + "a NO [AUTHENTICATIONFAILED] Authentication failed.\r\n"},
      {"no backend",
       {.clear = true, .answers = {{}}},
       {login},
       by_login + "a NO [UNAVAILABLE] backend unavailable\r\n<unavailable>\n"},
  });
}

TEST_CASE("IMAP takes a name that may not be looked up for a wrong password") {
  const std::string no = " NO [AUTHENTICATIONFAILED] Authentication failed.\r\n";
  const std::string longest(320, 'x');
  check({
      {"a space, a quote, a control, a DEL, in every form of login",
       {.clear = true, .failures = 5},
       {"a LOGIN \"alice smith\" x\r\nb AUTHENTICATE PLAIN AGEiYgBzZWNyZXQ=\r\nc LOGIN {3+}\r\na\tb x\r\n"
        "d LOGIN {2+}\r\na\x7f x\r\nz NOOP\r\ne LOGIN \" \" x\r\nf NOOP\r\n"},
       "a" + no + "b" + no + "c" + no + "d" + no + "z OK NOOP completed.\r\ne" + no + bye},
      {"too long, and the longest",
       in_clear,
       {"a LOGIN y" + longest + " x\r\nb LOGIN " + longest + "%admin x\r\n"},
       "a" + no + "<route LOGIN command PLAIN " + longest + "%admin " +
           base64(std::string(1, '\0') + longest + "%admin" + '\0' + "x") + ">\n" + nothing_left},
      {"nothing before the separator", in_clear, {"a LOGIN %admin x\r\n"}, "a" + no},
      {"the user of a token",
       in_clear,
       {"a AUTHENTICATE XOAUTH2 " +
        base64("user=a b@x\x01"
               "auth=Bearer t\x01\x01") +
        "\r\n"},
       "a" + no},
  });
}

TEST_CASE("IMAP reports what never reaches a backend") {
  Refusals refusals;
  const Stages stages = {
      "a LOGIN a b\r\nb LOGIN a\r\nc AUTHENTICATE PLAIN x\r\nd AUTHENTICATE X\r\ne STARTTLS\r\nxy",
      "f AUTHENTICATE PLAIN =\r\ng LOGIN \"a b\" c\r\n"};
  talk({.can_upgrade = true, .failures = 9}, stages, test::at_once, &refusals);
  CHECK(refusals.log ==
        "LOGIN command:privacy PLAIN:privacy :malformed discarded:2 PLAIN:malformed LOGIN command:name ");
}

TEST_CASE("IMAP says goodbye where courtesy is wanted") {
  conf::CapabilitiesConf capabilities;
  DialogueRules rules;
  rules.capabilities = &capabilities;
  for (const bool courtesy : {true, false}) {
    rules.courtesy = courtesy;
    ImapDialogue dialogue(rules, true, nullptr);
    std::string out;
    dialogue.farewell(Farewell::timeout, out);
    dialogue.farewell(Farewell::shutdown, out);
    CHECK(out == (courtesy ? "* BYE Autologout; idle for too long.\r\n* BYE Server shutting down.\r\n" : ""));
  }
}

TEST_CASE("IMAP hands the last ID over with the login, and its tag") {
  struct IdRow {
    std::string id;
    std::vector<std::pair<std::string, std::string>> fields;
    std::optional<uint32_t> ttl;
  };
  const std::string name30(30, 'n'), value1024(1024, 'v');
  for (const IdRow& row : std::initializer_list<IdRow>{
           {"", {}, {}},
           {"x ID NIL\r\n", {}, {}},
           {"x ID (\"name\" \"x\" \"os\" NIL vendor {2}\r\nyz)\r\n", {{"name", "x"}, {"vendor", "yz"}}, {}},
           {"x ID (\"X-Proxy-TTL\" \"3\" \"name\" \"NIL\")\r\n", {{"name", "NIL"}}, 3},
           {"x ID (\"x-proxy-ttl\" \"-3\")\r\n", {}, {}},
           {"x ID (\"x-proxy-ttl\" \"4294967296\")\r\n", {}, {}},
           {"x ID (\"x-proxy-ttl\" \"3\")\r\ny ID (\"name\" \"y\")\r\n", {{"name", "y"}}, {}},
           {"x ID (\"name\" \"x\")\r\ny ID\r\n", {}, {}},
           {"x ID (\"name\" (\"x\"))\r\n", {}, {}},
           {fmt::format("x ID (\"{}\" \"{}\")\r\n", name30, value1024), {{name30, value1024}}, {}},
           {fmt::format("x ID (\"n{}\" a b \"v{}\" c d)\r\n", name30, value1024), {{"c", "d"}}, {}},
       }) {
    CAPTURE(row.id);
    bool seen = false;
    talk(in_clear, {row.id + login}, test::byte_by_byte, nullptr, [&](const Login& found) {
      seen = true;
      CHECK(found.tag == "a");
      CHECK(found.id == row.fields);
      CHECK(found.ttl == row.ttl);
    });
    CHECK(seen);
  }
  talk({.can_upgrade = true}, {"x ID (\"name\" \"x\" \"x-proxy-ttl\" \"3\")\r\ny STARTTLS\r\n", login},
       test::at_once, nullptr, [](const Login& found) {
         CHECK(found.id.empty());
         CHECK(!found.ttl);
       });
  std::string many = "x ID (";
  for (int i = 0; i < 60; ++i) many += fmt::format("\"f{}\" \"v\" ", i);
  talk(in_clear, {many + ")\r\n" + login}, test::at_once, nullptr,
       [](const Login& found) { CHECK(found.id.size() == 30); });
}
