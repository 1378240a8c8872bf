// SPDX-License-Identifier: GPL-3.0-or-later
// What is served from an older state of its file, because the file as it is now is bad: for the log, the
// metrics and the status page.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace postern::proxy {

struct Stale {
  enum class Item : uint8_t { certificate, client_certificate, mapping, ticket_keys, roots };
  Item item = Item::certificate;
  std::string name;  // of the certificate or the destination; empty: there is only one
};

/// postern_stale{item}
inline constexpr std::array<const char*, 5> stale_names = {"certificate", "client_certificate", "mapping",
                                                           "ticket_keys", "roots"};

/// "certificate main", "mapping".
inline std::string text(const Stale& stale) {
  const std::string text = stale_names[static_cast<size_t>(stale.item)];
  return stale.name.empty() ? text : text + ' ' + stale.name;
}

}  // namespace postern::proxy
