// SPDX-License-Identifier: GPL-3.0-or-later
// Any bytes as TOML: loading ends, never throws, every problem is one line with a place within the text, and
// loading again gives the same.
#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "conf/load.hpp"

using namespace postern;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const conf::LoadOptions options{.refuse_unsupported = false, .touch_files = false};
  const conf::Loaded loaded = conf::load_text("fuzz.toml", text, {}, options);
  const auto lines = 1 + std::count(text.begin(), text.end(), '\n');
  for (const conf::Problem& problem : loaded.problems.all()) {
    const std::string line = problem.line();
    if (line.find_first_of("\r\n") != std::string::npos) std::abort();
    if (problem.place.line < 0 || problem.place.line > lines) std::abort();
    if (problem.text.empty()) std::abort();
  }
  const conf::Loaded again = conf::load_text("fuzz.toml", text, {}, options);
  if (!(again.config == loaded.config) || again.problems.all().size() != loaded.problems.all().size())
    std::abort();
  return 0;
}
