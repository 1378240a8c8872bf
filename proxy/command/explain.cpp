// SPDX-License-Identifier: GPL-3.0-or-later
// `postern explain`: the way of one account through the configuration, step by step, with the reason of each.
#include <fmt/core.h>

#include <cstdio>
#include <string>

#include "conf/build/accounts_file.hpp"
#include "conf/build/normalize.hpp"
#include "conf/load.hpp"
#include "protocols/identity.hpp"
#include "proxy/command/commands.hpp"
#include "proxy/server/server.hpp"

namespace postern::proxy {
namespace {

void say(const char* what, const std::string& text) { std::printf("%-12s %s\n", what, text.c_str()); }

struct Found {
  std::string destination;
  int line = 0;
};

/// The last line for the identifier wins, as when the table is loaded.
Found look_up(const conf::Config& config, const std::string& wanted) {
  Found found;
  conf::MappingVisitor visitor;
  visitor.line = [&](const conf::MappingLine& line) {
    if (conf::normalized(line.identifier, config.mapping.normalize) == wanted)
      found = {std::string(line.destination), line.number};
  };
  visitor.fault = [](int, std::string_view) {};  // load() has reported them
  static_cast<void>(conf::visit_mapping_file(config.mapping.file_path, visitor));
  return found;
}

void say_destination(const conf::Config& config, const std::string& name) {
  const conf::DestinationConf* destination = config.destination(name);
  if (!destination) return;
  say("host:", destination->host);
  for (size_t i = 0; i < conf::protocol_count; ++i) {
    if (!destination->legs[i]) continue;
    const conf::LegConf& leg = *destination->legs[i];
    say("leg:", fmt::format("{} port {}, tls {}, forwarding {}", conf::name(static_cast<conf::Protocol>(i)),
                            leg.port, conf::name(leg.tls), conf::name(leg.forwarding)));
  }
}

}  // namespace

int command_explain(const std::string& file, const std::string& account) {
  const conf::Loaded loaded = conf::load(file, conf::Environment::of_process());
  if (print_problems(loaded.problems)) return 1;
  const conf::Config& config = loaded.config;

  say("account:", account);
  const std::string_view identifier =
      protocols::cut_master_user(account, config.routing.master_user_separators);
  if (identifier.size() != account.size())
    say("identifier:", fmt::format("{} (cut at a master-user separator)", identifier));
  if (!protocols::acceptable_identifier(identifier)) {
    say("refused:",
        fmt::format("the identifier is empty, longer than {} bytes, or has a control character, a space or a "
                    "quote; no lookup, no backend",
                    protocols::longest_identifier));
    return 1;
  }
  const std::string wanted = conf::normalized(identifier, config.mapping.normalize);
  if (wanted != identifier) say("normalised:", wanted);

  const Found found = look_up(config, wanted);
  const std::string& fallback = config.routing.default_destination;
  if (found.line)
    say("mapping:", fmt::format("{}:{} says {}", config.mapping.file_path, found.line, found.destination));
  else
    say("mapping:",
        fmt::format("{} has no line for it; routing.default_destination decides", config.mapping.file_path));
  const std::string& destination = found.line ? found.destination : fallback;
  say("destination:", destination);
  say_destination(config, destination);
  if (const std::string& opaque = config.routing.smtp_passthrough_destination; !opaque.empty())
    say("smtp, lmtp:",
        fmt::format("not routed by account: all to {} (routing.smtp_passthrough_destination)", opaque));
  return 0;
}

}  // namespace postern::proxy
