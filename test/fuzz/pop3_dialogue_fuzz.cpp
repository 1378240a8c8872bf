// SPDX-License-Identifier: GPL-3.0-or-later
// A POP3 client that says anything: the same answers however its bytes arrive, nothing that is no answer, and
// no login that could not be sent on.
#include "protocols/pop3/dialogue.hpp"

#include "test/fuzz/talk_fuzz.hpp"

using namespace postern;
using namespace postern::protocols;
using fuzz::require;

namespace {

std::string run(uint8_t settings, const test::Stages& stages, test::Pieces pieces) {
  conf::CapabilitiesConf capabilities;
  capabilities.banner = "ready";
  capabilities.sasl = {"PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2"};
  capabilities.allow_plain_auth_without_tls = (settings & 1) != 0;
  DialogueRules rules;
  rules.capabilities = &capabilities;
  rules.can_upgrade = (settings & 2) != 0;
  rules.courtesy = (settings & 4) != 0;
  rules.max_failures = 1U + (settings >> 5);
  Pop3Dialogue dialogue(rules, (settings & 8) != 0, nullptr);
  return test::converse(dialogue, stages, pieces, {{"-ERR a\r\n", (settings & 16) != 0}, {"-ERR b\r\n"}},
                        [&](const Login& login) { fuzz::check_login(login, (settings & 11) != 0); });
}

/// Of the log, what the client hears: one answer a line, or a line of a list.
void check_answers(std::string_view log) {
  constexpr std::array<std::string_view, 19> lines = {
      "+OK", "-ERR",       "+ ",          "<",       "USER",         "SASL",           "STLS",
      "TOP", "RESP-CODES", "PIPELINING",  "UIDL",    "EXPIRE NEVER", "IMPLEMENTATION", "UTF8",
      ".",   "PLAIN",      "OAUTHBEARER", "XOAUTH2", "LOGIN"};
  while (!log.empty()) {
    if (log.starts_with("<route ") || log.starts_with("<left ")) return;  // what follows is the client's
    const size_t end = log.find('\n');
    require(end != std::string_view::npos, "a line without end");
    require(log.starts_with('<') || log.substr(0, end).ends_with('\r'), "a line feed alone");
    require(std::ranges::any_of(lines, [&](std::string_view line) { return log.starts_with(line); }),
            "no answer of ours");
    log.remove_prefix(end + 1);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  check_answers(fuzz::however_split(data, size, run));
  return 0;
}
