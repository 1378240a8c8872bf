// SPDX-License-Identifier: GPL-3.0-or-later
// The memory that is put aside stays until the table has grown, which is when the descriptor is first
// watched.
#include "proxy/loop/loop_memory.hpp"

#include <malloc.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace postern::proxy {
namespace {

/// One a thread, since a thread has one loop. Without a destructor: registering one takes memory.
thread_local void* block = nullptr;
thread_local size_t block_size = 0;

void keep(void* memory, size_t size) {
  std::free(std::exchange(block, memory));
  block_size = size;
}

void* grow(void* old, size_t size) {
  void* const moved = std::realloc(old, size);
  if (moved && size >= block_size) keep(nullptr, 0);
  if (moved || size > block_size) return moved;
  if (old) std::memcpy(block, old, std::min(size, ::malloc_usable_size(old)));
  std::free(old);
  block_size = 0;
  return std::exchange(block, nullptr);
}

/// What libuv makes of its table for this descriptor.
size_t table_size(int fd) { return std::bit_ceil(static_cast<size_t>(fd) + 3) * sizeof(void*); }

}  // namespace

void provide_loop_memory() { uv_replace_allocator(std::malloc, grow, std::calloc, std::free); }

bool can_watch(const uv_loop_t& loop, int fd) noexcept {
  if (static_cast<unsigned>(fd) + 1 <= loop.nwatchers) return true;
  const size_t size = table_size(fd);
  if (size <= block_size) return true;
  void* const memory = std::malloc(size);
  if (memory) keep(memory, size);
  return memory != nullptr;
}

void release_loop_memory() { keep(nullptr, 0); }

}  // namespace postern::proxy
