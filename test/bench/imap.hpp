// SPDX-License-Identifier: GPL-3.0-or-later
// IMAP as far as a login session needs it, both ends, without a socket: the backend that greets and checks
// passwords, and the client that logs in and compares every line it gets.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postern::bench {

std::string user_name(uint64_t number);  // u17@bench.test
std::string password_of(const std::string& user);

// What a PROXY header (version 1 or 2) says of the client.
struct Forwarded {
  size_t size = 0;      // bytes of the header
  std::string address;  // dotted; empty: none given
};
enum class HeaderState { partial, whole, wrong };
HeaderState read_forwarded(std::string_view input, Forwarded& header);

// The backend's end: LOGIN (atoms, quoted strings, literals), AUTHENTICATE PLAIN, CAPABILITY, ID, NOOP,
// LOGOUT.
class ImapServer {
 public:
  enum class Next { on, leave, broken };
  static constexpr std::string_view greeting =
      "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN LITERAL+ ID] ready\r\n";

  bool logged_in() const { return logged_in_; }
  bool between_commands() const { return words_.empty() && literal_due_ == 0 && tag_.empty(); }
  size_t literal_due() const { return literal_due_; }
  void literal(std::string_view bytes);                // no more than are due
  Next line(std::string_view text, std::string& out);  // without the line feed

 private:
  Next command(std::string& out);
  Next sasl(std::string_view message, std::string& out);
  void judge(const std::string& tag, const std::string& user, const std::string& password, std::string& out);
  bool split(std::string_view text);

  bool logged_in_ = false;
  std::string tag_;  // of an AUTHENTICATE that waits for its message
  std::vector<std::string> words_;
  size_t literal_due_ = 0;
};

// The client's end. A short talk ends with the login; a whole one says NOOP and LOGOUT too.
class ImapClient {
 public:
  enum class Next { more, logged_in, over, wrong };
  void begin(std::string user, bool whole);
  // Takes all of the input, adds to `out` what is to be said. `logged_in` is told once.
  Next take(std::string_view input, std::string& out, std::string& why);
  std::string_view waits_for() const;

 private:
  enum class State { greeting, login, noop, goodbye, logout, over };
  Next line(std::string_view text, std::string& out, std::string& why);
  State state_ = State::greeting;
  bool whole_ = false;
  std::string user_;
  std::string partial_;
};

}  // namespace postern::bench
