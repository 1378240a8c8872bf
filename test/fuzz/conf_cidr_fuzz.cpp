// SPDX-License-Identifier: GPL-3.0-or-later
// Addresses: what parses prints, and what is printed parses to the same value; a range holds its own base.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "conf/address.hpp"

using namespace postern::conf;

namespace {

void require(bool held) {
  if (!held) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto ip = Ip::parse(text)) {
    require(Ip::parse(ip->text()) == *ip);
    const auto alone = Cidr::parse(text);
    require(alone && alone->contains(*ip) && alone->bits == (ip->is_v4() ? 32 : 128));
  }
  if (const auto address = SocketAddress::parse(text)) {
    require(SocketAddress::parse(address->text()) == *address);
    for (const bool mapped : {false, true}) {
      sockaddr_storage storage{};
      require(address->to(storage, mapped) <= sizeof storage);
      require(SocketAddress::from(reinterpret_cast<const sockaddr*>(&storage)) == *address);
    }
  }
  if (const auto range = Cidr::parse(text)) {
    require(Cidr::parse(range->text()) == *range);
    require(range->contains(range->base));
    require(range->bits <= (range->base.is_v4() ? 32 : 128));
  }
  return 0;
}
