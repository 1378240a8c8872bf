// SPDX-License-Identifier: GPL-3.0-or-later
// What a session holds while somebody logs in, and the little of it that is kept for the closing record.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "protocols/login_exchange.hpp"
#include "proxy/backend/attempt.hpp"
#include "proxy/base/fault.hpp"

namespace postern::proxy {

struct LoginState {
  LoginState(const protocols::LoginSettings& settings, const conf::Ip& local, bool encrypted,
             protocols::DialogueEvents& events)
      : exchange(settings, local, encrypted, &events) {}

  protocols::LoginExchange exchange;
  std::unique_ptr<Attempt> attempt;  // at the backend that has the credentials
  // The client was told of this failure of its backend and has said nothing since; none: it was not.
  Fault told = Fault::none;
  std::string_view told_detail;  // static text
  std::string identifier;        // that the account store is being asked about
  uint64_t lookup = 0;           // the number of a question to the account store; 0: none is open
  uint64_t stage_began = 0;      // nanoseconds: of the backend leg's stage under way
};

/// Times are milliseconds since accept.
struct LoginTimes {
  static constexpr uint32_t never = UINT32_MAX;
  std::string account;           // redacted
  std::string_view method;       // static text
  uint32_t attempts = 0;         // that were refused, by whomever
  uint32_t asked_ms = never;     // credentials complete
  uint32_t ready_ms = never;     // backend ready for them
  uint32_t answered_ms = never;  // backend's verdict
};

}  // namespace postern::proxy
