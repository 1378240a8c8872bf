// SPDX-License-Identifier: GPL-3.0-or-later
// A regular file of at most 4 KiB: a pipe or a device would hold up whoever reads it.
#include "proxy/stores/password.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace postern::proxy {

conf::Result<conf::Secret> read_password(const std::string& path, const char* key) {
  const auto wrong = [key](const char* what) { return conf::error(std::string(key) + ": " + what); };
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return wrong(std::strerror(errno));
  std::array<char, 4097> bytes{};
  struct stat facts {};
  const bool regular = ::fstat(fd, &facts) == 0 && S_ISREG(facts.st_mode);
  size_t size = 0;
  ssize_t n = regular ? 1 : 0;
  while (n > 0 && size < bytes.size()) {
    do n = ::read(fd, bytes.data() + size, bytes.size() - size);
    while (n < 0 && errno == EINTR);
    if (n > 0) size += static_cast<size_t>(n);
  }
  const int error = errno;
  ::close(fd);
  const std::string_view text(bytes.data(), size);
  conf::Secret password(std::string(text.substr(0, text.find_first_of("\r\n"))));
  conf::wipe(bytes.data(), bytes.size());
  if (!regular) return wrong("is no regular file");
  if (n < 0) return wrong(std::strerror(error));
  if (size == bytes.size()) return wrong("is larger than 4 KiB");
  if (password.empty()) return wrong("is empty");
  if (password.reveal().find('\0') != std::string_view::npos) return wrong("holds a NUL");
  return password;
}

}  // namespace postern::proxy
