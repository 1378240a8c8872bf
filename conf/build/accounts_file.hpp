// SPDX-License-Identifier: GPL-3.0-or-later
// The mapping file, line by line and never as a whole: a million accounts cost one buffer. Checking it and
// building a table from it use the same walk.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "conf/result.hpp"

namespace postern::conf {

struct MappingLine {
  int number = 0;               // 1-based
  std::string_view identifier;  // as written; see normalized()
  std::string_view destination;
  int destination_column = 0;
};

struct MappingVisitor {
  std::function<void(const MappingLine&)> line;
  std::function<void(int number, std::string_view why)> fault;  // a line that is no mapping
};

/// Splits bytes, in pieces of any size, into mapping lines.
class MappingParser {
 public:
  explicit MappingParser(const MappingVisitor& visitor) : visitor_(visitor) {}
  void feed(std::string_view bytes);
  void finish();  // the last line may lack its end

  static constexpr size_t longest_line = 8192;

 private:
  void take(std::string_view line);

  const MappingVisitor& visitor_;
  std::string pending_;  // a line that began in an earlier piece
  int number_ = 0;
};

/// Walks the whole file; an error only if it cannot be read.
Result<void> visit_mapping_file(const std::string& path, const MappingVisitor& visitor);

}  // namespace postern::conf
