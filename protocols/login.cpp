// SPDX-License-Identifier: GPL-3.0-or-later
// PLAIN and OAuth messages taken apart. The bytes stay where they are; only views leave.
#include "protocols/login.hpp"

#include <algorithm>

#include "protocols/text.hpp"
#include "protocols/token.hpp"

namespace postern::protocols {

std::optional<PlainParts> split_plain(std::string_view message) {
  const size_t first = message.find('\0');
  if (first == std::string_view::npos) return std::nullopt;
  const size_t second = message.find('\0', first + 1);
  if (second == std::string_view::npos) return std::nullopt;
  const PlainParts parts{message.substr(0, first), message.substr(first + 1, second - first - 1),
                         message.substr(second + 1)};
  if (parts.authcid.empty() || parts.password.empty()) return std::nullopt;
  if (parts.password.find('\0') != std::string_view::npos) return std::nullopt;
  if (!is_utf8(parts.authzid) || !is_utf8(parts.authcid) || !is_utf8(parts.password)) return std::nullopt;
  return parts;
}

std::optional<PlainParts> own_password(const Login& login) {
  if (login.mechanism != Mechanism::plain) return std::nullopt;
  const auto parts = split_plain(login.message.reveal());
  if (!parts || (!parts->authzid.empty() && parts->authzid != parts->authcid)) return std::nullopt;
  return parts;
}

conf::Secret make_plain(std::string_view user, std::string_view password) {
  std::string message;
  message.reserve(user.size() + password.size() + 2);
  message += '\0';
  message += user;
  message += '\0';
  message += password;
  return conf::Secret(std::move(message));
}

namespace {

/// The a= value of a GS2 header ("n,a=user," or "y,,"), "=2C" and "=3D" decoded. Empty: none.
std::string gs2_user(std::string_view header) {
  std::string user;
  const size_t comma = header.find(',');
  if (comma == std::string_view::npos) return user;
  std::string_view rest = header.substr(comma + 1);
  rest = rest.substr(0, rest.find(','));
  if (!rest.starts_with("a=")) return user;
  rest.remove_prefix(2);
  for (size_t i = 0; i < rest.size(); ++i) {
    const std::string_view escape = rest.substr(i, 3);
    const bool is_comma = same_word(escape, "=2C"), is_equals = same_word(escape, "=3D");
    user += is_comma ? ',' : is_equals ? '=' : rest[i];
    if (is_comma || is_equals) i += 2;
  }
  return user;
}

}  // namespace

std::optional<OAuthParts> split_oauth(std::string_view message) {
  constexpr char separator = '\x01';
  OAuthParts parts;
  bool have_token = false, have_user = false;
  bool first = true;
  const bool gs2 = message.starts_with("n,") || message.starts_with("y,") || message.starts_with("p=");
  while (!message.empty()) {
    const size_t end = std::min(message.find(separator), message.size());
    const std::string_view pair = message.substr(0, end);
    message.remove_prefix(std::min(end + 1, message.size()));
    if (std::exchange(first, false) && gs2) {
      parts.user = gs2_user(pair);
      continue;
    }
    const size_t equals = pair.find('=');
    if (equals == std::string_view::npos) continue;
    const std::string_view key = pair.substr(0, equals), value = pair.substr(equals + 1);
    constexpr std::string_view bearer = "Bearer ";
    if (!have_token && same_word(key, "auth") && same_word(value.substr(0, bearer.size()), bearer)) {
      parts.token = value.substr(bearer.size());
      have_token = true;
    } else if (!have_user && !gs2 && same_word(key, "user")) {
      parts.user = value;
      have_user = true;
    }
  }
  if (parts.token.empty() || !is_utf8(parts.user)) return std::nullopt;
  return parts;
}

std::string routing_name(const Login& login, std::string_view claim) {
  if (login.mechanism == Mechanism::plain) return login.user;
  if (login.user.find('@') != std::string::npos) return login.user;
  const auto parts = split_oauth(login.message.reveal());
  if (parts)
    if (std::string from_token = token_identifier(parts->token, claim); !from_token.empty())
      return from_token;
  return login.user;
}

}  // namespace postern::protocols
