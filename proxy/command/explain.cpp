// SPDX-License-Identifier: GPL-3.0-or-later
// `postern explain`: the way of one account through the configuration, step by step, with the reason of each.
#include <fmt/core.h>

#include <chrono>
#include <cstdio>
#include <optional>
#include <string>

#include "conf/build/accounts_file.hpp"
#include "conf/build/normalize.hpp"
#include "conf/load.hpp"
#include "protocols/identity.hpp"
#include "proxy/command/commands.hpp"
#include "proxy/routing/answers_file.hpp"
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

/// What the mapping file says, empty for nothing.
std::optional<std::string> ask_file(const conf::Config& config, const std::string& wanted) {
  const Found found = look_up(config, wanted);
  const std::string& path = config.mapping.file_path;
  if (found.line)
    say("mapping:", fmt::format("{}:{} says {}", path, found.line, found.destination));
  else
    say("mapping:", fmt::format("{} has no line for it; routing.default_destination decides", path));
  return found.destination;
}

/// What a Postern that has just started with this configuration would do without an answer of the store.
std::optional<std::string> without_answer(const conf::Config& config, const std::string& wanted,
                                          const std::string& why) {
  say("mapping:", "the store gives no answer: " + why);
  RouteCache cache(config.mapping);
  cache.keep_stale(config.mapping.stale_ttl);
  if (!config.mapping.snapshot.empty())
    if (const auto text = read_answers(config.mapping.snapshot); text && !text->empty())
      if (const auto file = parse_answers(*text);
          file && file->fingerprint == answers_fingerprint(config.mapping)) {
        const auto now = std::chrono::system_clock::now().time_since_epoch();
        restore_answers(*file, config, cache, 0,
                        std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
      }
  const LookupAnswer answer = without_store(cache, LookupRules::of(config, 0), wanted, 0, true, why);
  if (answer.kind == LookupAnswer::Kind::failed) {
    say("answer:", "a temporary failure, unless a running Postern knows the account from before");
    return std::nullopt;
  }
  if (answer.kind == LookupAnswer::Kind::mapped)
    say("source:", fmt::format("snapshot {}, {} s old", config.mapping.snapshot, answer.age_ms / 1000));
  else
    say("source:", "default (mapping.on_error); wrong for an account that has moved");
  return answer.destination;
}

/// Asks the store itself, by the code that asks it for logins; it is not written to.
std::optional<std::string> ask_store(const conf::Config& config, const std::string& wanted) {
  conf::Problems problems(config.file);
  Snapshot snapshot;
  snapshot.config = config;
  snapshot.store = plan_store(config, problems);
  if (!snapshot.store) {
    print_problems(problems);
    return std::nullopt;
  }
  NameService names;
  const LookupAnswer answer = ask_store_once(snapshot, names, wanted);
  if (answer.kind == LookupAnswer::Kind::failed) return without_answer(config, wanted, answer.why);
  if (answer.kind == LookupAnswer::Kind::mapped)
    say("mapping:", fmt::format("{} says {}", snapshot.store->name, answer.destination));
  else
    say("mapping:", fmt::format("{} has no mapping for it, or to a destination that is not declared; "
                                "routing.default_destination decides",
                                snapshot.store->name));
  say("source:", "store");
  return answer.destination;
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

  const std::optional<std::string> mapped = config.mapping.source == conf::MappingSource::file
                                                ? ask_file(config, wanted)
                                                : ask_store(config, wanted);
  if (!mapped) return 1;
  const std::string& destination = mapped->empty() ? config.routing.default_destination : *mapped;
  say("destination:", destination);
  say_destination(config, destination);
  if (const std::string& opaque = config.routing.smtp_passthrough_destination; !opaque.empty())
    say("smtp, lmtp:",
        fmt::format("not routed by account: all to {} (routing.smtp_passthrough_destination)", opaque));
  return 0;
}

}  // namespace postern::proxy
