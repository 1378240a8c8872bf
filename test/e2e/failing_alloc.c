// SPDX-License-Identifier: GPL-3.0-or-later
// Preloaded into a running Postern: allocations can be counted, and made to fail by number and size. The test and
// this share the file that ALLOC_CONTROL names, which holds a struct control.
#define _GNU_SOURCE
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct control {
  _Atomic int64_t armed;  // while not 0, allocations are counted
  _Atomic int64_t least;  // smaller ones are not
  _Atomic int64_t seen;   // how many there were
  _Atomic int64_t first;  // the number of the first that fails; 0: none does
  _Atomic int64_t last;   // and of the last
};
static struct control* control;

void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* old, size_t size);
void* __libc_memalign(size_t alignment, size_t size);

static int fails(size_t size) {
  if (!control || !atomic_load_explicit(&control->armed, memory_order_relaxed)) return 0;
  if (size < (size_t)atomic_load(&control->least)) return 0;
  const int64_t number = atomic_fetch_add(&control->seen, 1) + 1;
  const int64_t first = atomic_load(&control->first);
  if (first == 0 || number < first || number > atomic_load(&control->last)) return 0;
  errno = ENOMEM;
  return 1;
}

void* malloc(size_t size) { return fails(size) ? NULL : __libc_malloc(size); }
void* calloc(size_t count, size_t size) { return fails(count * size) ? NULL : __libc_calloc(count, size); }
void* realloc(void* old, size_t size) { return fails(size) ? NULL : __libc_realloc(old, size); }
void* memalign(size_t alignment, size_t size) { return fails(size) ? NULL : __libc_memalign(alignment, size); }
void* aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }
int posix_memalign(void** result, size_t alignment, size_t size) {
  void* made = memalign(alignment, size);
  if (!made) return ENOMEM;
  *result = made;
  return 0;
}

/// Whoever reads of a failed test wants to know where it was.
static void show_where(int number) {
  void* frames[64];
  backtrace_symbols_fd(frames, backtrace(frames, 64), 2);
  signal(number, SIG_DFL);
  raise(number);
}

__attribute__((constructor)) static void prepare(void) {
  void* frame[1];
  backtrace(frame, 1);  // loads what it needs, once
  signal(SIGABRT, show_where);
  signal(SIGSEGV, show_where);
  const char* path = getenv("ALLOC_CONTROL");
  const int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
  if (file < 0) return;
  void* shared = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (shared != MAP_FAILED) control = shared;
  close(file);
}
