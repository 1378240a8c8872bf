// SPDX-License-Identifier: GPL-3.0-or-later
// A POP3 backend that says anything: the same course however its bytes arrive, credentials only where they
// may go, one whole line for a verdict, and no line of ours that the backend or the password has made.
#include "protocols/pop3/replay.hpp"

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
Login login_of(uint8_t settings) {
  Login login = fuzz::some_login(settings >> 5);
  login.utf8 = (settings & 16) != 0;
  return login;
}

std::string run(uint8_t settings, const test::Stages& stages, test::Pieces pieces) {
  const ReplayRules rules = rules_of(settings);
  const Login login = login_of(settings);
  Pop3Replay replay(rules, login);
  std::string log = test::converse(replay, stages, pieces);
  const std::string_view said = replay.said();
  require(said.empty() || said.find('\n') == said.size() - 1, "a verdict of several lines");
  require(said.empty() || said.ends_with("\r\n"), "a verdict without end");
  return log;
}

void check_commands(std::string_view log, const std::string& message) {
  constexpr std::array<std::string_view, 13> commands = {
      "CAPA\r", "STLS\r",       "UTF8\r", "XCLIENT ADDR=0.0.0.0 PORT=0 ",
      "AUTH ",  "USER alice\r", "PASS s", "*\r",
      "AQ==\r", "YWxpY2U=\r",   "czNj",   "c3Nz",
      "<"};
  while (!log.empty()) {
    require(log.starts_with(message) ||
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
  const Login login = login_of(data[0]);
  fuzz::check_replay(log, login, rules.tls != conf::TlsMode::plain || rules.allow_plaintext);
  check_commands(log, base64(login.message.reveal()));
  return 0;
}
