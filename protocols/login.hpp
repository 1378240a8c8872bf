// SPDX-License-Identifier: GPL-3.0-or-later
// A whole set of credentials, as a dialogue hands it over and a replay sends it on.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "conf/secret.hpp"

namespace postern::protocols {

enum class Mechanism : uint8_t { plain, login, oauthbearer, xoauth2 };
inline constexpr size_t mechanism_count = 4;

struct Login {
  Mechanism mechanism = Mechanism::plain;  // of `message`, so never `login`
  std::string_view method;  // how the client did it, for records: "PLAIN", "USER", ...; static text
  conf::Secret message;     // the decoded SASL message, replayed byte for byte
  std::string user;         // authcid, or the user an OAuth frame names; may be empty
  std::string name;         // what routes it: routing_name(); empty: nothing does

  // What the dialogue learned that the replay repeats. Nothing here is fit to be sent as it stands: each is
  // checked and encoded where it is written.
  std::string tag;                                      // imap: of the command that logs in
  std::string helo;                                     // submission: the last EHLO or HELO name
  bool utf8 = false;                                    // pop3: the client asked for UTF8
  std::vector<std::pair<std::string, std::string>> id;  // imap: what the client said of itself
  std::optional<uint32_t> ttl;  // imap: announced in ID, to be believed only if trusted

  [[nodiscard]] size_t held() const {
    size_t bytes = message.reveal().size() + user.size() + tag.size() + helo.size();
    for (const auto& [field, value] : id) bytes += sizeof id[0] + field.size() + value.size();
    return bytes;
  }
};

/// The three parts of a well-formed PLAIN message.
struct PlainParts {
  std::string_view authzid, authcid, password;
};
/// Nothing unless there are exactly two NULs, user and password are not empty, and all is UTF-8.
std::optional<PlainParts> split_plain(std::string_view message);
/// User and password of a PLAIN login that speaks for nobody else: what any other way to log in can carry.
std::optional<PlainParts> own_password(const Login& login);
conf::Secret make_plain(std::string_view user, std::string_view password);

/// User and token of an OAUTHBEARER or XOAUTH2 message, either form; nothing if it has no token. Of
/// repeated pairs the first counts.
struct OAuthParts {
  std::string user;        // may be empty
  std::string_view token;  // into the message
};
std::optional<OAuthParts> split_oauth(std::string_view message);

/// The login as far as it routes: user name, OAuth frame user, or what the token says (protocols.md 1.5,
/// before the master user is cut). Empty: nothing to route by. `claim` is oauth.jwt_username_claim.
std::string routing_name(const Login& login, std::string_view claim);

}  // namespace postern::protocols
