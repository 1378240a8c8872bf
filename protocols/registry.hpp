// SPDX-License-Identifier: GPL-3.0-or-later
// One row a protocol: what the rest of the house must know of it without speaking it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "conf/config.hpp"
#include "protocols/dialogue.hpp"
#include "protocols/replay.hpp"

namespace postern::protocols {

struct ProtocolRow {
  conf::Protocol protocol;
  std::string_view name;                   // as in the file, in records and in labels
  bool server_speaks_first;                // a client waits for a greeting
  std::span<const std::string_view> alpn;  // names a listener accepts, best first
  std::string_view goodbye;                // a client's; empty where Postern has no word of its own

  // Both sides of a login; null where Postern holds no conversation. What is passed by reference must outlive
  // what is made.
  using MakeDialogue = std::unique_ptr<Dialogue> (*)(const DialogueRules&, bool encrypted, DialogueEvents*);
  using MakeReplay = std::unique_ptr<Replay> (*)(const ReplayRules&, const Login&);
  MakeDialogue dialogue;
  MakeReplay replay;
};

const ProtocolRow& row(conf::Protocol protocol);

/// The same names as tls::ServerContext::make takes them.
std::vector<std::string> alpn_names(conf::Protocol protocol);

}  // namespace postern::protocols
