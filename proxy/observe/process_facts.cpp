// SPDX-License-Identifier: GPL-3.0-or-later
// What the kernel knows of this process. A fact that cannot be had is zero.
#include <dirent.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

#include "proxy/observe/exposition.hpp"

namespace postern::proxy {
namespace {

double seconds(const timeval& t) {
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
}

uint64_t open_descriptors() {
  struct stat status {};
  // Linux 6.2 and later keep count; before that the entries must be read.
  if (::stat("/proc/self/fd", &status) == 0 && status.st_size > 0)
    return static_cast<uint64_t>(status.st_size);
  DIR* directory = ::opendir("/proc/self/fd");
  if (!directory) return 0;
  uint64_t entries = 0;
  while (const dirent* entry = ::readdir(directory))
    if (entry->d_name[0] != '.') ++entries;
  ::closedir(directory);
  return entries > 0 ? entries - 1 : 0;  // not the one that was reading
}

}  // namespace

ProcessFacts process_facts() {
  ProcessFacts facts;
  rusage usage{};
  if (::getrusage(RUSAGE_SELF, &usage) == 0)
    facts.cpu_seconds = seconds(usage.ru_utime) + seconds(usage.ru_stime);
  if (std::FILE* file = std::fopen("/proc/self/statm", "re")) {
    unsigned long total = 0;
    unsigned long resident = 0;
    if (std::fscanf(file, "%lu %lu", &total, &resident) == 2) {
      const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
      facts.virtual_bytes = total * page;
      facts.resident_bytes = resident * page;
    }
    std::fclose(file);
  }
  facts.open_fds = open_descriptors();
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) facts.max_fds = limit.rlim_cur;
  return facts;
}

}  // namespace postern::proxy
