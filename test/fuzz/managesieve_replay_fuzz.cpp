// SPDX-License-Identifier: GPL-3.0-or-later
// A ManageSieve backend that says anything: the same course however its bytes arrive, credentials only where
// they may go, bounded memory, and no line of ours that the backend has made.
#include "protocols/managesieve/replay.hpp"

#include "test/fuzz/talk_fuzz.hpp"

using namespace postern;
using namespace postern::protocols;
using fuzz::require;

namespace {

ReplayRules rules_of(uint8_t settings) {
  ReplayRules rules;
  rules.tls = static_cast<conf::TlsMode>((settings & 3) % 3);
  rules.allow_plaintext = (settings & 4) != 0;
  rules.forward = (settings & 8) != 0;
  rules.client.session = "P1";
  return rules;
}

std::string run(uint8_t settings, const test::Stages& stages, test::Pieces pieces) {
  const ReplayRules rules = rules_of(settings);
  const Login login = fuzz::some_login(settings >> 5);
  ManageSieveReplay replay(rules, login);
  std::string log = test::converse(replay, stages, pieces);
  const std::string_view said = replay.said();
  require(said.empty() || said.ends_with("\r\n"), "a verdict without end");
  require(said.size() <= ManageSieveReplay::longest_response, "more than is kept");
  return log;
}

void check_commands(std::string_view log, const std::string& message) {
  constexpr std::array<std::string_view, 11> commands = {"STARTTLS\r",
                                                         "XCLIENT ADDR=0.0.0.0 PORT=0 ",
                                                         "AUTHENTICATE \"",
                                                         "\"*\"\r",
                                                         "\"AQ==\"\r",
                                                         "\"YWxpY2U=\"\r",
                                                         "\"czNj",
                                                         "{",
                                                         "c3Nz",
                                                         "<",
                                                         "AGFs"};
  while (!log.empty()) {
    require(log.starts_with('"' + message + '"') ||
                std::ranges::any_of(commands, [&](std::string_view begin) { return log.starts_with(begin); }),
            "no command of ours");
    if (log.starts_with("<accepted>") || log.starts_with("<rejected>")) return;
    log.remove_prefix(std::min(log.find('\n'), log.size() - 1) + 1);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string log = fuzz::however_split(data, size, run);
  if (size < 2) return 0;
  const ReplayRules rules = rules_of(data[0]);
  const Login login = fuzz::some_login(data[0] >> 5);
  fuzz::check_replay(log, login, rules.tls != conf::TlsMode::plain || rules.allow_plaintext);
  check_commands(log, base64(login.message.reveal()));
  return 0;
}
