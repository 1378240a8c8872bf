// SPDX-License-Identifier: GPL-3.0-or-later
// Small grammars: durations print and parse back; globs, patterns, pins, filters and identifiers never crash;
// a mapping file gives the same lines however it is cut.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "conf/build/accounts_file.hpp"
#include "conf/build/normalize.hpp"
#include "conf/build/patterns.hpp"
#include "conf/scalars.hpp"
#include "conf/text.hpp"
#include "conf/utf8.hpp"

using namespace postern::conf;

namespace {

void require(bool held) {
  if (!held) std::abort();
}

std::vector<std::string> mapping_lines(std::string_view text, size_t piece) {
  std::vector<std::string> out;
  const MappingVisitor visitor{
      [&](const MappingLine& line) {
        out.push_back(std::to_string(line.number) + std::string(line.identifier) + ">" +
                      std::string(line.destination));
      },
      [&](int number, std::string_view why) { out.push_back(std::to_string(number) + std::string(why)); }};
  MappingParser parser(visitor);
  for (size_t at = 0; at < text.size(); at += piece) parser.feed(text.substr(at, piece));
  parser.finish();
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto value = parse_duration(text)) {
    require(value->count() >= 0);
    require(parse_duration(duration_text(*value)) == *value);
  }
  if (const auto pin = parse_pin(text)) require(pin->size() == 32);
  if (parse_log_level(text, LogLevel::info)) require(!text.empty());
  glob_fault(text);
  pattern_fault(text);
  is_host(text);
  require(quoted(text).find_first_of("\r\n") == std::string::npos);
  const std::string small = normalized(text, Normalize::lowercase);
  require(normalized(small, Normalize::lowercase) == small);
  require(is_utf8(small) == is_utf8(text));
  const auto whole = mapping_lines(text, text.size() + 1);
  require(mapping_lines(text, 1) == whole);
  require(mapping_lines(text, 7) == whole);
  return 0;
}
