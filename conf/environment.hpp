// SPDX-License-Identifier: GPL-3.0-or-later
// What decides besides the file: the process's environment, and what tests and tools may leave out.
#pragma once

#include <optional>
#include <string>

#include "conf/secret.hpp"

namespace postern::conf {

/// The environment variables that matter, as values so that tests need not touch the process.
struct Environment {
  std::optional<std::string> rust_log;
  std::optional<Secret> admin_token;
  static Environment of_process();
};

/// What tests and tools may leave out.
struct LoadOptions {
  bool refuse_unsupported = true;  // settings this build reads and checks but cannot serve yet
  bool touch_files = true;         // whether the files the configuration names are looked at
};

}  // namespace postern::conf
