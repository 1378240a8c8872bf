// SPDX-License-Identifier: GPL-3.0-or-later
#include "proxy/base/keyed_hash.hpp"

#include <sys/random.h>

#include <array>
#include <bit>
#include <cstring>

namespace postern::proxy {
namespace {

using Key = std::array<uint64_t, 2>;

const Key& process_key() {
  static const Key key = [] {
    Key made{};
    while (::getrandom(made.data(), sizeof made, 0) != static_cast<ssize_t>(sizeof made)) {
    }
    return made;
  }();
  return key;
}

struct State {
  uint64_t a, b, c, d;
  void round() {
    a += b;
    c += d;
    b = std::rotl(b, 13) ^ a;
    d = std::rotl(d, 16) ^ c;
    a = std::rotl(a, 32);
    c += b;
    a += d;
    b = std::rotl(b, 17) ^ c;
    d = std::rotl(d, 21) ^ a;
    c = std::rotl(c, 32);
  }
  void take(uint64_t word) {
    d ^= word;
    round();
    a ^= word;
  }
};

}  // namespace

uint64_t keyed_hash(std::string_view text) {
  const Key& key = process_key();
  State state{0x736f6d6570736575ULL ^ key[0], 0x646f72616e646f6dULL ^ key[1], 0x6c7967656e657261ULL ^ key[0],
              0x7465646279746573ULL ^ key[1]};
  const size_t size = text.size();
  size_t at = 0;
  for (; at + 8 <= size; at += 8) {
    uint64_t word;
    std::memcpy(&word, text.data() + at, 8);
    state.take(word);
  }
  uint64_t last = static_cast<uint64_t>(size) << 56;
  for (size_t i = 0; at + i < size; ++i)
    last |= static_cast<uint64_t>(static_cast<uint8_t>(text[at + i])) << (8 * i);
  state.take(last);
  state.c ^= 0xff;
  for (int i = 0; i < 3; ++i) state.round();
  return state.a ^ state.b ^ state.c ^ state.d;
}

}  // namespace postern::proxy
