// SPDX-License-Identifier: GPL-3.0-or-later
// The door to conf/: a path in, a checked Config or every problem at once out.
#pragma once

#include <string>
#include <string_view>

#include "conf/config.hpp"
#include "conf/environment.hpp"
#include "conf/problem.hpp"

namespace postern::conf {

struct Loaded {
  Config config;
  Problems problems;  // errors and warnings; whoever checks more (certificates, sockets) adds to it
  /// Whether there was a configuration to read. Without one `config` holds nothing worth a further look.
  bool parsed = false;
  [[nodiscard]] bool ok() const { return problems.ok(); }
};

/// Reads and checks the whole file: syntax, types, ranges, rules across keys, the mapping file. Never throws.
Loaded load(const std::string& path, const Environment& environment, const LoadOptions& options = {});
/// The same for text already in memory; the name decides the format (.yaml, .yml, .json; else TOML).
Loaded load_text(const std::string& name, std::string_view text, const Environment& environment,
                 const LoadOptions& options = {});

}  // namespace postern::conf
