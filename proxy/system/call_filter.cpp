// SPDX-License-Identifier: GPL-3.0-or-later
// One list of what is allowed, one of what ends the process, and the few calls where the arguments decide.
#include "proxy/system/call_filter.hpp"

#include <fmt/core.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <initializer_list>
#include <memory>

namespace postern::proxy {
namespace {

// Names that an architecture or libseccomp does not know are passed over.
constexpr const char* allowed[] = {
    // memory
    "brk", "madvise", "membarrier", "mincore", "mlock", "mremap", "msync", "munlock", "munmap",
    // threads
    "exit", "exit_group", "futex", "futex_requeue", "futex_wait", "futex_waitv", "futex_wake",
    "get_robust_list", "getcpu", "getpid", "getppid", "gettid", "restart_syscall", "rseq",
    "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity", "sched_getparam",
    "sched_getscheduler", "sched_setaffinity", "sched_yield", "set_robust_list", "set_tid_address",
    // descriptors and files
    "access", "chmod", "close", "close_range", "dup", "dup2", "dup3", "eventfd2", "faccessat", "faccessat2",
    "fadvise64", "fallocate", "fchmod", "fchmodat", "fchown", "fcntl", "fdatasync", "flock", "fstat",
    "fstatfs", "fsync", "ftruncate", "getcwd", "getdents", "getdents64", "inotify_add_watch", "inotify_init1",
    "inotify_rm_watch", "link", "linkat", "lseek", "lstat", "mkdir", "mkdirat", "newfstatat", "open",
    "openat", "pipe", "pipe2", "pread64", "preadv", "preadv2", "pwrite64", "pwritev", "pwritev2", "read",
    "readlink", "readlinkat", "readv", "rename", "renameat", "renameat2", "rmdir", "stat", "statfs", "statx",
    "umask", "unlink", "unlinkat", "utimensat", "write", "writev",
    // sockets; socket() itself is below
    "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "recvfrom",
    "recvmmsg", "recvmsg", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown", "socketpair",
    // waiting and time
    "clock_getres", "clock_gettime", "clock_nanosleep", "epoll_create", "epoll_create1", "epoll_ctl",
    "epoll_pwait", "epoll_pwait2", "epoll_wait", "getitimer", "gettimeofday", "nanosleep", "pause", "poll",
    "ppoll", "pselect6", "select", "time", "timerfd_create", "timerfd_gettime", "timerfd_settime", "times",
    // signals, and facts about the process and the machine
    "capget", "getegid", "geteuid", "getgid", "getgroups", "getrandom", "getresgid", "getresuid", "getrlimit",
    "getrusage", "getuid", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigreturn", "rt_sigsuspend",
    "rt_sigtimedwait", "setrlimit", "sigaltstack", "sysinfo", "uname"};

// Other programs, other processes, other namespaces, other users, the kernel itself.
constexpr const char* deadly[] = {"acct",
                                  "adjtimex",
                                  "bpf",
                                  "capset",
                                  "chroot",
                                  "clock_adjtime",
                                  "clock_settime",
                                  "delete_module",
                                  "execve",
                                  "execveat",
                                  "finit_module",
                                  "fork",
                                  "fsconfig",
                                  "fsmount",
                                  "fsopen",
                                  "fspick",
                                  "init_module",
                                  "ioperm",
                                  "iopl",
                                  "kcmp",
                                  "kexec_file_load",
                                  "kexec_load",
                                  "lookup_dcookie",
                                  "mknod",
                                  "mknodat",
                                  "modify_ldt",
                                  "mount",
                                  "mount_setattr",
                                  "move_mount",
                                  "open_by_handle_at",
                                  "open_tree",
                                  "perf_event_open",
                                  "pidfd_getfd",
                                  "pidfd_send_signal",
                                  "pivot_root",
                                  "process_madvise",
                                  "process_vm_readv",
                                  "process_vm_writev",
                                  "ptrace",
                                  "quotactl",
                                  "reboot",
                                  "remap_file_pages",
                                  "setdomainname",
                                  "setfsgid",
                                  "setfsuid",
                                  "setgid",
                                  "setgroups",
                                  "sethostname",
                                  "setns",
                                  "setregid",
                                  "setresgid",
                                  "setresuid",
                                  "setreuid",
                                  "settimeofday",
                                  "setuid",
                                  "swapoff",
                                  "swapon",
                                  "syslog",
                                  "umount2",
                                  "unshare",
                                  "userfaultfd",
                                  "vfork",
                                  "vhangup"};

class Filter {
 public:
  /// What is on no list is done.
  Filter()
      : other_(SCMP_ACT_ALLOW),
        death_(SCMP_ACT_KILL_PROCESS),
        context_(::seccomp_init(other_), ::seccomp_release) {}
  explicit Filter(bool only_log)
      : other_(only_log ? SCMP_ACT_LOG : SCMP_ACT_ERRNO(ENOSYS)),
        death_(only_log ? SCMP_ACT_LOG : SCMP_ACT_KILL_PROCESS),
        context_(::seccomp_init(other_), ::seccomp_release) {}

