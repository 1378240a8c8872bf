// SPDX-License-Identifier: GPL-3.0-or-later
// The subcommands of `postern`; each returns the exit code (management.md 1.4).
#pragma once

#include <string>

#include "proxy/system/confinement.hpp"

namespace postern::proxy {

int command_run(const std::string& file, const Confinement& confinement);
/// `running`: also tells what differs from that configuration, and when it would apply; empty: it does not.
int command_check(const std::string& file, const std::string& running);
int command_explain(const std::string& file, const std::string& account);
int command_schema();
int command_reference();
int command_healthcheck(const std::string& url);
int command_version();
/// Where `postern healthcheck` asks when told nothing: the metrics listener of this file. Empty: it has none.
std::string health_url(const std::string& file);

}  // namespace postern::proxy
