// SPDX-License-Identifier: GPL-3.0-or-later
// Submission with a client, word for word, however its bytes arrive.
#include "protocols/submission/dialogue.hpp"

#include <doctest/doctest.h>

#include "test/talk.hpp"

using namespace postern;
using namespace postern::protocols;
using test::Stages;

namespace {

struct Setting {
  bool encrypted = false, can_upgrade = false, courtesy = true, clear = false, offer_login = true;
  std::vector<std::string> sasl = {"PLAIN", "OAUTHBEARER", "XOAUTH2"};
  std::vector<std::string> ehlo = {"PIPELINING", "SIZE"};
  uint32_t failures = 3, errors = 20;
  std::vector<test::Answer> answers = {};
};
const Setting on_tls{.encrypted = true}, before_tls{.can_upgrade = true}, in_clear{.clear = true};

std::string talk(const Setting& setting, const Stages& stages, test::Pieces pieces,
                 std::string* helo = nullptr) {
  conf::CapabilitiesConf capabilities;
  capabilities.sasl = setting.sasl;
  capabilities.ehlo = setting.ehlo;
  capabilities.allow_plain_auth_without_tls = setting.clear;
  capabilities.advertise_login = setting.offer_login;
  DialogueRules rules;
  rules.capabilities = &capabilities;
  rules.hostname = "mail.example.com";
  rules.can_upgrade = setting.can_upgrade;
  rules.courtesy = setting.courtesy;
  rules.max_failures = setting.failures;
  rules.max_errors = setting.errors;
  SubmissionDialogue dialogue(rules, setting.encrypted, nullptr);
  return test::converse(dialogue, stages, pieces, setting.answers, [&](const Login& login) {
    if (helo) *helo = login.helo;
  });
}
std::string talk(const Setting& setting, const Stages& stages) {
  return test::however_split(stages, [&](test::Pieces pieces) { return talk(setting, stages, pieces); });
}

const std::string greeting = "220 mail.example.com ESMTP ready\r\n";
const std::string hello = "250-mail.example.com at your service, [c.example]\r\n250-PIPELINING\r\n";
const std::string ok = "250 2.0.0 OK\r\n", syntax = "500 5.5.2 Syntax error\r\n";
const std::string not_now = "503 5.5.1 Command not allowed here\r\n";
const std::string no_tls = "503 5.5.1 STARTTLS not available\r\n";
const std::string needs_tls = "538 5.7.11 Encryption required for requested authentication mechanism\r\n";
const std::string no_mechanism = "504 5.5.4 Unsupported authentication mechanism\r\n";
const std::string bad_base64 = "535 5.7.8 Invalid base64\r\n",
                  malformed = "535 5.7.8 Malformed credentials\r\n";
const std::string too_many = "421 4.7.0 Too many authentication failures\r\n<close failures>\n";
const std::string enough = "421 4.7.0 Too many errors\r\n<close errors>\n";
const std::string alice = "AGFsaWNlQGV4YW1wbGUuY29tAHNlY3JldA==";
const std::string alice_routed = "<route PLAIN PLAIN alice@example.com " + alice + ">\n";

}  // namespace

