// SPDX-License-Identifier: GPL-3.0-or-later
// Every exchange, line by line.
#include "protocols/sasl.hpp"

#include <doctest/doctest.h>

#include "protocols/base64.hpp"

using namespace postern;
using namespace postern::protocols;
using Next = SaslExchange::Next;

namespace {

/// `initial`, then the answers as long as one is asked for: what was said on the way, and how it ended.
std::string run(Mechanism mechanism, std::optional<std::string_view> initial,
                const std::vector<std::string>& answers) {
  SaslExchange sasl;
  std::string log;
  Next next = sasl.begin(mechanism, initial);
  for (const std::string& answer : answers) {
    if (next != Next::challenge) return log + "early";
    log += "(" + std::string(sasl.challenge()) + ")";
    next = sasl.answer(answer);
  }
  switch (next) {
    case Next::challenge:
      return log + "waits";
    case Next::bad_base64:
      return log + "base64";
    case Next::malformed:
      return log + "malformed";
    case Next::aborted:
      return log + "aborted";
    case Next::complete:
      break;
  }
  const Login login = sasl.take_login();
  return log + std::string(login.method) + "/" + std::string(row(login.mechanism).name) + "/" + login.user +
         "/" + base64(login.message.reveal());
}

}  // namespace

TEST_CASE("SASL exchanges end in a login, or say why not") {
  const std::string alice = "AGFsaWNlAHB3", done = "PLAIN/PLAIN/alice/AGFsaWNlAHB3";
  const std::string by_login = "LOGIN/PLAIN/alice/AGFsaWNlAHB3";
  const std::string oauth = "dXNlcj1kAWF1dGg9QmVhcmVyIHQBAQ==";
  struct Row {
    const char* title;
    Mechanism mechanism;
    std::optional<std::string> initial;
    std::vector<std::string> answers;
    std::string end;
  };
  const std::optional<std::string> none;
  const Row rows[] = {
      {"at once", Mechanism::plain, alice, {}, done},
      {"asked", Mechanism::plain, none, {alice}, "()" + done},
      {"spaces inside", Mechanism::plain, "AGFs aWNl\tAHB3", {}, done},
      {"nothing", Mechanism::plain, "=", {}, "malformed"},
      {"an empty answer", Mechanism::plain, none, {""}, "()malformed"},
      {"an = for an answer", Mechanism::plain, none, {"="}, "()base64"},
      {"aborted", Mechanism::plain, none, {"*"}, "()aborted"},
      {"a * at once is no abort", Mechanism::plain, "*", {}, "base64"},
      {"no base64", Mechanism::plain, "a!", {}, "base64"},
      {"LOGIN", Mechanism::login, none, {"YWxpY2U=", "cHc="}, "(VXNlcm5hbWU6)(UGFzc3dvcmQ6)" + by_login},
      {"LOGIN with the name", Mechanism::login, "YWxpY2U=", {"cHc="}, "(UGFzc3dvcmQ6)" + by_login},
      {"LOGIN with no name yet",
       Mechanism::login,
       "=",
       {"YWxpY2U=", "cHc="},
       "(VXNlcm5hbWU6)(UGFzc3dvcmQ6)" + by_login},
      {"LOGIN without a name", Mechanism::login, none, {""}, "(VXNlcm5hbWU6)malformed"},
      {"LOGIN without a password", Mechanism::login, "YQ==", {""}, "(UGFzc3dvcmQ6)malformed"},
      {"LOGIN with a NUL in the name", Mechanism::login, "YQBi", {"YQ=="}, "(UGFzc3dvcmQ6)malformed"},
      {"LOGIN aborted in the end", Mechanism::login, "YQ==", {"*"}, "(UGFzc3dvcmQ6)aborted"},
      {"LOGIN waits for the password", Mechanism::login, none, {"YQ=="}, "(VXNlcm5hbWU6)waits"},
      {"XOAUTH2", Mechanism::xoauth2, oauth, {}, "XOAUTH2/XOAUTH2/d/" + oauth},
      {"the other form", Mechanism::oauthbearer, none, {oauth}, "()OAUTHBEARER/OAUTHBEARER/d/" + oauth},
      {"no token", Mechanism::oauthbearer, "bixh", {}, "malformed"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.title);
    CHECK(run(row.mechanism, row.initial, row.answers) == row.end);
  }
}

TEST_CASE("an exchange that starts again remembers nothing") {
  SaslExchange sasl;
  CHECK(sasl.begin(Mechanism::login, "YWxpY2U=") == Next::challenge);
  CHECK(sasl.begin(Mechanism::login, std::nullopt) == Next::challenge);
  CHECK(sasl.challenge() == "VXNlcm5hbWU6");
  CHECK(sasl.answer("Ym9i") == Next::challenge);
  CHECK(sasl.answer("cHc=") == Next::complete);
  CHECK(sasl.take_login().user == "bob");
  sasl.reset();
  CHECK(sasl.take_login().message.empty());
}

TEST_CASE("mechanisms are known by name, listed by configuration, advertised with care") {
  CHECK(mechanism_named("xoAuth2") == Mechanism::xoauth2);
  CHECK_FALSE(mechanism_named("PLAI"));
  CHECK_FALSE(mechanism_named("PLAINX"));
  CHECK_FALSE(mechanism_named(""));
  conf::CapabilitiesConf capabilities;
  capabilities.sasl = {"xoauth2", "LOGIN", "PLAIN"};
  using Names = std::vector<std::string_view>;
  CHECK(listed(capabilities, Mechanism::login));
  CHECK_FALSE(listed(capabilities, Mechanism::oauthbearer));
  CHECK(advertised(capabilities, true) == Names{"XOAUTH2", "LOGIN", "PLAIN"});
  CHECK(advertised(capabilities, false) == Names{"XOAUTH2"});
  capabilities.advertise_login = false;
  CHECK(advertised(capabilities, true) == Names{"XOAUTH2", "PLAIN"});
  CHECK(advertised(capabilities, false) == Names{"XOAUTH2"});
}
