// SPDX-License-Identifier: GPL-3.0-or-later
// A ManageSieve client that says anything: the same answers however its bytes arrive, in responses that can
// be read, and no login that could not be sent on.
#include "protocols/managesieve/dialogue.hpp"

#include <charconv>

#include "test/fuzz/talk_fuzz.hpp"

using namespace postern;
using namespace postern::protocols;
using fuzz::require;

namespace {

std::string run(uint8_t settings, const test::Stages& stages, test::Pieces pieces) {
  conf::CapabilitiesConf capabilities;
  capabilities.implementation = "x";
  capabilities.sieve = {"fileinto"};
  capabilities.sasl = {"PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2"};
  capabilities.allow_plain_auth_without_tls = (settings & 1) != 0;
  DialogueRules rules;
  rules.capabilities = &capabilities;
  rules.can_upgrade = (settings & 2) != 0;
  rules.courtesy = (settings & 4) != 0;
  rules.max_failures = 1U + (settings >> 5);
  ManageSieveDialogue dialogue(rules, (settings & 8) != 0, nullptr);
  return test::converse(dialogue, stages, pieces, {{"NO \"a\"\r\n", (settings & 16) != 0}, {"BYE\r\n"}},
                        [&](const Login& login) { fuzz::check_login(login, (settings & 11) != 0); });
}

/// What the client hears up to the first login: lines, with a literal only where its tag comes back.
void check_answers(std::string_view log) {
  constexpr std::array<std::string_view, 6> lines = {"OK ", "NO ", "BYE ", "\"", "{", "<"};
  while (!log.empty()) {
    if (log.starts_with("<route ") || log.starts_with("<left ")) return;
    const size_t end = log.find('\n');
    require(end != std::string_view::npos, "a line without end");
    std::string_view line = log.substr(0, end);
    log.remove_prefix(end + 1);
    if (line.starts_with('<')) continue;
    require(line.ends_with('\r'), "a line feed alone");
    line.remove_suffix(1);
    constexpr std::string_view tag = "OK (TAG {";
    if (line.starts_with(tag)) {
      size_t size = 0;
      const auto [stop, error] = std::from_chars(line.data() + tag.size(), line.data() + line.size(), size);
      require(error == std::errc() && stop + 1 == line.data() + line.size() && *stop == '}', "no literal");
      require(size <= log.size() && log.substr(size).starts_with(") \"Done\"\r\n"),
              "a tag of another length");
      log.remove_prefix(size + std::string_view(") \"Done\"\r\n").size());
    } else if (!line.empty() && line != "VXNlcm5hbWU6" && line != "UGFzc3dvcmQ6") {  // of a challenge
      require(std::ranges::any_of(lines, [&](std::string_view begin) { return line.starts_with(begin); }),
              "no answer of ours");
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  check_answers(fuzz::however_split(data, size, run));
  return 0;
}
