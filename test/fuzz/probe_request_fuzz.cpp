// SPDX-License-Identifier: GPL-3.0-or-later
// The head of a probe's request under any bytes: no verdict is taken back as bytes arrive, what follows a
// head does not change it, and a path never leaves the input.
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "proxy/manage/probe_request.hpp"

using namespace postern::proxy;

namespace {

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const ProbeRequest whole = parse_probe_request(bytes);
  if (whole.verdict == ProbeVerdict::complete) {
    require(whole.consumed <= size && whole.consumed >= 16,
            "consumed more than there is, or less than a head");
    require(bytes.substr(0, whole.consumed).ends_with("\r\n\r\n"), "a head without its end");
    require(whole.path.starts_with('/'), "no path");
    require(whole.path == "/" || (whole.path.data() > bytes.data() &&
                                  whole.path.data() + whole.path.size() <= bytes.data() + whole.consumed),
            "a path from elsewhere");
    require(whole.path.find_first_of("? \r\n") == std::string_view::npos, "a path with more than a path");
  } else {
    require(whole.consumed == 0 && !whole.keep_alive, "something kept of a refused head");
    if (whole.verdict == ProbeVerdict::more) require(size < probe_head_max, "more than any head");
  }
  for (size_t n = size <= 1024 ? 0 : size; n < size; ++n) {
    const ProbeRequest part = parse_probe_request(bytes.substr(0, n));
    if (part.verdict == ProbeVerdict::more) {
      require(whole.verdict != ProbeVerdict::complete || n < whole.consumed, "complete, then more");
      continue;
    }
    require(part.verdict == whole.verdict && part.consumed == whole.consumed, "a verdict taken back");
    require(part.method == whole.method && part.path == whole.path && part.keep_alive == whole.keep_alive,
            "another request");
  }
  return 0;
}
