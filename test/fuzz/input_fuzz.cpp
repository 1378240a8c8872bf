// SPDX-License-Identifier: GPL-3.0-or-later
// The input against a plain string that does the same: a program of appends, lines and bytes consumed.
#include "protocols/input.hpp"

#include <algorithm>
#include <string>

#include "test/fuzz/require.hpp"

using namespace postern;
using fuzz::require;

namespace {

/// What Input::line promises, said the slow way.
std::optional<std::string> line_of(std::string& held, size_t longest, bool& overlong) {
  const size_t lf = held.find('\n');
  overlong = false;
  if (lf == std::string::npos) {
    overlong = held.size() > longest + 1;
    return std::nullopt;
  }
  std::string line = held.substr(0, lf);
  if (line.ends_with('\r')) line.pop_back();
  if (line.size() > longest) {
    overlong = true;
    return std::nullopt;
  }
  held.erase(0, lf + 1);
  return line;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  protocols::Input in;
  std::string held;
  for (size_t i = 0; i < size;) {
    const uint8_t order = data[i++];
    const size_t count = order & 0x3f;
    switch (order >> 6) {
      case 0: {
        const std::string_view piece = fuzz::text_of(data + i, std::min(count, size - i));
        i += piece.size();
        in.append(piece);
        held += piece;
        break;
      }
      case 1: {
        bool overlong = false;
        const auto wanted = line_of(held, count, overlong);
        const auto line = in.line(count);
        require(line == wanted, "another line");
        require(in.overlong() == overlong, "overlong, or not");
        break;
      }
      case 2:
        in.consume(count);
        held.erase(0, count);
        break;
      default:
        if (count == 0) {
          in.clear();
          held.clear();
        } else if (count < 8) {
          protocols::Input other(std::move(in));
          in = std::move(other);
        } else {
          const std::string many(count * 97, count % 2 == 0 ? '\n' : 'x');
          in.append(many);
          held += many;
        }
    }
    require(in.view() == held && in.empty() == held.empty(), "another rest");
    require(in.full() == (held.size() >= protocols::Input::limit), "full, or not");
  }
  return 0;
}