  void allow(const char* name) { add(SCMP_ACT_ALLOW, name, {}); }
  void refuse(const char* name) { add(SCMP_ACT_ERRNO(ENOSYS), name, {}); }
  void kill(const char* name) { add(death_, name, {}); }
  template <class... When>  // all of them must hold
  void allow(const char* name, scmp_arg_cmp when, When... more) {
    add(SCMP_ACT_ALLOW, name, {when, more...});
  }
  template <class... When>
  void kill(const char* name, scmp_arg_cmp when, When... more) {
    add(death_, name, {when, more...});
  }
  void set(scmp_filter_attr attribute, uint32_t value) {
    if (!error_ && context_) error_ = ::seccomp_attr_set(context_.get(), attribute, value);
  }
  conf::Result<void> load() {
    if (!context_) return conf::error("libseccomp gives no filter");
    if (!error_) error_ = ::seccomp_load(context_.get());
    if (error_) return conf::error(std::strerror(-error_));
    return {};
  }

 private:
  void add(uint32_t action, const char* name, std::initializer_list<scmp_arg_cmp> when) {
    if (error_ || !context_ || action == other_) return;
    const int number = ::seccomp_syscall_resolve_name(name);
    if (number < 0) return;  // not of this architecture
    error_ = ::seccomp_rule_add_array(context_.get(), action, number, static_cast<unsigned>(when.size()),
                                      when.begin());
  }
  uint32_t other_, death_;
  std::unique_ptr<void, void (*)(scmp_filter_ctx)> context_;
  int error_ = 0;
};

scmp_arg_cmp is(unsigned argument, uint64_t value) { return {argument, SCMP_CMP_EQ, value, 0}; }
scmp_arg_cmp has(unsigned argument, uint64_t mask, uint64_t value) {
  return {argument, SCMP_CMP_MASKED_EQ, mask, value};
}

}  // namespace

conf::Result<void> refuse_rings() {
  Filter filter;
  for (const char* name : {"io_uring_setup", "io_uring_enter", "io_uring_register"}) filter.refuse(name);
  return filter.load();
}

conf::Result<void> filter_calls(bool only_log) {
  Filter filter(only_log);
  filter.set(SCMP_FLTATR_CTL_TSYNC, 1);
  filter.set(SCMP_FLTATR_CTL_OPTIMIZE, 2);  // a tree, not a list
  if (!only_log) filter.set(SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
  for (const char* name : allowed) filter.allow(name);
  for (const char* name : deadly) filter.kill(name);

  // Threads, but no processes. clone3 keeps its flags where no filter can see them: unknown, so clone is
  // used.
  filter.allow("clone", has(0, CLONE_THREAD, CLONE_THREAD));
  filter.kill("clone", has(0, CLONE_THREAD, 0));
  // From here on no code is added to the process, neither from written memory nor from a file: a file that
  // was written and then mapped is the same thing. What is needed later was loaded before.
  filter.allow("mmap", has(2, PROT_EXEC, 0));
  filter.kill("mmap", has(2, PROT_EXEC, PROT_EXEC));
  filter.allow("mprotect", has(2, PROT_EXEC, 0));
  filter.kill("mprotect", has(2, PROT_EXEC, PROT_EXEC));
  // Sockets of the network and of this machine. Of the kernel's own conversations only the one about routes,
  // which tells the list of addresses; nothing beyond.
  filter.allow("socket", is(0, AF_UNIX));
  for (const int family : {AF_INET, AF_INET6})
    for (const int type : {SOCK_STREAM, SOCK_DGRAM}) filter.allow("socket", is(0, family), has(1, 0xf, type));
  filter.allow("socket", is(0, AF_NETLINK), is(2, NETLINK_ROUTE));
  filter.kill("socket", is(0, AF_NETLINK), scmp_arg_cmp{2, SCMP_CMP_NE, NETLINK_ROUTE, 0});
  filter.kill("socket", {0, SCMP_CMP_GT, AF_NETLINK, 0});
  // Signals to itself only: what raise and abort do.
  const auto self = static_cast<uint64_t>(::getpid());
  filter.allow("tgkill", is(0, self));
  filter.allow("kill", is(0, self));
  filter.allow("prlimit64", is(0, 0));
  for (const unsigned long request :
       {FIOCLEX, FIONBIO, FIONCLEX, FIONREAD, SIOCGIFINDEX, SIOCGIFNAME, TCGETS, TIOCGWINSZ})
    filter.allow("ioctl", is(1, request));
  for (const uint64_t option : {PR_GET_NAME, PR_SET_NAME, 0x53564d41 /* PR_SET_VMA, of malloc */})
    filter.allow("prctl", is(0, option));
  return filter.load();
}

}  // namespace postern::proxy
