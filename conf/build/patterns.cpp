// SPDX-License-Identifier: GPL-3.0-or-later
// Globs and regular expressions of HTTP routes, as far as configuration cares: are they sound?
#include "conf/build/patterns.hpp"

#include <re2/re2.h>

#include "conf/text.hpp"

namespace postern::conf {
namespace {

constexpr int64_t most_pattern_memory = 8 << 20;

/// Behind "[": how far the class reaches, its "]" included, or 0 if it does not end or has a reversed range.
size_t class_length(std::string_view rest) {
  size_t at = 0;
  if (at < rest.size() && (rest[at] == '!' || rest[at] == '^')) ++at;
  const size_t first = at;
  while (at < rest.size()) {
    if (rest[at] == ']' && at > first) return at + 1;
    if (at + 2 < rest.size() && rest[at + 1] == '-' && rest[at + 2] != ']') {
      if (static_cast<unsigned char>(rest[at]) > static_cast<unsigned char>(rest[at + 2])) return 0;
      at += 3;
    } else {
      ++at;
    }
  }
  return 0;
}

}  // namespace

std::string glob_fault(std::string_view glob) {
  bool in_braces = false;
  for (size_t at = 0; at < glob.size(); ++at) {
    switch (glob[at]) {
      case '\\':
        if (++at == glob.size()) return "ends in a lone backslash";
        break;
      case '[': {
        const size_t length = class_length(glob.substr(at + 1));
        if (length == 0) return "has a character class that does not end, or whose range is reversed";
        at += length;
        break;
      }
      case '{':
        if (in_braces) return "has alternatives within alternatives";
        in_braces = true;
        break;
      case '}':
        if (!in_braces) return "has a \"}\" without its \"{\"";
        in_braces = false;
        break;
      default:
        break;
    }
  }
  if (in_braces) return "has a \"{\" without its \"}\"";
  return glob.empty() ? "is empty" : "";
}

std::string pattern_fault(std::string_view pattern) {
  RE2::Options options;
  options.set_log_errors(false);
  options.set_max_mem(most_pattern_memory);
  const RE2 compiled(re2::StringPiece(pattern.data(), pattern.size()), options);
  if (!compiled.ok()) return "is not a valid regular expression: " + compiled.error();
  return compiled.NumberOfCapturingGroups() == 0 ? "has no capture group" : "";
}

}  // namespace postern::conf
