// SPDX-License-Identifier: GPL-3.0-or-later
// What targets of dialogues and replays share. Input: settings, the place of a cut, then what the peer says;
// a byte 0x1e starts what it says inside TLS.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

#include "protocols/base64.hpp"
#include "test/fuzz/require.hpp"
#include "test/talk.hpp"

namespace postern::fuzz {

/// Runs `run(settings, stages, pieces)` at once, byte by byte and in pieces; all must be the same.
template <class Run>
std::string however_split(const uint8_t* data, size_t size, Run&& run) {
  if (size < 2) return {};
  const std::string_view said = text_of(data + 2, size - 2);
  const size_t tls = std::min(said.find('\x1e'), said.size());
  const test::Stages stages = {std::string(said.substr(0, tls)),
                               std::string(said.substr(std::min(tls + 1, said.size())))};
  std::string whole = run(data[0], stages, test::at_once);
  require(whole == run(data[0], stages, test::byte_by_byte), "another conversation byte by byte");
  require(whole == run(data[0], stages, test::Pieces{data[1], 0}), "another conversation for a cut");
  require(whole == run(data[0], stages, test::Pieces{data[1], 3}), "another conversation in pieces");
  return whole;
}

/// A login as a dialogue may hand it over. `clear_ok`: a password may have come as it did.
inline void check_login(const protocols::Login& login, bool clear_ok) {
  using protocols::Mechanism;
  require(!login.method.empty(), "a login without a method");
  require(login.mechanism != Mechanism::login, "LOGIN is no message");
  if (login.mechanism == Mechanism::plain) {
    require(clear_ok, "a password where none is taken");
    const auto parts = protocols::split_plain(login.message.reveal());
    require(parts.has_value(), "no PLAIN message");
    require(parts && parts->authcid == login.user, "another user");
  } else {
    require(protocols::split_oauth(login.message.reveal()).has_value(), "no OAuth message");
  }
}

/// Logins for replays, chosen by two bits: some that a backend's other commands can carry, some that not.
inline protocols::Login some_login(unsigned choice) {
  protocols::Login login;
  std::string message;
  switch (choice & 3) {
    case 0:
      message = std::string("\0alice\0s3cret", 13);
      break;
    case 1:
      message = std::string("\0alice\0s3c\r\nret", 15);
      break;
    case 2:
      message = std::string("\0alice\0", 7) + std::string(1000, 's');
      break;
    default:
      login.mechanism = protocols::Mechanism::oauthbearer;
      message =
          "n,,\x01"
          "auth=Bearer s3cret\x01\x01";
  }
  login.message = conf::Secret(std::move(message));
  return login;
}

/// Nothing secret is said before the way is clear, no verdict comes before the secret, and a leg that may not
/// carry it never does.
inline void check_replay(std::string_view log, const protocols::Login& login, bool may_carry) {
  const size_t ready = log.find("<ready>\n");
  const std::string_view before = log.substr(0, ready);
  require(may_carry || ready == std::string_view::npos, "ready on a leg that may not carry credentials");
  for (const std::string_view word : {"<accepted>", "<rejected>", "alice", "s3c", "AUTH", "USER", "PASS"})
    require(before.find(word) == std::string_view::npos, "too early");
  require(before.find(protocols::base64(login.message.reveal())) == std::string_view::npos, "too early");
}

}  // namespace postern::fuzz
