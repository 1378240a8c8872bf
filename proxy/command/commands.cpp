// SPDX-License-Identifier: GPL-3.0-or-later
// The subcommands that only look and print.
#include "proxy/command/commands.hpp"

#include <fmt/core.h>

#include <cstdio>
#include <string>
#include <vector>

#include "conf/load.hpp"
#include "conf/schema/changes.hpp"
#include "conf/schema/describe.hpp"
#include "proxy/base/log.hpp"
#include "proxy/base/version.hpp"
#include "proxy/server/make_snapshot.hpp"
#include "proxy/server/server.hpp"
#include "tls/context.hpp"

namespace postern::proxy {
namespace {

void print(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

void print_warnings(const conf::Problems& problems) {
  for (const conf::Problem& problem : problems.all())
    if (problem.warning) std::fprintf(stderr, "warning: %s\n", problem.line().c_str());
}

/// What would change if the configuration `wanted` took the place of the one in `file`.
int print_changes(const std::string& file, const conf::Config& wanted) {
  const conf::Loaded running = conf::load(file, conf::Environment::of_process());
  if (print_problems(running.problems)) return 1;
  const std::vector<conf::Change> changes = conf::changes(running.config, wanted);
  print(fmt::format("against {}: {}\n", file, changes.empty() ? "nothing changes" : "these keys change"));
  for (const conf::Applies when :
       {conf::Applies::at_once, conf::Applies::connections, conf::Applies::restart})
    for (const conf::Change& change : changes)
      if (change.applies == when) print(fmt::format("  {:<15}  {}\n", conf::name(when), change.key));
  return 0;
}

}  // namespace

int command_run(const std::string& file, const Confinement& confinement) {
  if (auto assumed = assume_user(confinement); !assumed) {
    std::fprintf(stderr, "%s\n", assumed.error().text.c_str());
    return 1;
  }
  return Server(file, confinement).run();
}

int command_check(const std::string& file, const std::string& running) {
  conf::Loaded loaded = conf::load(file, conf::Environment::of_process());
  // Certificates and the like are looked at even if something else is wrong: all problems at once.
  Counters counters(1);
  ProcessState state;
  state.counters = &counters;
  state.tickets = std::make_shared<tls::TicketKeys>();
  state.own = std::make_shared<std::vector<conf::SocketAddress>>();
  std::vector<std::string> restart;
  if (loaded.parsed) make_snapshot(loaded.config, state, nullptr, Rotation::strict, loaded.problems, restart);
  loaded.problems.sort();
  print_warnings(loaded.problems);
  if (print_problems(loaded.problems)) return 1;
  print(fmt::format("{}: configuration is valid\n", file));
  return running.empty() ? 0 : print_changes(running, loaded.config);
}

int command_schema() {
  print(conf::json_schema());
  return 0;
}

int command_reference() {
  print(conf::reference_markdown());
  return 0;
}

int command_version() {
  const tls::Library& library = tls::library();
  std::string groups;
  for (const conf::Group group : library.groups) groups += fmt::format(" {}", conf::name(group));
  print(fmt::format("postern {}\n{} ({}), AES instructions {}, groups{}\n", version, library.version,
                    library.bundled ? "own build" : "system library",
                    library.fast_aes ? "in use" : "not in use", groups));
  for (const std::string& warning : library.warnings) print(fmt::format("WARNING: {}\n", warning));
  return 0;
}

}  // namespace postern::proxy
