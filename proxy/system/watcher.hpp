// SPDX-License-Identifier: GPL-3.0-or-later
// Tells when files change: by writing, by renaming over, by swapping a directory link on the way to them,
// by going away and coming back. Reports settled changes, once.
#pragma once

#include <uv.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace postern::proxy {

class Watcher {
 public:
  using Report = std::function<void(const std::vector<std::string>& changed)>;
  struct Timing {
    std::chrono::milliseconds settle{300};   // silence after the last event before files are compared
    std::chrono::milliseconds poll{10'000};  // comparison without any event, for file systems that send none
  };

  Watcher(uv_loop_t* loop, Report report) : Watcher(loop, std::move(report), Timing()) {}
  Watcher(uv_loop_t* loop, Report report, Timing timing);
  /// Closes. The loop must still run once for libuv to let go of the handles; it needs nothing of this
  /// object.
  ~Watcher();
  Watcher(const Watcher&) = delete;
  Watcher& operator=(const Watcher&) = delete;

  /// Replaces the set. What a file is like now is what later changes are measured against; a file already
  /// watched keeps its old measure, so no change falls between two sets.
  void watch(const std::vector<std::string>& files);
  /// No report after this.
  void close();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace postern::proxy
