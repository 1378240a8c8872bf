// SPDX-License-Identifier: GPL-3.0-or-later
// Key files: bounded, and what was read can be written and read again.
#include "test/fuzz/tls_fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace postern::tls;
  const auto keys = parse_ticket_keys({reinterpret_cast<const char*>(data), size});
  if (!keys) {
    demand(!keys.error().text.empty() && keys.error().text.size() < 100);
    return 0;
  }
  demand(!keys->empty() && keys->size() <= TicketKeys::max_keys);
  std::string text;
  const auto hex = [&text](std::span<const uint8_t> bytes) {
    for (const uint8_t byte : bytes) {
      text += "0123456789abcdef"[byte >> 4];
      text += "0123456789ABCDEF"[byte & 15];
    }
  };
  for (const TicketKey& key : *keys) {
    hex(key.name);
    hex(key.key);
    text += "\r\n";
  }
  const auto again = parse_ticket_keys(text);
  demand(again && again->size() == keys->size());
  for (size_t i = 0; i < keys->size(); ++i)
    demand((*again)[i].name == (*keys)[i].name && (*again)[i].key == (*keys)[i].key);
  return 0;
}
