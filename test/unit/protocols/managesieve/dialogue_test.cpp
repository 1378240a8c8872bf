// SPDX-License-Identifier: GPL-3.0-or-later
// ManageSieve with a client, word for word, however its bytes arrive.
#include "protocols/managesieve/dialogue.hpp"

#include <doctest/doctest.h>

#include "test/talk.hpp"

using namespace postern;
using namespace postern::protocols;
using test::Stages;

namespace {

struct Setting {
  bool encrypted = false, can_upgrade = false, courtesy = true, clear = false;
  std::vector<std::string> sasl = {"PLAIN", "OAUTHBEARER", "XOAUTH2"};
  uint32_t failures = 3, errors = 20;
  std::vector<test::Answer> answers = {};
  std::optional<std::string> greeting = {};
  std::vector<std::string> sieve = {"fileinto", "vacation"};
};
const Setting before_tls{.can_upgrade = true}, in_clear{.clear = true};

struct Refusals final : DialogueEvents {
  void login_refused(std::string_view method, Refusal refusal) override {
    log += std::string(method) + (refusal == Refusal::privacy ? ":privacy "
                                  : refusal == Refusal::name  ? ":name "
                                                              : ":malformed ");
  }
  std::string log;
};

struct Talker {
  explicit Talker(const Setting& setting, DialogueEvents* events = nullptr)
      : dialogue(rules, setting.encrypted, events), answers(setting.answers) {
    capabilities.implementation = "Postern";
    capabilities.sieve = setting.sieve;
    capabilities.sasl = setting.sasl;
    capabilities.allow_plain_auth_without_tls = setting.clear;
    rules.capabilities = &capabilities;
    rules.hostname = "mail.example.com";
    rules.greeting = setting.greeting;
    rules.can_upgrade = setting.can_upgrade;
    rules.courtesy = setting.courtesy;
    rules.max_failures = setting.failures;
    rules.max_errors = setting.errors;
  }
  std::string run(const Stages& stages, test::Pieces pieces) {
    return test::converse(dialogue, stages, pieces, answers);
  }
  conf::CapabilitiesConf capabilities;
  DialogueRules rules;
  ManageSieveDialogue dialogue;
  std::vector<test::Answer> answers;
};

std::string talk(const Setting& setting, const Stages& stages, test::Pieces pieces,
                 DialogueEvents* events = nullptr) {
  return Talker(setting, events).run(stages, pieces);
}
std::string talk(const Setting& setting, const Stages& stages) {
  return test::however_split(stages, [&](test::Pieces pieces) { return talk(setting, stages, pieces); });
}

std::string block(const std::string& sasl, bool starttls = false) {
  return "\"IMPLEMENTATION\" \"Postern\"\r\n\"VERSION\" \"1.0\"\r\n\"SASL\" \"" + sasl +
         "\"\r\n\"SIEVE\" \"fileinto vacation\"\r\n" + (starttls ? "\"STARTTLS\"\r\n" : "") +
         "OK \"mail.example.com ready\"\r\n";
}
const std::string all = "PLAIN OAUTHBEARER XOAUTH2";
const std::string alice = "AGFsaWNlQGV4YW1wbGUuY29tAHNlY3JldA==";
const std::string route = "<route PLAIN PLAIN alice@example.com " + alice + ">\n";
const std::string auth = "AUTHENTICATE \"PLAIN\" \"" + alice + "\"\r\n";
const std::string begin = "AUTHENTICATE \"PLAIN\"\r\n", empty = "{0}\r\n\r\n";

}  // namespace