TEST_CASE("submission answers every command as the protocol's book has it") {
  struct Row {
    const char* title;
    Setting setting;
    Stages client;
    std::string answer;  // behind the greeting
  };
  const std::vector<Row> rows = {
      {"EHLO on TLS",
       on_tls,
       {"EHLO c.example\r\n"},
       hello + "250-SIZE\r\n250 AUTH PLAIN OAUTHBEARER XOAUTH2\r\n"},
      {"EHLO before STARTTLS",
       before_tls,
       {"ehlo c.example\r\n"},
       hello + "250-SIZE\r\n250-STARTTLS\r\n250 AUTH OAUTHBEARER XOAUTH2\r\n"},
      {"LHLO is EHLO, a bare LF ends a line, what follows the name is nothing",
       on_tls,
       {"LHLO  c.example and more\n"},
       hello + "250-SIZE\r\n250 AUTH PLAIN OAUTHBEARER XOAUTH2\r\n"},
      {"no mechanism leaves no AUTH line",
       {.encrypted = true, .sasl = {}},
       {"EHLO c.example\r\n"},
       hello + "250 SIZE\r\n"},
      {"nothing but the name",
       {.encrypted = true, .sasl = {}, .ehlo = {}},
       {"EHLO c\r\n"},
       "250 mail.example.com at your service, [c]\r\n"},
      {"LOGIN where it must not be shown",
       {.encrypted = true, .offer_login = false, .sasl = {"LOGIN", "PLAIN"}, .ehlo = {}},
       {"EHLO c\r\n"},
       "250-mail.example.com at your service, [c]\r\n250 AUTH PLAIN\r\n"},
      {"LOGIN where it is listed",
       {.encrypted = true, .sasl = {"LOGIN", "PLAIN"}, .ehlo = {}},
       {"EHLO c\r\n"},
       "250-mail.example.com at your service, [c]\r\n250 AUTH LOGIN PLAIN\r\n"},
      {"HELO", on_tls, {"HELO c\r\n"}, "250 mail.example.com\r\n"},
      {"small talk", on_tls, {"NOOP\r\nnoop x y\r\nRSET\r\n"}, ok + ok + ok},
      {"QUIT ends it, what follows is nothing",
       on_tls,
       {"QUIT\r\nNOOP\r\n"},
       "221 2.0.0 Bye\r\n<close quit>\n"},
      {"mail needs a login and costs no failure",
       {.encrypted = true, .failures = 1},
       {"MAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nDATA\r\nBDAT 3 LAST\r\nVRFY a\r\nEXPN a\r\nHELP\r\nETRN a\r\n"
        "ATRN\r\nBURL x\r\n"},
       not_now + not_now + not_now + not_now + not_now + not_now + not_now + not_now + not_now + not_now},
      {"errors have a limit of their own",
       {.encrypted = true, .failures = 1, .errors = 5},
       {"FROB\r\nEHLO\r\nAUTH \r\nNOOP\r\nMAIL\r\nSTARTTLS\r\n"},
       syntax + syntax + syntax + ok + not_now + no_tls + enough},
      {"a browser", on_tls, {"OPTIONS / HTTP/1.1\r\nNOOP\r\n"}, syntax + "<close errors>\n"},
      {"a name that may not be looked up is a wrong password",
       {.encrypted = true, .failures = 2},
       {"AUTH PLAIN AGFsaWNlIHNtaXRoAHNlY3JldA==\r\nNOOP\r\nAUTH PLAIN AGEiYgBzZWNyZXQ=\r\n"},
       "535 5.7.8 Authentication failed.\r\n" + ok + "535 5.7.8 Authentication failed.\r\n" + too_many},
      {"names that are none",
       {.encrypted = true, .failures = 9},
       {std::string("EHLO a\tb\r\nHELO\r\nNOOP \0\r\nEHLO ", 30) + std::string(256, 'a') + "\r\n\r\n"},
       syntax + syntax + syntax + syntax + syntax},
      {"without courtesy the last error is followed by silence",
       {.encrypted = true, .courtesy = false, .errors = 1},
       {"FROB\r\nNOOP\r\n"},
       syntax + "<close errors>\n"},
      {"and so is the last failure",
       {.encrypted = true, .courtesy = false, .failures = 1},
       {"AUTH FROB\r\nNOOP\r\n"},
       no_mechanism + "<close failures>\n"},
      {"no STARTTLS on a plain listener", in_clear, {"STARTTLS\r\n"}, no_tls},
  };
  for (const Row& row : rows) {
    CAPTURE(row.title);
    CHECK(talk(row.setting, row.client) == greeting + row.answer);
  }
}

TEST_CASE("an upgrade forgets what was said in clear") {
  CHECK(talk(before_tls, {"EHLO c.example\r\nSTARTTLS\r\nFROBNICATE\r\n", "NOOP\r\nSTARTTLS\r\n"}) ==
        greeting + hello +
            "250-SIZE\r\n250-STARTTLS\r\n250 AUTH OAUTHBEARER XOAUTH2\r\n"
            "220 2.0.0 Ready to start TLS\r\n<tls>\n" +
            ok + no_tls);
  std::string helo = "?";
  talk(before_tls, {"EHLO c.example\r\nSTARTTLS\r\n", "AUTH PLAIN " + alice + "\r\n"}, test::at_once, &helo);
  CHECK(helo.empty());
  talk(before_tls, {"STARTTLS\r\n", "EHLO a\r\nHELO b\r\nAUTH PLAIN " + alice + "\r\n"}, test::at_once,
       &helo);
  CHECK(helo == "b");
  CHECK(talk({.can_upgrade = true, .errors = 2}, {"FROB\r\nSTARTTLS\r\n", "FROB\r\n"}) ==
        greeting + syntax + "220 2.0.0 Ready to start TLS\r\n<tls>\n" + syntax + enough);
}

