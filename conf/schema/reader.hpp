// SPDX-License-Identifier: GPL-3.0-or-later
// Reading one table of the tree: which keys it has, which of them are known, and what is wrong with them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "conf/config.hpp"
#include "conf/names.hpp"
#include "conf/notation/node.hpp"
#include "conf/problem.hpp"

namespace postern::conf {

/// What wrong a text has, or empty. Never repeats a secret.
using Check = std::string (*)(std::string_view);

/// When a change of a key's value in the file takes effect.
enum class Applies : uint8_t {
  at_once,      // with the reload, also for connections that are there
  connections,  // with the reload, for new connections
  restart,      // when the process starts anew
};
std::string_view name(Applies applies);  // "at once", "new connections", "restart"

/// What a row may say about its key besides name and prose.
struct Limits {
  bool required = false;
  std::string_view alias = {};  // another name for the same key
  uint64_t min = 0;             // of a number, of a duration in milliseconds, of a size in bytes
  uint64_t max = UINT64_MAX;
  Check check = nullptr;             // of a text, or of every text of a list
  bool single = false;               // a lone value is a list of one
  bool filled = false;               // an empty list is an error
  std::string_view unset = "unset";  // what the reference says of a default that is nothing
  Applies applies = Applies::connections;
};

/// Where problems go, and whether unknown keys are problems.
struct Reader {
  Problems& problems;
  bool strict = true;

  /// "must be a string, not the integer 7"
  void wrong_type(const std::string& path, std::string_view wanted, const Node& found, bool secret = false);
};

// Single values. False: a problem was added and `out` is untouched.
bool read_text(Reader&, const Limits&, const Node&, const std::string& path, std::string& out,
               bool secret = false);
bool read_number(Reader&, const Limits&, const Node&, const std::string& path, uint64_t& out);
bool read_bool(Reader&, const Node&, const std::string& path, bool& out);
bool read_duration(Reader&, const Limits&, const Node&, const std::string& path, Duration& out);
bool read_size(Reader&, const Limits&, const Node&, const std::string& path, Size& out);

/// One table while it is read. Every known key is taken once; what was not taken is unknown.
class TableReader {
 public:
  /// `node` must be a table (or YAML's nothing, which is an empty one).
  TableReader(Reader& reader, const Node& node, std::string path);

  static bool is_table(Reader& reader, const Node& node, const std::string& path);

  /// The value of `key` in either spelling or under its alias; null if absent. Both spellings: a problem.
  const Node* take(std::string_view key, std::string_view alias = {});
  /// A key that is known elsewhere and always a mistake here.
  void forbid(std::string_view key, std::string_view why);
  void missing(std::string_view key);
  void report_unknown();

  [[nodiscard]] Reader& reader() const { return reader_; }
  [[nodiscard]] std::string path_of(std::string_view key) const;

 private:
  Reader& reader_;
  const Node& node_;
  std::string path_;
  std::vector<bool> taken_;
  std::vector<std::string_view> known_;
};

}  // namespace postern::conf
