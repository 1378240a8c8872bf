// SPDX-License-Identifier: GPL-3.0-or-later
// Which directories to listen to, and for which names in them, so that no way of changing what a path leads
// to goes unheard.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>

namespace postern::proxy {

/// Directories that exist, by their real path, each with the names in it that matter: links and files on the
/// way, and what is missing.
using WatchPlan = std::map<std::string, std::set<std::string>>;

class WatchPlanner {
 public:
  /// Adds what `file` depends on. The path is absolute.
  void add(const std::string& file);
  [[nodiscard]] const WatchPlan& plan() const { return plan_; }

 private:
  // Nothing: missing, no directory, or links in a circle.
  std::optional<std::string> real_directory(const std::string& path, int links);

  WatchPlan plan_;
  std::unordered_map<std::string, std::optional<std::string>> known_;  // many files share few directories
};

}  // namespace postern::proxy
