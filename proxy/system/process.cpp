// SPDX-License-Identifier: GPL-3.0-or-later
// Small system calls and their reasons.
#include "proxy/system/process.hpp"

#include <fmt/core.h>
#include <malloc.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <ctime>

namespace postern::proxy {
namespace {

rlimit core_files{};  // as it was before forbid_core_dumps()

}  // namespace

uint64_t raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  if (limit.rlim_cur < limit.rlim_max) {
    rlimit raised = limit;
    raised.rlim_cur = raised.rlim_max;
    if (::setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
  }
  return limit.rlim_cur;
}

void return_large_blocks() {
  constexpr int large = 1 << 20;
  ::mallopt(M_MMAP_THRESHOLD, large);
  ::mallopt(M_TRIM_THRESHOLD, 2 * large);
}

void forbid_core_dumps() {
  if (::getrlimit(RLIMIT_CORE, &core_files) != 0) core_files = {};
  const rlimit none{0, core_files.rlim_max};
  ::setrlimit(RLIMIT_CORE, &none);
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);  // the limit does not bind handlers that read cores from a pipe
}

void settle_core_dumps(bool allowed) {
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, allowed ? &core_files : &none);
  ::prctl(PR_SET_DUMPABLE, allowed ? 1 : 0, 0, 0, 0);
}

void ignore_sigpipe() {
  struct sigaction action {};
  action.sa_handler = SIG_IGN;
  ::sigaction(SIGPIPE, &action, nullptr);
}

void give_memory_back() { ::malloc_trim(0); }

unsigned available_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  const int count = CPU_COUNT(&set);
  return count > 0 ? static_cast<unsigned>(count) : 1;
}

namespace service {
namespace {

/// Without memory of its own: a manager is told also when there is none.
template <class Number>
void notify(fmt::format_string<Number&> text, Number number) {
  std::array<char, 96> line{};
  fmt::format_to_n(line.data(), line.size() - 1, text, number);
  ::sd_notify(0, line.data());
}

}  // namespace

void ready() { ::sd_notify(0, "READY=1"); }

void reloading() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  const int64_t usec = static_cast<int64_t>(now.tv_sec) * 1'000'000 + now.tv_nsec / 1000;
  notify("RELOADING=1\nMONOTONIC_USEC={}", usec);
}

void stopping(uint64_t grace_ms) {
  constexpr uint64_t margin_ms = 5000;
  notify("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", (grace_ms + margin_ms) * 1000);
}

void status(const std::string& text) { ::sd_notify(0, ("STATUS=" + text).c_str()); }

void alive() { ::sd_notify(0, "WATCHDOG=1"); }

uint64_t watchdog_usec() {
  uint64_t usec = 0;
  return ::sd_watchdog_enabled(0, &usec) > 0 ? usec : 0;
}

}  // namespace service
}  // namespace postern::proxy
