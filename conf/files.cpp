// SPDX-License-Identifier: GPL-3.0-or-later
// O_NONBLOCK and fstat first: a path that names a pipe or a device must not hang the start.
#include "conf/files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace postern::conf {
namespace {

tl::unexpected<Error> system_error(int code) {
  return error(std::string("cannot be read: ") + std::strerror(code));  // NOLINT: one thread loads
}

}  // namespace

Result<int> open_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return system_error(errno);
  struct stat status {};
  const bool known = ::fstat(fd, &status) == 0;
  if (known && S_ISREG(status.st_mode)) return fd;
  const int code = errno;
  ::close(fd);
  if (!known) return system_error(code);
  return error(S_ISDIR(status.st_mode) ? "cannot be read: it is a directory"
                                       : "cannot be read: it is not a regular file");
}

Result<std::string> read_file(const std::string& path, size_t most) {
  const auto fd = open_file(path);
  if (!fd) return tl::unexpected(fd.error());
  std::string out;
  std::array<char, 65536> buffer{};
  while (true) {
    const ssize_t got = ::read(*fd, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    const int code = errno;
    if (got <= 0) {
      ::close(*fd);
      if (got < 0) return system_error(code);
      return out;
    }
    out.append(buffer.data(), static_cast<size_t>(got));
    if (out.size() > most) {
      ::close(*fd);
      return error("is larger than " + std::to_string(most) + " bytes");
    }
  }
}

std::string file_fault(const std::string& path) {
  const auto fd = open_file(path);
  if (!fd) return fd.error().text;
  ::close(*fd);
  return {};
}

std::string exposure(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return {};
  if (status.st_mode & S_IROTH) return "can be read by every user of this machine";
  if (!(status.st_mode & S_IRGRP)) return {};
  // An owner's own group has its number wherever users have groups of their own. No look into the list of
  // users: that may ask a directory server.
  const bool own_group = status.st_gid == status.st_uid;
  const bool needless = status.st_uid == ::geteuid() && status.st_uid != 0;  // we read it as its owner
  if (!own_group && !needless) return {};
  return "can be read by everybody in group " + std::to_string(status.st_gid);
}

}  // namespace postern::conf