TEST_CASE("ManageSieve shows what there is, before TLS and behind it") {
  CHECK(talk(before_tls, {""}) == block("OAUTHBEARER XOAUTH2", true));
  CHECK(talk({.encrypted = true, .can_upgrade = true}, {"capability\n"}) == block(all) + block(all));
  CHECK(talk({.clear = true, .sasl = {}}, {"CAPABILITY\r\n"}) == block("") + block(""));
  CHECK(talk(before_tls, {"STARTTLS\r\nNOOP \"INJECTED\"\r\n", "NOOP \"MINE\"\r\nSTARTTLS\r\n"}) ==
        block("OAUTHBEARER XOAUTH2", true) + "OK \"Begin TLS negotiation now.\"\r\n<tls>\n" + block(all) +
            "OK (TAG {4}\r\nMINE) \"Done\"\r\nNO \"STARTTLS not available\"\r\n");
  const std::string greeted = talk({.clear = true, .greeting = "say \"hi\""}, {""});
  CHECK(greeted.ends_with("\r\nOK \"say \\\"hi\\\"\"\r\n"));
  const std::string notifies = talk({.clear = true, .sieve = {"vacation", "enotify"}}, {""});
  CHECK(notifies.find("\"SIEVE\" \"vacation enotify\"\r\n\"NOTIFY\" \"mailto\"\r\n") != std::string::npos);
  CHECK(block(all).find("NOTIFY") == std::string::npos);
}

