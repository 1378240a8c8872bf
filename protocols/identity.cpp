// SPDX-License-Identifier: GPL-3.0-or-later
// See identity.hpp.
#include "protocols/identity.hpp"

#include <algorithm>

namespace postern::protocols {

std::string_view cut_master_user(std::string_view login, std::span<const std::string> separators) {
  size_t cut = login.size();
  for (const std::string& separator : separators)
    if (!separator.empty()) cut = std::min(cut, login.find(separator));
  return login.substr(0, cut);
}

bool acceptable_identifier(std::string_view identifier) {
  return !identifier.empty() && identifier.size() <= longest_identifier &&
         std::ranges::none_of(identifier, [](char c) {
           const auto byte = static_cast<unsigned char>(c);
           return byte <= 0x20 || byte == 0x7f || byte == '"';
         });
}

}  // namespace postern::protocols