TEST_CASE("AUTH in every form, right and wrong") {
  struct Row {
    const char* title;
    Setting setting;
    std::string client, answer;
  };
  const Setting patient{.encrypted = true, .failures = 9};
  const Setting with_login{.encrypted = true, .sasl = {"PLAIN", "LOGIN"}, .failures = 9};
  const std::string login_routed = "<route LOGIN PLAIN alice@example.com " + alice + ">\n<left >\n";
  const std::string oauth = "dXNlcj1kYXZlQGV4YW1wbGUuY29tAWF1dGg9QmVhcmVyIHRvay0yAQE=";
  const std::vector<Row> rows = {
      {"with its response", on_tls, "auth plain " + alice + "\r\nMAIL\r\n",
       alice_routed + "<left MAIL\r\n>\n"},
      {"asked for it", on_tls, "AUTH PLAIN\r\n" + alice + "\r\n", "334 \r\n" + alice_routed + "<left >\n"},
      {"bearer tokens need no TLS", before_tls, "AUTH XOAUTH2 " + oauth + "\r\n",
       "<route XOAUTH2 XOAUTH2 dave@example.com " + oauth + ">\n<left >\n"},
      {"LOGIN with the name", with_login, "AUTH LOGIN YWxpY2VAZXhhbXBsZS5jb20=\r\nc2VjcmV0\r\n",
       "334 UGFzc3dvcmQ6\r\n" + login_routed},
      {"LOGIN without", with_login, "AUTH LOGIN\r\nYWxpY2VAZXhhbXBsZS5jb20=\r\nc2VjcmV0\r\n",
       "334 VXNlcm5hbWU6\r\n334 UGFzc3dvcmQ6\r\n" + login_routed},
      {"LOGIN without a password", with_login, "AUTH LOGIN YQ==\r\n\r\nNOOP\r\n",
       "334 UGFzc3dvcmQ6\r\n" + malformed + ok},
      {"errors", patient,
       "AUTH CRAM-MD5\r\nAUTH LOGIN\r\nAUTH PLAIN !!!!\r\nAUTH PLAIN =\r\nAUTH PLAIN\r\n*\r\nAUTH\r\n",
       no_mechanism + no_mechanism + bad_base64 + malformed + "334 \r\n501 5.7.0 Authentication aborted\r\n" +
           syntax},
      {"an answer is no command", patient, "AUTH PLAIN\r\nQUIT!\r\nNOOP\r\n", "334 \r\n" + bad_base64 + ok},
      {"clear text is refused and costs nothing",
       {.can_upgrade = true, .failures = 1},
       "AUTH PLAIN " + alice + "\r\nAUTH PLAIN\r\nNOOP\r\n",
       needs_tls + needs_tls + ok},
      {"failures end it", on_tls, "AUTH X\r\nAUTH PLAIN !\r\nAUTH PLAIN YQ==\r\nNOOP\r\n",
       no_mechanism + bad_base64 + malformed + too_many},
      {"a rejected login is a failure among others",
       {.encrypted = true, .failures = 2, .answers = {{"535-no\r\n535 never\r\n"}, {"535 no\r\n", true}}},
       "AUTH PLAIN " + alice + "\r\nNOOP\r\nAUTH PLAIN " + alice + "\r\nNOOP\r\n",
       alice_routed + "535-no\r\n535 never\r\n" + ok + alice_routed + "535 5.7.8 Authentication failed.\r\n" +
           too_many},
      {"no backend",
       {.encrypted = true, .answers = {{}}},
       "AUTH PLAIN " + alice + "\r\n",
       alice_routed + "421 4.3.0 backend unavailable\r\n<unavailable>\n"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.title);
    CHECK(talk(row.setting, {row.client}) == greeting + row.answer);
  }
}

TEST_CASE("a submission client has so many commands and so long a line") {
  std::string many, answers;
  for (unsigned i = 0; i <= LoginDialogue::max_commands; ++i) many += "NOOP\r\n";
  for (unsigned i = 0; i < LoginDialogue::max_commands; ++i) answers += ok;
  for (const test::Pieces pieces : {test::at_once, test::byte_by_byte})
    CHECK(talk(on_tls, {many}, pieces) == greeting + answers + "<close commands>\n");

  const std::string longest = "NOOP " + std::string(LoginDialogue::longest_line - 5, 'x');
  for (const test::Pieces pieces : {test::at_once, test::Pieces{1000, 1000}}) {
    CHECK(talk(on_tls, {longest + "\r\n"}, pieces) == greeting + ok);
    CHECK(talk(on_tls, {longest + "x\r\n"}, pieces) == greeting + "<close line length>\n");
    CHECK(talk(on_tls, {longest + "xyz"}, pieces) == greeting + "<close line length>\n");
  }
}

TEST_CASE("what submission says when a connection ends for other reasons") {
  conf::CapabilitiesConf capabilities;
  for (const bool courtesy : {true, false}) {
    DialogueRules rules;
    rules.capabilities = &capabilities;
    rules.courtesy = courtesy;
    SubmissionDialogue dialogue(rules, true, nullptr);
    std::string out;
    dialogue.farewell(Farewell::timeout, out);
    dialogue.farewell(Farewell::shutdown, out);
    CHECK(out == (courtesy ? "421 4.4.2 Connection timed out\r\n421 4.3.2 Server shutting down\r\n" : ""));
  }
}

TEST_CASE("a submission listener's greeting replaces the banner") {
  conf::CapabilitiesConf capabilities;
  DialogueRules rules;
  rules.capabilities = &capabilities;
  rules.hostname = "127.0.0.1";
  rules.greeting = "Edge ready.";
  std::string out;
  SubmissionDialogue(rules, true, nullptr).greet(out);
  CHECK(out == "220 127.0.0.1 ESMTP Edge ready.\r\n");
}
