// SPDX-License-Identifier: GPL-3.0-or-later
// An IMAP backend that says anything: the same course however its bytes arrive, credentials only where they
// may go, bounded words for the client, and no line of ours that the backend, the password or the client's ID
// has made.
#include "protocols/imap/replay.hpp"

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
  login.tag = "c7";
  if ((settings & 16) != 0) login.id = {{"name", "\"x\\"}, {"os", "\r\nc7 LOGOUT"}, {"x-session-id", "P2"}};
  return login;
}

std::string run(uint8_t settings, const test::Stages& stages, test::Pieces pieces) {
  const ReplayRules rules = rules_of(settings);
  const Login login = login_of(settings);
  ImapReplay replay(rules, login);
  std::string log = test::converse(replay, stages, pieces);
  const std::string_view said = replay.said();
  require(said.empty() || said.ends_with("\r\n"), "words without end");
  require(std::ranges::count(said, '\n') <= Replay::most_auth_lines, "too many words");
  return log;
}

void check_commands(std::string_view log, const std::string& message) {
  constexpr std::array<std::string_view, 16> commands = {
      "P1 STARTTLS\r",
      "P2 CAPABILITY\r",
      "F1 ID (\"x-originating-ip\" ",
      "F1 ID (\"name\" \"\\\"x\\\\\")\r",
      "c7 AUTHENTICATE LOGIN\r",
      "c7 AUTHENTICATE PLAIN",
      "c7 AUTHENTICATE OAUTHBEARER",
      "c7 LOGIN \"alice\" \"s",
      "c7 LOGIN \"alice\" {8}\r",
      "c7 LOGIN \"alice\" {8+}\r",
      "*\r",
      "AQ==\r",
      "YWxpY2U=\r",
      "czNj",
      "c3Nz",
      "<",
  };
  while (!log.empty()) {
    const std::string_view line = log.substr(0, log.find('\n'));
    require(log.starts_with(message) ||
                std::ranges::any_of(commands, [&](std::string_view begin) { return log.starts_with(begin); }),
            "no command of ours");
    if (log.starts_with("<accepted>") || log.starts_with("<rejected>")) return;
    log.remove_prefix(std::min(line.size() + 1, log.size()));
    if (!line.ends_with("{8}\r") && !line.ends_with("{8+}\r")) continue;
    constexpr std::string_view literal = "s3c\r\nret\r\n";
    if (log.starts_with(literal))
      log.remove_prefix(literal.size());
    else
      require(log.empty() || log.starts_with('<'), "an announced literal that does not come");
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
