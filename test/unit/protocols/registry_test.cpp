// SPDX-License-Identifier: GPL-3.0-or-later
// The registry agrees with the configuration's words.
#include "protocols/registry.hpp"

#include <doctest/doctest.h>

using namespace postern;

TEST_CASE("every protocol has a row with its own name and ALPN names") {
  for (size_t i = 0; i < conf::protocol_count; ++i) {
    const auto protocol = static_cast<conf::Protocol>(i);
    const auto& row = protocols::row(protocol);
    CHECK(row.protocol == protocol);
    CHECK(row.name == conf::name(protocol));
    CHECK(protocols::alpn_names(protocol).size() == row.alpn.size());
    CHECK(row.server_speaks_first == (protocol != conf::Protocol::http));
  }
}

TEST_CASE("a submission listener also answers to smtp, the others only to their own name") {
  CHECK(protocols::alpn_names(conf::Protocol::submission) == std::vector<std::string>{"submission", "smtp"});
  CHECK(protocols::alpn_names(conf::Protocol::http) == std::vector<std::string>{"http/1.1"});
  for (const auto protocol : {conf::Protocol::imap, conf::Protocol::pop3, conf::Protocol::managesieve,
                              conf::Protocol::smtp, conf::Protocol::lmtp})
    CHECK(protocols::alpn_names(protocol) == std::vector<std::string>{std::string(conf::name(protocol))});
}

TEST_CASE("an account that nobody can locate now is a temporary failure, and submission says whose") {
  struct Row {
    conf::Protocol protocol;
    const char* with_codes;
    const char* without;
  };
  using enum conf::Protocol;
  for (const Row& row : {
           Row{imap, "NO [UNAVAILABLE] ", "NO [UNAVAILABLE] "},
           Row{pop3, "-ERR [SYS/TEMP] ", "-ERR backend"},
           Row{managesieve, "NO (TRYLATER) ", "NO \""},
           Row{submission, "454 4.7.0 ", "454 4.7.0 "},
       })
    for (const bool courtesy : {true, false}) {
      const conf::CapabilitiesConf capabilities;
      protocols::DialogueRules rules;
      rules.capabilities = &capabilities;
      rules.courtesy = courtesy;
      const auto dialogue = protocols::row(row.protocol).dialogue(rules, true, nullptr);
      std::string words;
      dialogue->account_unknown_now(words);
      CAPTURE(words);
      CHECK(words.find(courtesy ? row.with_codes : row.without) != std::string::npos);
      CHECK(words.ends_with("\r\n"));
    }
}

TEST_CASE("a login without an answer is a temporary failure in the protocol's own words, and counts") {
  for (const auto protocol : {conf::Protocol::imap, conf::Protocol::pop3, conf::Protocol::managesieve,
                              conf::Protocol::submission}) {
    const conf::CapabilitiesConf capabilities;
    protocols::DialogueRules rules;
    rules.capabilities = &capabilities;
    rules.max_failures = 3;
    const auto dialogue = protocols::row(protocol).dialogue(rules, true, nullptr);
    std::string words;
    dialogue->unavailable(words);
    for (unsigned i = 1; i <= rules.max_failures; ++i) {
      std::string out;
      const protocols::Step step = dialogue->unanswered(out);
      CHECK(step.want == (i < rules.max_failures ? protocols::Want::input : protocols::Want::close));
      CHECK(out.starts_with(words));
    }
  }
}
