// SPDX-License-Identifier: GPL-3.0-or-later
// An IMAP client that says anything: the same answers however its bytes arrive, every one a whole line with a
// tag that was sent, and no login that could not be sent on.
#include "protocols/imap/dialogue.hpp"

#include "protocols/text.hpp"
#include "test/fuzz/talk_fuzz.hpp"

using namespace postern;
using namespace postern::protocols;
using fuzz::require;

namespace {

std::string run(uint8_t settings, const test::Stages& stages, test::Pieces pieces) {
  conf::CapabilitiesConf capabilities;
  capabilities.banner = "ready";
  capabilities.sasl = {"PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2"};
  capabilities.advertise = {"IMAP4rev1"};
  capabilities.allow_plain_auth_without_tls = (settings & 1) != 0;
  DialogueRules rules;
  rules.capabilities = &capabilities;
  rules.can_upgrade = (settings & 2) != 0;
  rules.courtesy = (settings & 4) != 0;
  rules.max_failures = 1U + (settings >> 5);
  ImapDialogue dialogue(rules, (settings & 8) != 0, nullptr);
  return test::converse(dialogue, stages, pieces, {{"a NO a\r\n", (settings & 16) != 0}, {"a NO b\r\n"}},
                        [&](const Login& login) {
                          fuzz::check_login(login, (settings & 11) != 0);
                          require(is_tag(login.tag), "a login without a tag");
                          require(login.id.size() <= 30, "more in ID than may be");
                          for (const auto& [field, value] : login.id)
                            require(field.size() <= 30 && value.size() <= 1024, "too long for ID");
                        });
}

void check_answers(std::string_view log) {
  constexpr std::array<std::string_view, 3> verdicts = {"OK ", "NO ", "BAD "};
  while (!log.empty()) {
    if (log.starts_with("<route ") || log.starts_with("<left ")) return;  // what follows is the client's
    const size_t end = log.find('\n');
    require(end != std::string_view::npos, "a line without end");
    std::string_view line = log.substr(0, end);
    log.remove_prefix(end + 1);
    // A tag may begin with "<" as well.
    if (line.starts_with('<') && line.ends_with('>')) continue;
    require(line.ends_with('\r'), "a line feed alone");
    line.remove_suffix(1);
    require(std::ranges::none_of(line, is_control), "a control in an answer");
    if (line.starts_with("+ ") || line.starts_with("* ")) continue;
    const size_t space = std::min(line.find(' '), line.size());
    require(is_tag(line.substr(0, space)), "an answer without a tag");
    line.remove_prefix(std::min(space + 1, line.size()));
    require(std::ranges::any_of(verdicts, [&](std::string_view begin) { return line.starts_with(begin); }),
            "no answer of ours");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  check_answers(fuzz::however_split(data, size, run));
  return 0;
}
