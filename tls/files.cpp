// SPDX-License-Identifier: GPL-3.0-or-later
// Reading with limits; nothing that blocks, nothing left behind on the stack.
#include "tls/files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <system_error>

#include "conf/secret.hpp"
#include "conf/text.hpp"

namespace postern::tls {
namespace {

constexpr size_t max_size = size_t{1} << 20;  // a chain is a few KiB; this only keeps accidents small

/// Whether a message may show it: a key pasted without its PEM lines must not end up in a log.
bool looks_like_path(std::string_view path) {
  return !path.empty() && path.size() <= 255 && !conf::has_control(path);
}

}  // namespace

conf::Result<std::string> read_small_file(const std::string& path) {
  if (!looks_like_path(path)) return conf::error("neither a file name nor inline PEM");
  const auto failed = [&path](int why) {
    return conf::error("cannot read " + conf::quoted(path) + ": " +
                       std::error_code(why, std::generic_category()).message());
  };
  // O_NONBLOCK: a FIFO put there by mistake must not hang a reload.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return failed(errno);
  struct stat about {};
  int why = ::fstat(fd, &about) != 0 ? errno : 0;
  if (!why && !S_ISREG(about.st_mode)) why = S_ISDIR(about.st_mode) ? EISDIR : EINVAL;
  std::string text;
  if (!why && about.st_size > 0) text.reserve(std::min(max_size, static_cast<size_t>(about.st_size)) + 1);
  while (!why && text.size() <= max_size) {
    char piece[16384];
    const ssize_t n = ::read(fd, piece, sizeof piece);
    if (n == 0) break;
    if (n > 0)
      text.append(piece, static_cast<size_t>(n));
    else if (errno != EINTR)
      why = errno;
    conf::wipe(piece, sizeof piece);
  }
  ::close(fd);
  if (!why && text.size() > max_size) why = EFBIG;
  if (!why) return text;
  conf::wipe(text);
  return failed(why);
}

}  // namespace postern::tls
