// SPDX-License-Identifier: GPL-3.0-or-later
// One mapping a line: identifier, white space, destination; what follows is ignored (configuration.md 4.8).
#include "conf/build/accounts_file.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "conf/files.hpp"
#include "conf/text.hpp"

namespace postern::conf {

void MappingParser::take(std::string_view line) {
  ++number_;
  if (line.size() > longest_line) {
    visitor_.fault(number_, "the line is too long");
    return;
  }
  constexpr std::string_view white = " \t\r\v\f";
  const size_t first = line.find_first_not_of(white);
  if (first == std::string_view::npos || line[first] == '#') return;
  const size_t first_end = std::min(line.find_first_of(white, first), line.size());
  const size_t second = line.find_first_not_of(white, first_end);
  if (second == std::string_view::npos) {
    visitor_.fault(number_, "a mapping needs an identifier and a destination");
    return;
  }
  const size_t second_end = std::min(line.find_first_of(white, second), line.size());
  visitor_.line({number_, line.substr(first, first_end - first), line.substr(second, second_end - second),
                 static_cast<int>(second) + 1});
}

void MappingParser::feed(std::string_view bytes) {
  while (!bytes.empty()) {
    const size_t end = bytes.find('\n');
    const std::string_view piece = bytes.substr(0, end);
    // One byte more than allowed is kept, so that take() sees the line was too long.
    pending_ += piece.substr(0, std::min(piece.size(), longest_line + 1 - pending_.size()));
    if (end == std::string_view::npos) return;
    take(pending_);
    pending_.clear();
    bytes.remove_prefix(end + 1);
  }
}

void MappingParser::finish() {
  if (!pending_.empty()) take(pending_);
  pending_.clear();
}

Result<void> visit_mapping_file(const std::string& path, const MappingVisitor& visitor) {
  const auto fd = open_file(path);
  if (!fd) return tl::unexpected(fd.error());
  MappingParser parser(visitor);
  std::array<char, 65536> buffer{};
  while (true) {
    const ssize_t got = ::read(*fd, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      const int code = errno;
      ::close(*fd);
      if (got < 0) return error(std::string("cannot be read: ") + std::strerror(code));  // NOLINT
      parser.finish();
      return {};
    }
    parser.feed({buffer.data(), static_cast<size_t>(got)});
  }
}

}  // namespace postern::conf
