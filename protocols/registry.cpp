// SPDX-License-Identifier: GPL-3.0-or-later
// The rows, in the order of conf::Protocol; the compiler holds table and enumeration together.
#include "protocols/registry.hpp"

#include <array>

#include "protocols/imap/dialogue.hpp"
#include "protocols/imap/replay.hpp"
#include "protocols/managesieve/dialogue.hpp"
#include "protocols/managesieve/replay.hpp"
#include "protocols/pop3/dialogue.hpp"
#include "protocols/pop3/replay.hpp"
#include "protocols/submission/dialogue.hpp"
#include "protocols/submission/replay.hpp"

namespace postern::protocols {
namespace {

using conf::Protocol;

// IANA's list has imap, pop3, managesieve and http/1.1; the mail transport names are unregistered but in use.
constexpr std::array<std::string_view, 1> alpn_imap = {"imap"};
constexpr std::array<std::string_view, 1> alpn_pop3 = {"pop3"};
constexpr std::array<std::string_view, 1> alpn_managesieve = {"managesieve"};
constexpr std::array<std::string_view, 2> alpn_submission = {"submission", "smtp"};
constexpr std::array<std::string_view, 1> alpn_smtp = {"smtp"};
constexpr std::array<std::string_view, 1> alpn_lmtp = {"lmtp"};
constexpr std::array<std::string_view, 1> alpn_http = {"http/1.1"};

template <class T>
[[maybe_unused]] std::unique_ptr<Dialogue> dialogue(const DialogueRules& rules, bool encrypted,
                                                    DialogueEvents* events) {
  return std::make_unique<T>(rules, encrypted, events);
}
template <class T>
[[maybe_unused]] std::unique_ptr<Replay> replay(const ReplayRules& rules, const Login& login) {
  return std::make_unique<T>(rules, login);
}

constexpr std::array<ProtocolRow, conf::protocol_count> rows = {{
    {Protocol::imap, "imap", true, alpn_imap, "P9 LOGOUT\r\n", dialogue<ImapDialogue>, replay<ImapReplay>},
    {Protocol::pop3, "pop3", true, alpn_pop3, "QUIT\r\n", dialogue<Pop3Dialogue>, replay<Pop3Replay>},
    {Protocol::managesieve, "managesieve", true, alpn_managesieve, "LOGOUT\r\n",
     dialogue<ManageSieveDialogue>, replay<ManageSieveReplay>},
    {Protocol::submission, "submission", true, alpn_submission, "QUIT\r\n", dialogue<SubmissionDialogue>,
     replay<SubmissionReplay>},
    {Protocol::smtp, "smtp", true, alpn_smtp, "", nullptr, nullptr},
    {Protocol::lmtp, "lmtp", true, alpn_lmtp, "", nullptr, nullptr},
    {Protocol::http, "http", false, alpn_http, "", nullptr, nullptr},
}};

static_assert([] {
  for (size_t i = 0; i < rows.size(); ++i)
    if (rows[i].protocol != static_cast<Protocol>(i) || rows[i].name.empty() || rows[i].alpn.empty())
      return false;
  return true;
}());

}  // namespace

const ProtocolRow& row(conf::Protocol protocol) { return rows[static_cast<size_t>(protocol)]; }

std::vector<std::string> alpn_names(conf::Protocol protocol) {
  const auto names = row(protocol).alpn;
  return {names.begin(), names.end()};
}

}  // namespace postern::protocols
