// SPDX-License-Identifier: GPL-3.0-or-later
// Preloaded into a running Postern, as code that somebody smuggled in would be: at SIGUSR2 it makes the call
// that CALL names, in the thread that gets the signal, and writes "survived" if it is still there.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static void attempt(int number) {
  (void)number;
  const char* call = getenv("CALL");
  char* none[] = {NULL};
  long result = -1;
  errno = 0;
  if (!strcmp(call, "execve")) {
    result = execve("/nonexistent", none, none);
  } else if (!strcmp(call, "fork")) {
    result = syscall(SYS_clone, (unsigned long)SIGCHLD, 0, 0, 0, 0);
    if (result == 0) _exit(0);
  } else if (!strcmp(call, "ptrace")) {
    result = ptrace(PTRACE_TRACEME, 0, 0, 0);
  } else if (!strcmp(call, "packet socket")) {
    result = socket(AF_PACKET, SOCK_RAW, 0);
  } else if (!strcmp(call, "writable code")) {
    result = (long)mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  } else if (!strcmp(call, "code from data")) {
    void* page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    result = mprotect(page, 4096, PROT_READ | PROT_EXEC);
  } else if (!strcmp(call, "code from a file")) {
    // Written through one mapping, to be run through another.
    const int file = open("/tmp", O_TMPFILE | O_RDWR, 0700);
    if (file >= 0 && ftruncate(file, 4096) == 0) {
      mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
      result = (long)mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
    }
  } else if (!strcmp(call, "a library")) {
    const int file = open("/proc/self/exe", O_RDONLY);
    result = (long)mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0);
  } else if (!strcmp(call, "uevent socket")) {
    result = socket(AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT);
  } else if (!strcmp(call, "route socket")) {
    result = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  } else if (!strcmp(call, "raw socket")) {
    result = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
  } else if (!strcmp(call, "setuid")) {
    result = syscall(SYS_setuid, getuid());
  } else if (!strcmp(call, "namespace")) {
    result = unshare(CLONE_NEWUSER);
  } else if (!strcmp(call, "memory of others")) {
    result = syscall(SYS_process_vm_readv, getppid(), 0, 0, 0, 0, 0);
  } else if (!strcmp(call, "unheard of")) {
    result = syscall(4242);
  } else if (!strcmp(call, "ring")) {
    result = syscall(SYS_io_uring_setup, 1, 0);
  } else if (!strcmp(call, "signal to another")) {
    result = kill(getppid(), 0);
  }
  char text[100];
  const int size = snprintf(text, sizeof text, "survived %s: %s\n", call, result == -1 ? strerror(errno) : "done");
  if (write(2, text, (size_t)size) < 0) _exit(3);
}

__attribute__((constructor)) static void prepare(void) {
  struct sigaction action = {.sa_handler = attempt};
  if (getenv("CALL")) sigaction(SIGUSR2, &action, NULL);
}
