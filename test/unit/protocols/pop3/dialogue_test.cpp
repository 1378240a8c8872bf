// SPDX-License-Identifier: GPL-3.0-or-later
// POP3 with a client, word for word, however its bytes arrive.
#include "protocols/pop3/dialogue.hpp"

#include <doctest/doctest.h>

#include "test/talk.hpp"

using namespace postern;
using namespace postern::protocols;
using test::Stages;

namespace {

struct Setting {
  bool encrypted = false, can_upgrade = false, courtesy = true, clear = false, offer_login = true;
  std::vector<std::string> sasl = {"PLAIN", "OAUTHBEARER", "XOAUTH2"};
  uint32_t failures = 3, errors = 20;
  std::vector<test::Answer> answers = {};
  std::string implementation = {};
};
const Setting on_tls{.encrypted = true}, before_tls{.can_upgrade = true}, in_clear{.clear = true};

struct Refusals final : DialogueEvents {
  void login_refused(std::string_view method, Refusal refusal) override {
    log += std::string(method) + (refusal == Refusal::privacy ? ":privacy "
                                  : refusal == Refusal::name  ? ":name "
                                                              : ":malformed ");
  }
  std::string log;
};

std::string talk(const Setting& setting, const Stages& stages, test::Pieces pieces,
                 DialogueEvents* events = nullptr) {
  conf::CapabilitiesConf capabilities;
  capabilities.implementation = setting.implementation;
  capabilities.sasl = setting.sasl;
  capabilities.allow_plain_auth_without_tls = setting.clear;
  capabilities.advertise_login = setting.offer_login;
  DialogueRules rules;
  rules.capabilities = &capabilities;
  rules.hostname = "mail.example.com";
  rules.can_upgrade = setting.can_upgrade;
  rules.courtesy = setting.courtesy;
  rules.max_failures = setting.failures;
  rules.max_errors = setting.errors;
  Pop3Dialogue dialogue(rules, setting.encrypted, events);
  return test::converse(dialogue, stages, pieces, setting.answers);
}
std::string talk(const Setting& setting, const Stages& stages) {
  return test::however_split(stages, [&](test::Pieces pieces) { return talk(setting, stages, pieces); });
}

const std::string greeting = "+OK mail.example.com ready\r\n";
const std::string capa_tail = "TOP\r\nRESP-CODES\r\nPIPELINING\r\nEXPIRE NEVER\r\nUIDL\r\nUTF8\r\n.\r\n";
const std::string needs_tls = "-ERR cleartext authentication requires TLS\r\n";
const std::string alice = "AGFsaWNlQGV4YW1wbGUuY29tAHNlY3JldA==";
const std::string alice_by_auth = "<route PLAIN PLAIN alice@example.com " + alice + ">\n";
const std::string alice_by_pass = "<route USER PLAIN alice@example.com " + alice + ">\n";

}  // namespace

