// SPDX-License-Identifier: GPL-3.0-or-later
// PLAIN and OAuth messages under any bytes: the parts make up the whole, and what is made is taken apart
// again.
#include "protocols/login.hpp"

#include <algorithm>

#include "protocols/text.hpp"
#include "test/fuzz/require.hpp"

using namespace postern;
using namespace postern::protocols;
using fuzz::require;

namespace {

void plain(std::string_view message) {
  const auto parts = split_plain(message);
  const bool two = std::ranges::count(message, '\0') == 2;
  if (parts) {
    require(two && is_utf8(message), "not the form");
    require(!parts->authcid.empty() && !parts->password.empty(), "an empty part");
    std::string whole(parts->authzid);
    whole += '\0';
    whole += make_plain(parts->authcid, parts->password).reveal().substr(1);
    require(whole == message, "parts that do not make the whole");
  } else if (two && is_utf8(message)) {
    const size_t first = message.find('\0'), second = message.find('\0', first + 1);
    require(second == first + 1 || second + 1 == message.size(), "refused for nothing");
  }
}

void oauth(std::string_view message) {
  const auto parts = split_oauth(message);
  if (!parts) return;
  require(!parts->token.empty() && parts->token.find('\x01') == std::string_view::npos, "no token");
  require(parts->token.data() >= message.data() &&
              parts->token.data() + parts->token.size() <= message.data() + message.size(),
          "a token from elsewhere");
  require(is_utf8(parts->user) && parts->user.size() <= message.size(), "no user");
  Login login;
  login.mechanism = Mechanism::oauthbearer;
  login.user = parts->user;
  login.message = conf::Secret(std::string(message));
  const std::string name = routing_name(login, "sub");
  require(is_utf8(name), "a name that is no text");
  if (login.user.find('@') != std::string::npos) require(name == login.user, "another name");
  if (!login.user.empty()) require(!name.empty(), "a name forgotten");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view message = fuzz::text_of(data, size);
  plain(message);
  oauth(message);
  return 0;
}
