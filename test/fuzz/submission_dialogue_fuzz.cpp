// SPDX-License-Identifier: GPL-3.0-or-later
// A submission client that says anything: the same answers however its bytes arrive, whole lines with a code,
// and no login that a backend could not be sent. Input: settings, the place of a cut, then what the client
// says; a byte 0x1e starts what it says inside TLS.
#include "protocols/submission/dialogue.hpp"

#include "test/fuzz/require.hpp"
#include "test/talk.hpp"

using namespace postern;
using namespace postern::protocols;
using fuzz::require;

namespace {

std::string run(uint8_t settings, const test::Stages& stages, test::Pieces pieces) {
  conf::CapabilitiesConf capabilities;
  capabilities.banner = "ready";
  capabilities.sasl = {"PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2"};
  capabilities.ehlo = {"PIPELINING"};
  capabilities.allow_plain_auth_without_tls = (settings & 1) != 0;
  DialogueRules rules;
  rules.capabilities = &capabilities;
  rules.hostname = "mail.example.com";
  rules.can_upgrade = (settings & 2) != 0;
  rules.courtesy = (settings & 4) != 0;
  rules.max_failures = 1 + (settings >> 5);
  SubmissionDialogue dialogue(rules, (settings & 8) != 0, nullptr);
  return test::converse(dialogue, stages, pieces,
                        {{"535-a\r\n535 b\r\n", (settings & 16) != 0}, {"454 c\r\n"}},
                        [](const Login& login) {
                          require(!login.message.empty(), "a login without a message");
                          require(login.helo.find_first_of(std::string("\0\r\n ", 4)) == std::string::npos,
                                  "a name of two lines");
                        });
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
  require(whole.starts_with("220 "), "no greeting");
  return 0;
}