TEST_CASE("POP3 answers every command as the protocol's book has it") {
  struct Row {
    const char* title;
    Setting setting;
    Stages client;
    std::string answer;  // behind the greeting
  };
  const std::string list = "+OK Capability list follows\r\n";
  const std::vector<Row> rows = {
      {"CAPA on TLS", on_tls, {"CAPA\r\n"}, list + "USER\r\nSASL PLAIN OAUTHBEARER XOAUTH2\r\n" + capa_tail},
      {"CAPA and AUTH before STLS",
       before_tls,
       {"CAPA\r\nAUTH\r\n"},
       list + "SASL OAUTHBEARER XOAUTH2\r\nSTLS\r\n" + capa_tail + "+OK\r\nOAUTHBEARER\r\nXOAUTH2\r\n.\r\n"},
      {"CAPA in clear where that is allowed",
       {.can_upgrade = true, .clear = true},
       {"capa\n"},
       list + "USER\r\nSASL PLAIN OAUTHBEARER XOAUTH2\r\nSTLS\r\n" + capa_tail},
      {"no mechanism at all",
       {.clear = true, .sasl = {}},
       {"CAPA\r\nAUTH \r\n"},
       list + "USER\r\n" + capa_tail + "+OK\r\n.\r\n"},
      {"LOGIN is shown where it is listed",
       {.clear = true, .sasl = {"PLAIN", "LOGIN"}},
       {"AUTH\r\n"},
       "+OK\r\nPLAIN\r\nLOGIN\r\n.\r\n"},
      {"unless it must not be",
       {.clear = true, .offer_login = false, .sasl = {"PLAIN", "LOGIN"}},
       {"AUTH\r\n"},
       "+OK\r\nPLAIN\r\n.\r\n"},
      {"an implementation of the operator's",
       {.clear = true, .sasl = {}, .implementation = "Edge 1"},
       {"CAPA\r\n"},
       list + "USER\r\n" + capa_tail.substr(0, capa_tail.size() - 3) + "IMPLEMENTATION Edge 1\r\n.\r\n"},
      {"errors have a limit of their own",
       {.can_upgrade = true, .failures = 1, .errors = 5},
       {"FROB\r\nUSER a\r\nNOOP\r\nPASS x\r\nAPOP a b\r\nSTLS\r\n", "STLS\r\nNOOP\r\n"},
       "-ERR unknown command\r\n" + needs_tls + "+OK\r\n" + needs_tls +
           "-ERR APOP not supported\r\n+OK Begin TLS negotiation\r\n<tls>\n-ERR STLS not available\r\n"
           "<close errors>\n"},
      {"a browser", in_clear, {"GET / HTTP/1.1\r\nNOOP\r\n"}, "-ERR unknown command\r\n<close errors>\n"},
      {"a name that may not be looked up is a wrong password",
       {.clear = true, .failures = 2},
       {"USER alice smith\r\nPASS x\r\nNOOP\r\nUSER a\"b\r\nPASS x\r\n"},
       "+OK\r\n-ERR [AUTH] Authentication failed.\r\n+OK\r\n+OK\r\n-ERR [AUTH] Authentication failed.\r\n"
       "<close failures>\n"},
      {"simple commands",
       in_clear,
       {"noop\r\nUTF8\r\nAPOP alice c4c9334bac560ecc979e58001b3e22fb\r\nSTAT\r\nSTLS\r\nQUIT\r\nNOOP\r\n"},
       "+OK\r\n+OK\r\n-ERR APOP not supported\r\n-ERR unknown command\r\n-ERR STLS not available\r\n"
       "+OK Bye\r\n<close quit>\n"},
      {"an empty line, NOOPS and a NUL are no commands",
       in_clear,
       {std::string("\r\n\nNOOPS\r\nNOOP \0\r\nUSER a\0b\r\nNOOP x\r\n", 36)},
       "-ERR unknown command\r\n-ERR unknown command\r\n-ERR unknown command\r\n-ERR unknown command\r\n"
       "-ERR unknown command\r\n+OK\r\n"},
      {"STLS",
       before_tls,
       {"STLS\r\nFROB\r\n", "NOOP\r\nSTLS\r\n"},
       "+OK Begin TLS negotiation\r\n<tls>\n+OK\r\n-ERR STLS not available\r\n"},
      {"STLS forgets the user and UTF8",
       {.can_upgrade = true, .clear = true},
       {"UTF8\r\nUSER eve\r\nSTLS\r\nPASS x\r\n", "PASS x\r\nUSER alice@example.com\r\nPASS secret\r\n"},
       "+OK\r\n+OK\r\n+OK Begin TLS negotiation\r\n<tls>\n-ERR USER required before PASS\r\n+OK\r\n" +
           alice_by_pass + "<left >\n"},
      {"STLS in the middle of an exchange is a bad answer",
       {.can_upgrade = true, .clear = true},
       {"AUTH PLAIN\r\nSTLS!\r\nSTLS\r\n"},
       "+ \r\n-ERR invalid base64\r\n+OK Begin TLS negotiation\r\n<tls>\n"},
      {"USER and PASS",
       in_clear,
       {"USER alice@example.com\r\nPASS secret\r\nSTAT\r\n"},
       "+OK\r\n" + alice_by_pass + "<left STAT\r\n>\n"},
      {"UTF8 is passed on",
       in_clear,
       {"UTF8\r\nAUTH PLAIN " + alice + "\r\n"},
       "+OK\r\n<route PLAIN PLAIN alice@example.com " + alice + " utf8>\n<left >\n"},
      {"a password with spaces",
       in_clear,
       {"USER   alice@example.com\r\nPASS  two  words \r\n"},
       "+OK\r\n<route USER PLAIN alice@example.com AGFsaWNlQGV4YW1wbGUuY29tACB0d28gIHdvcmRzIA==>\n<left >\n"},
      {"PASS without USER, USER without name, a second USER",
       in_clear,
       {"PASS secret\r\nUSER\r\nUSER  \r\nUSER wrong@example.com\r\nUSER alice@example.com\r\nPASS "
        "secret\r\n"},
       "-ERR USER required before PASS\r\n-ERR USER requires an argument\r\n-ERR USER requires an "
       "argument\r\n"
       "+OK\r\n+OK\r\n" +
           alice_by_pass + "<left >\n"},
      {"an empty password is malformed, and the user forgotten",
       in_clear,
       {"USER a\r\nPASS\r\nPASS x\r\nUSER a\r\nPASS \r\n"},
       "+OK\r\n-ERR malformed credentials\r\n-ERR USER required before PASS\r\n+OK\r\n"
       "-ERR malformed credentials\r\n"},
      {"a password must be UTF-8",
       in_clear,
       {"USER a\r\nPASS \xff\r\n"},
       "+OK\r\n-ERR malformed credentials\r\n"},
      {"clear text refused is no failure",
       {.can_upgrade = true, .failures = 1},
       {"USER alice@example.com\r\nUSER\r\nPASS secret\r\nAUTH PLAIN " + alice +
        "\r\nauth plain\r\nNOOP\r\n"},
       needs_tls + needs_tls + needs_tls + needs_tls + needs_tls + "+OK\r\n"},
      {"AUTH with a continuation, and a pipelined command",
       in_clear,
       {"AUTH PLAIN\r\n" + alice + "\r\nSTAT\r\n"},
       "+ \r\n" + alice_by_auth + "<left STAT\r\n>\n"},
      {"a bad AUTH is answered once",
       in_clear,
       {"AUTH PLAIN bm9udWxoZXJl\r\nQUIT\r\n"},
       "-ERR malformed credentials\r\n+OK Bye\r\n<close quit>\n"},
      {"other AUTH errors",
       {.clear = true, .failures = 9},
       {"AUTH CRAM-MD5\r\nAUTH PLAIN !!!!\r\nAUTH PLAIN =\r\nAUTH PLAIN\r\n*\r\nAUTH LOGIN\r\n"},
       "-ERR unsupported mechanism\r\n-ERR invalid base64\r\n-ERR malformed credentials\r\n+ \r\n"
       "-ERR Authentication aborted\r\n-ERR unsupported mechanism\r\n"},
      {"AUTH LOGIN when listed",
       {.clear = true, .sasl = {"PLAIN", "LOGIN"}},
       {"AUTH LOGIN\r\nYWxpY2VAZXhhbXBsZS5jb20=\r\nc2VjcmV0\r\n"},
       "+ VXNlcm5hbWU6\r\n+ UGFzc3dvcmQ6\r\n<route LOGIN PLAIN alice@example.com " + alice + ">\n<left >\n"},
      {"AUTH LOGIN with the name at once",
       {.clear = true, .sasl = {"PLAIN", "LOGIN"}},
       {"AUTH  LOGIN  YWxpY2VAZXhhbXBsZS5jb20= \r\nc2VjcmV0\r\n"},
       "+ UGFzc3dvcmQ6\r\n<route LOGIN PLAIN alice@example.com " + alice + ">\n<left >\n"},
      {"the limit of failures",
       {.clear = true, .failures = 2},
       {"AUTH FROB\r\nAUTH FROB\r\nNOOP\r\n"},
       "-ERR unsupported mechanism\r\n-ERR unsupported mechanism\r\n<close failures>\n"},
      {"failures before and behind STLS add up",
       {.can_upgrade = true, .failures = 2},
       {"AUTH FROB\r\nSTLS\r\n", "AUTH FROB\r\n"},
       "-ERR unsupported mechanism\r\n+OK Begin TLS negotiation\r\n<tls>\n-ERR unsupported mechanism\r\n"
       "<close failures>\n"},
      {"a rejection counts, and what is pipelined is for the dialogue",
       {.clear = true, .failures = 2, .answers = {{"-ERR [AUTH] frozen\r\n"}, {"-ERR again\r\n"}}},
       {"AUTH PLAIN " + alice + "\r\nNOOP\r\nSTAT\r\nUSER alice@example.com\r\nPASS secret\r\nNOOP\r\n"},
       alice_by_auth + "-ERR [AUTH] frozen\r\n+OK\r\n-ERR unknown command\r\n+OK\r\n" + alice_by_pass +
           "-ERR again\r\n<close failures>\n"},
      {"a rejected PASS forgets the user",
       {.clear = true, .answers = {{"-ERR no\r\n"}}},
       {"USER alice@example.com\r\nPASS secret\r\nPASS secret\r\n"},
       "+OK\r\n" + alice_by_pass + "-ERR no\r\n-ERR USER required before PASS\r\n"},
      {"a rejection hidden, courteously",
       {.clear = true, .answers = {{"-ERR [AUTH] mailbox 42 is frozen\r\n", true}}},
       {"AUTH PLAIN " + alice + "\r\n"},
       alice_by_auth + "-ERR [AUTH] Authentication failed.\r\n"},
      {"a rejection hidden, without courtesy",
       {.courtesy = false, .clear = true, .answers = {{"-ERR [AUTH] mailbox 42 is frozen\r\n", true}}},
       {"AUTH PLAIN " + alice + "\r\n"},
       alice_by_auth + "-ERR Authentication failed.\r\n"},
      {"no backend, courteously",
       {.clear = true, .answers = {{}}},
       {"AUTH PLAIN " + alice + "\r\n"},
       alice_by_auth + "-ERR [SYS/TEMP] backend unavailable\r\n<unavailable>\n"},
      {"no backend, without courtesy",
       {.courtesy = false, .clear = true, .answers = {{}}},
       {"AUTH PLAIN " + alice + "\r\n"},
       alice_by_auth + "-ERR backend unavailable\r\n<unavailable>\n"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.title);
    CHECK(talk(row.setting, row.client) == greeting + row.answer);
  }
}

