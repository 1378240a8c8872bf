// SPDX-License-Identifier: GPL-3.0-or-later
// From [mapping] to an account store: what this build has, and how one is made. Each library is optional when
// Postern is built.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "conf/config.hpp"
#include "conf/problem.hpp"
#include "proxy/stores/store.hpp"

namespace postern::proxy {

class Loop;

/// A store that a configuration asks for: checked, the files it needs read, and ready to be made.
struct StorePlan {
  bool reads_files = false;  // beside passwords, so that a reload makes it anew
  std::string name;          // what records and pages call it: "redis", "postgres", "mysql" or "sqlite"
  /// On the loop's own thread, where the store stays and is destroyed before the loop stops. It opens nothing
  /// before it is asked.
  std::function<std::unique_ptr<Store>(Loop& loop)> make;
};

/// Null for mapping files, which are no such store, and where something is wrong: then `problems` says what.
/// Reads files, so it is for the start and for reloads.
std::shared_ptr<const StorePlan> plan_store(const conf::Config& config, conf::Problems& problems);

}  // namespace postern::proxy
