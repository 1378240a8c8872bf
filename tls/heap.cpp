// SPDX-License-Identifier: GPL-3.0-or-later
// malloc, with a counter of the thread beside it. Sizes are the allocator's own, so that a freed block takes
// off what it had put on.
#include "tls/heap.hpp"

#include <malloc.h>

#include <cstdlib>

#include "tls/wolfssl.hpp"

namespace postern::tls {
namespace {

thread_local int64_t balance = 0;

void* count(void* block) {
  if (block) balance += static_cast<int64_t>(::malloc_usable_size(block));
  return block;
}
void discount(void* block) {
  if (block) balance -= static_cast<int64_t>(::malloc_usable_size(block));
}

}  // namespace

void count_allocations() {
  wolfSSL_SetAllocators([](size_t size) { return count(std::malloc(size)); },
                        [](void* block) {
                          discount(block);
                          std::free(block);
                        },
                        [](void* block, size_t size) {
                          discount(block);
                          void* const moved = std::realloc(block, size);
                          count(moved ? moved : block);  // without memory the old block stays
                          return moved;
                        });
}

int64_t allocated() { return balance; }

}  // namespace postern::tls