TEST_CASE("POP3 attempts that end at the door are reported, once each") {
  Refusals refusals;
  talk(before_tls, {"USER a\r\nPASS b\r\nAUTH PLAIN\r\nAUTH FROB\r\nAUTH LOGIN\r\n"}, test::at_once,
       &refusals);
  CHECK(refusals.log == "USER:privacy PLAIN:privacy :malformed LOGIN:malformed ");
  refusals.log.clear();
  talk(on_tls, {"USER a\r\nPASS\r\nAUTH PLAIN !\r\nPASS x\r\nAUTH PLAIN\r\n*\r\n"}, test::at_once, &refusals);
  CHECK(refusals.log == "USER:malformed PLAIN:malformed ");
}

TEST_CASE("a POP3 line may have 65536 bytes, and one more is too many, with or without its end") {
  const std::string longest = "NOOP " + std::string(65536 - 5, 'x');
  for (const test::Pieces pieces : {test::at_once, test::Pieces{1, 7}, test::Pieces{65536, 1}}) {
    CHECK(talk(in_clear, {longest + "\r\nNOOP\n"}, pieces) == greeting + "+OK\r\n+OK\r\n");
    CHECK(talk(in_clear, {"NOOP\n" + longest + "x\r\nNOOP\n"}, pieces) ==
          greeting + "+OK\r\n<close line length>\n");
    CHECK(talk(in_clear, {longest + "xx"}, pieces) == greeting + "<close line length>\n");
    CHECK(talk(in_clear, {"AUTH PLAIN\n" + longest + "xx"}, pieces) ==
          greeting + "+ \r\n<close line length>\n");
  }
}

