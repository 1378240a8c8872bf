// SPDX-License-Identifier: GPL-3.0-or-later
// Preloaded into a running Postern: allocations can be counted, and made to fail by number. The test and this share
// the file that ALLOC_CONTROL names; its three words are in struct control.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct control {
  _Atomic int64_t armed;  // while not 0, allocations are counted
  _Atomic int64_t seen;   // how many there were
  _Atomic int64_t first;  // the number of the first that fails; 0: none does
  _Atomic int64_t last;   // and of the last
};
static struct control* control;

void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* old, size_t size);
void* __libc_memalign(size_t alignment, size_t size);

static int fails(void) {
  if (!control || !atomic_load_explicit(&control->armed, memory_order_relaxed)) return 0;
  const int64_t number = atomic_fetch_add(&control->seen, 1) + 1;
  const int64_t first = atomic_load(&control->first);
  if (first == 0 || number < first || number > atomic_load(&control->last)) return 0;
  errno = ENOMEM;
  return 1;
}

void* malloc(size_t size) { return fails() ? NULL : __libc_malloc(size); }
void* calloc(size_t count, size_t size) { return fails() ? NULL : __libc_calloc(count, size); }
void* realloc(void* old, size_t size) { return fails() ? NULL : __libc_realloc(old, size); }
void* memalign(size_t alignment, size_t size) { return fails() ? NULL : __libc_memalign(alignment, size); }
void* aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }
int posix_memalign(void** result, size_t alignment, size_t size) {
  void* made = memalign(alignment, size);
  if (!made) return ENOMEM;
  *result = made;
  return 0;
}

__attribute__((constructor)) static void prepare(void) {
  const char* path = getenv("ALLOC_CONTROL");
  const int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
  if (file < 0) return;
  void* shared = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (shared != MAP_FAILED) control = shared;
  close(file);
}
