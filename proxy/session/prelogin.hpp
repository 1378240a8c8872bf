// SPDX-License-Identifier: GPL-3.0-or-later
// What a session holds while somebody logs in, and the little of it that is kept for the closing record.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "protocols/dialogue.hpp"
#include "protocols/input.hpp"
#include "protocols/login.hpp"
#include "protocols/replay.hpp"
#include "proxy/backend/attempt.hpp"
#include "proxy/backend/caller.hpp"
#include "proxy/base/fault.hpp"

namespace postern::proxy {

/// Both conversations and what they go by. The members refer to each other, so it stays where it is.
struct PreLogin {
  protocols::DialogueRules rules;
  std::string hostname;
  protocols::Input input;  // from the client, unread
  std::unique_ptr<protocols::Dialogue> dialogue;

  protocols::Login credentials;  // of the attempt under way
  protocols::ReplayRules replay_rules;
  std::unique_ptr<protocols::Replay> replay;
  protocols::Input backend_input;
  std::unique_ptr<Attempt> attempt;
  // The client was told of this failure of its backend and has said nothing since; none: it was not.
  Fault told = Fault::none;
  std::string_view told_detail;  // static text
  uint64_t stage_began = 0;      // nanoseconds: of the backend leg's stage under way
};

/// Times are milliseconds since accept.
struct Story {
  static constexpr uint32_t never = UINT32_MAX;
  std::string account;           // redacted
  std::string_view method;       // static text
  uint32_t attempts = 0;         // that were refused, by whomever
  uint32_t asked_ms = never;     // credentials complete
  uint32_t ready_ms = never;     // backend ready for them
  uint32_t answered_ms = never;  // backend's verdict
};

}  // namespace postern::proxy