TEST_CASE("POP3 answers a thousand commands, and closes at the next") {
  std::string client, answer = greeting;
  for (int i = 0; i < 1000; ++i) client += "NOOP\r\n", answer += "+OK\r\n";
  for (const test::Pieces pieces : {test::at_once, test::byte_by_byte}) {
    CHECK(talk(in_clear, {client}, pieces) == answer);
    CHECK(talk(in_clear, {client + "NOOP\r\n"}, pieces) == answer + "<close commands>\n");
  }
}

TEST_CASE("POP3 pauses when it has said enough") {
  conf::CapabilitiesConf capabilities;
  DialogueRules rules;
  rules.capabilities = &capabilities;
  Pop3Dialogue dialogue(rules, true, nullptr);
  Input in;
  for (int i = 0; i < 500; ++i) in.append("CAPA\r\n");
  std::string out;
  CHECK(dialogue.advance(in, out).want == Want::pause);
  CHECK(out.size() < LoginDialogue::enough_said + 512);
  CHECK(!in.empty());
}

TEST_CASE("POP3 says nothing at a time-out or a shutdown, and greets as the listener wishes") {
  conf::CapabilitiesConf capabilities;
  DialogueRules rules;
  rules.capabilities = &capabilities;
  rules.greeting = "hello";
  Pop3Dialogue dialogue(rules, true, nullptr);
  std::string out;
  dialogue.greet(out);
  dialogue.farewell(Farewell::timeout, out);
  dialogue.farewell(Farewell::shutdown, out);
  CHECK(out == "+OK hello\r\n");
}
