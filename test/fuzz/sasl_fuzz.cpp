// SPDX-License-Identifier: GPL-3.0-or-later
// SASL exchanges under any lines: they end, and a login that comes out is whole and says what was sent.
// Input: a byte for the mechanism and whether the first line is an initial response; then lines.
#include "protocols/sasl.hpp"

#include <algorithm>

#include "protocols/base64.hpp"
#include "protocols/text.hpp"
#include "test/fuzz/require.hpp"

using namespace postern;
using namespace postern::protocols;
using fuzz::require;
using Next = SaslExchange::Next;

namespace {

std::string_view take_line(std::string_view& text) {
  const size_t end = std::min(text.find('\n'), text.size());
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return line;
}

void check(const Login& login, Mechanism mechanism, std::string_view last) {
  require(login.method == row(mechanism).name, "another method");
  require(login.mechanism == (mechanism == Mechanism::login ? Mechanism::plain : mechanism),
          "another mechanism");
  require(is_utf8(login.user), "a user that is no text");
  const std::string_view message = login.message.reveal();
  if (login.mechanism == Mechanism::plain) {
    const auto parts = split_plain(message);
    require(parts && parts->authcid == login.user && !login.user.empty(), "no PLAIN message");
    if (mechanism == Mechanism::login) require(parts->password == from_base64(last), "another password");
  } else {
    const auto parts = split_oauth(message);
    require(parts && parts->user == login.user && !parts->token.empty(), "no OAuth message");
    require(message.find(parts->token) != std::string_view::npos, "a token from elsewhere");
  }
  if (mechanism != Mechanism::login)
    require(message == from_base64(last == "=" ? "" : last), "another message");
  (void)routing_name(login, "email");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const auto mechanism = static_cast<Mechanism>(data[0] % mechanism_count);
  std::string_view text = fuzz::text_of(data + 1, size - 1);
  std::string_view last;
  std::optional<std::string_view> initial;
  if ((data[0] & 0x80) != 0) initial = last = take_line(text);
  SaslExchange sasl;
  Next next = sasl.begin(mechanism, initial);
  for (int asked = 0; next == Next::challenge; ++asked) {
    require(asked < 2, "asks for ever");
    require(from_base64(sasl.challenge()).has_value(), "a challenge that is no base64");
    last = take_line(text);
    next = sasl.answer(last);
    require((last == "*") == (next == Next::aborted), "aborted, or not");
  }
  if (next == Next::complete) check(sasl.take_login(), mechanism, last);
  if (next == Next::bad_base64) require(!from_base64(last), "good base64");
  return 0;
}
