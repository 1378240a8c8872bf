// SPDX-License-Identifier: GPL-3.0-or-later
// The kernel's random numbers replaced by ones that repeat, so that a fuzz input means the same in every run.
#include <sys/types.h>

#include <cstddef>
#include <cstdint>

namespace postern::tls {
uint64_t fuzz_random_state = 1;
}

extern "C" ssize_t getrandom(void* to, size_t size, unsigned /*flags*/) {
  auto* bytes = static_cast<uint8_t*>(to);
  for (size_t i = 0; i < size; ++i) {
    uint64_t& state = postern::tls::fuzz_random_state;
    state = state * 6364136223846793005u + 1442695040888963407u;
    bytes[i] = static_cast<uint8_t>(state >> 56);
  }
  return static_cast<ssize_t>(size);
}