TEST_CASE("ManageSieve answers every command as the protocol's book has it") {
  struct Row {
    const char* title;
    Setting setting;
    Stages client;
    std::string answer;  // behind the block
  };
  const std::vector<Row> rows = {
      {"simple commands",
       in_clear,
       {"NOOP\r\nnoop "
        "\"STARTTLS-RESYNC-CAPA\"\r\nLISTSCRIPTS\r\nSTARTTLS\r\nAUTHENTICATE\r\nLOGOUT\r\nNOOP\r\n"},
       "OK \"NOOP completed.\"\r\nOK (TAG {20}\r\nSTARTTLS-RESYNC-CAPA) \"Done\"\r\n"
       "NO \"Command not allowed in this state.\"\r\nNO \"STARTTLS not available\"\r\nNO \"Missing "
       "mechanism\"\r\n"
       "OK \"Logout completed.\"\r\n<close quit>\n"},
      {"a tag with a quote comes back as it is meant",
       in_clear,
       {"NOOP \"a\\\"b\"\r\nNOOP \"\"\r\n"},
       "OK (TAG {3}\r\na\"b) \"Done\"\r\nOK (TAG {0}\r\n) \"Done\"\r\n"},
      {"a tag as a literal that asks, and one that does not",
       in_clear,
       {"NOOP {4}\r\nA\r\nB\r\nNOOP {1+}\r\nX\r\n"},
       "{4}\r\nOK (TAG {4}\r\nA\r\nB) \"Done\"\r\nOK (TAG {1}\r\nX) \"Done\"\r\n"},
      {"AUTHENTICATE at once", in_clear, {auth + "LISTSCRIPTS\r\n"}, route + "<left LISTSCRIPTS\r\n>\n"},
      {"AUTHENTICATE with literals",
       in_clear,
       {"AUTHENTICATE {5+}\r\nPLAIN {36+}\r\n" + alice + "\r\n"},
       route + "<left >\n"},
      {"AUTHENTICATE with literals that ask",
       in_clear,
       {"authenticate {5}\r\nplain {36}\r\n" + alice + "\r\n"},
       "{5}\r\n{36}\r\n" + route + "<left >\n"},
      {"an answer as a quoted string",
       in_clear,
       {begin + "\"" + alice + "\"\r\nX"},
       empty + route + "<left X>\n"},
      {"an answer as a literal",
       in_clear,
       {begin + "{36+}\r\n" + alice + "\r\nX"},
       empty + route + "<left X>\n"},
      {"an answer as a literal that gets no leave",
       in_clear,
       {begin + "{36}\r\n" + alice + "\r\nX"},
       empty + route + "<left X>\n"},
      {"an answer as a bare line", in_clear, {begin + alice + "\r\nX"}, empty + route + "<left X>\n"},
      {"white space in the base64 of an answer",
       in_clear,
       {begin + "AGFsaWNl QGV4YW1wbGU uY29tAHNlY3JldA==\n" + begin +
        "\"AGFsaWNl QGV4YW1wbGU uY29tAHNlY3JldA==\"\n"},
       empty + route + "<left " + begin + "\"AGFsaWNl QGV4YW1wbGU uY29tAHNlY3JldA==\"\n>\n"},
      {"LOGIN asks with literals",
       {.clear = true, .sasl = {"PLAIN", "LOGIN"}},
       {"AUTHENTICATE \"LOGIN\"\r\n\"YWxpY2VAZXhhbXBsZS5jb20=\"\r\n\"c2VjcmV0\"\r\n"},
       "{12}\r\nVXNlcm5hbWU6\r\n{12}\r\nUGFzc3dvcmQ6\r\n<route LOGIN PLAIN alice@example.com " + alice +
           ">\n<left >\n"},
      {"aborted, and other errors",
       {.clear = true, .failures = 9},
       {begin + "\"*\"\r\n" + begin + "*\r\n" + begin + "{1+}\r\n*\r\nAUTHENTICATE \"CRAM-MD5\"\r\n" +
        "AUTHENTICATE \"PLAIN\" \"!!!!\"\r\nAUTHENTICATE \"PLAIN\" \"bm9udWxoZXJl\"\r\nNOOP\r\n"},
       empty + "NO \"Authentication aborted\"\r\n" + empty + "NO \"Authentication aborted\"\r\n" + empty +
           "NO \"Authentication aborted\"\r\nNO \"Unsupported mechanism\"\r\nNO \"Invalid base64\"\r\n"
           "NO \"Malformed credentials\"\r\nOK \"NOOP completed.\"\r\n"},
      {"an answer that is no string ends the exchange, not the line behind it",
       {.clear = true, .failures = 9},
       {begin + "(\r\nNOOP\r\n" + begin + "\"abc\r\nNOOP\r\n" + begin + "\r\nNOOP\r\n" + begin +
        "{x}\r\nNOOP\r\n"},
       empty + "NO \"Invalid base64\"\r\nOK \"NOOP completed.\"\r\n" + empty +
           "NO \"Invalid base64\"\r\nOK \"NOOP completed.\"\r\n" + empty +
           "NO \"Malformed credentials\"\r\nOK \"NOOP completed.\"\r\n" + empty +
           "NO \"Invalid base64\"\r\nOK \"NOOP completed.\"\r\n"},
      {"an answer beyond all limits ends the connection",
       in_clear,
       {begin + "{65537+}\r\nx"},
       empty + "<close line length>\n"},
      {"and so does one whose length is no number",
       in_clear,
       {begin + "{999999999999}\r\nx"},
       empty + "<close line length>\n"},
      {"clear text refused is no failure",
       {.can_upgrade = true, .failures = 1},
       {auth + auth + begin + "NOOP\r\n"},
       "NO (ENCRYPT-NEEDED) \"Cleartext authentication requires TLS\"\r\n"
       "NO (ENCRYPT-NEEDED) \"Cleartext authentication requires TLS\"\r\n"
       "NO (ENCRYPT-NEEDED) \"Cleartext authentication requires TLS\"\r\nOK \"NOOP completed.\"\r\n"},
      {"clear text refused, without courtesy",
       {.can_upgrade = true, .courtesy = false},
       {auth},
       "NO \"Cleartext authentication requires TLS\"\r\n"},
      {"what cannot be read counts, and the rest of its line is dropped",
       {.clear = true, .failures = 1, .errors = 3},
       {"NO-OP NOOP\r\nNOOP \"x\r\nNOOP\r\nNOOP {70000+}\r\n"},
       "NO \"Invalid character '-' in command name.\"\r\nNO \"Unterminated quoted argument.\"\r\n"
       "OK \"NOOP completed.\"\r\nNO \"Literal exceeds the maximum request size of 65536 bytes.\"\r\n"
       "BYE \"Too many errors\"\r\n<close errors>\n"},
      {"a browser",
       in_clear,
       {"POST /?{5+} HTTP/1.1\r\nNOOP\r\n"},
       "NO \"Command not allowed in this state.\"\r\n<close errors>\n"},
      {"a browser whose address cannot be read",
       in_clear,
       {"GET /\"x HTTP/1.1\r\nNOOP\r\n"},
       "NO \"Command not allowed in this state.\"\r\n<close errors>\n"},
      {"a name that may not be looked up is a wrong password",
       in_clear,
       {"AUTHENTICATE \"PLAIN\" \"AGFsaWNlIHNtaXRoAHNlY3JldA==\"\r\nNOOP\r\n"},
       "NO \"Authentication failed.\"\r\nOK \"NOOP completed.\"\r\n"},
      {"a quote in a complaint becomes a space",
       in_clear,
       {"\"NOOP\"\r\n"},
       "NO \"Invalid character ' ' in command name.\"\r\n"},
      {"the limit of failures, without courtesy",
       {.courtesy = false, .clear = true, .failures = 1},
       {"AUTHENTICATE \"FROB\"\r\nNOOP\r\n"},
       "NO \"Unsupported mechanism\"\r\n<close failures>\n"},
      {"a rejection counts, and what is pipelined is for the dialogue",
       {.clear = true,
        .failures = 2,
        .answers = {{"NO {17}\r\naccount 42 frozen\r\n"}, {"NO \"x\"\r\n", true}}},
       {auth + "LISTSCRIPTS\r\n" + auth},
       route + "NO {17}\r\naccount 42 frozen\r\nNO \"Command not allowed in this state.\"\r\n" + route +
           "NO \"Authentication failed.\"\r\nBYE \"Too many authentication failures\"\r\n<close failures>\n"},
      {"no backend, courteously",
       {.clear = true, .answers = {{}}},
       {auth},
       route + "NO (TRYLATER) \"backend unavailable\"\r\n<unavailable>\n"},
      {"no backend, without courtesy",
       {.courtesy = false, .clear = true, .answers = {{}}},
       {auth},
       route + "NO \"backend unavailable\"\r\n<unavailable>\n"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.title);
    CHECK(talk(row.setting, row.client) == (row.setting.can_upgrade ? block("OAUTHBEARER XOAUTH2", true)
                                            : row.setting.sasl.size() == 2 ? block("PLAIN LOGIN")
                                                                           : block(all)) +
                                               row.answer);
  }
}

