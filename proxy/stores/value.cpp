// SPDX-License-Identifier: GPL-3.0-or-later
// Whatever cannot be the name of a destination is a fault of the store, never "no mapping".
#include "proxy/stores/value.hpp"

#include "conf/text.hpp"

namespace postern::proxy {

StoreAnswer answer_of(std::string_view value) {
  if (value.empty()) return absent();
  if (value.size() > longest_value) return failed("the value is longer than any name of a destination");
  if (conf::has_control(value) || !conf::is_utf8(value)) return failed("the value is no text");
  return {StoreAnswer::Kind::found, std::string(value)};
}

}  // namespace postern::proxy