TEST_CASE("ManageSieve attempts that end at the door are reported, once each") {
  Refusals refusals;
  talk(before_tls, {begin + "AUTHENTICATE \"FROB\"\r\nAUTHENTICATE\r\n"}, {}, &refusals);
  CHECK(refusals.log == "PLAIN:privacy :malformed ");
  refusals.log.clear();
  talk(in_clear, {begin + "(\r\n" + begin + "*\r\n"}, {}, &refusals);
  CHECK(refusals.log == "PLAIN:malformed ");
}

TEST_CASE("an answer to a ManageSieve challenge may have 65536 bytes, and one more is too many") {
  const std::string longest(65536, 'A');
  const std::string begun = block(all) + empty;
  for (const test::Pieces pieces : {test::at_once, test::Pieces{1, 7}, test::Pieces{65536, 1}}) {
    CHECK(talk(in_clear, {begin + longest + "\r\n"}, pieces) == begun + "NO \"Malformed credentials\"\r\n");
    CHECK(talk(in_clear, {begin + longest + "A\r\n"}, pieces) == begun + "<close line length>\n");
    CHECK(talk(in_clear, {begin + "\"" + longest + "A\"\r\n"}, pieces) == begun + "<close line length>\n");
    CHECK(talk(in_clear, {begin + "{65536+}\r\n" + longest + "\r\n"}, pieces) ==
          begun + "NO \"Malformed credentials\"\r\n");
  }
}

TEST_CASE("ManageSieve answers a thousand commands, and closes at the next") {
  std::string client, answer = block(all);
  for (int i = 0; i < 1000; ++i) client += "NOOP\r\n", answer += "OK \"NOOP completed.\"\r\n";
  for (const test::Pieces pieces : {test::at_once, test::byte_by_byte}) {
    CHECK(talk(in_clear, {client}, pieces) == answer);
    CHECK(talk(in_clear, {client + "NOOP\r\n"}, pieces) == answer + "<close commands>\n");
  }
}

TEST_CASE("ManageSieve says goodbye at a time-out and a shutdown, where courtesy is asked for") {
  for (const bool courtesy : {true, false}) {
    Talker talker({.courtesy = courtesy});
    std::string out;
    talker.dialogue.farewell(Farewell::timeout, out);
    talker.dialogue.farewell(Farewell::shutdown, out);
    CHECK(out ==
          (courtesy ? "BYE \"Connection timed out\"\r\nBYE (TRYLATER) \"Server shutting down\"\r\n" : ""));
  }
}
