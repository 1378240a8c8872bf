// SPDX-License-Identifier: GPL-3.0-or-later
// The command line: which subcommand, which file.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "conf/text.hpp"
#include "proxy/command/commands.hpp"
#include "proxy/system/process.hpp"
#include "tls/context.hpp"

namespace {

constexpr std::string_view usage =
    R"(usage: postern [run] [OPTION...] CONFIG  serve; without CONFIG the path is taken from PROXY_CONFIG
         --user=USER[:GROUP]           as root: become this user, keep nothing once the ports are bound
         --seccomp[=on|log|off]        refuse system calls it has no use for; log: only report them
       postern check CONFIG            validate as a start would; print every problem, bind nothing
         --against RUNNING             and what differs from that configuration, and when it would apply
       postern explain CONFIG ACCOUNT  how an account would be routed, and why
       postern schema                  JSON Schema of the configuration
       postern reference               reference of the configuration, in Markdown
       postern healthcheck [URL]       ask a running Postern whether it serves (for container probes)
       postern --version | --help
)";

constexpr std::array<std::string_view, 6> commands = {"run",    "check",     "explain",
                                                      "schema", "reference", "healthcheck"};
constexpr std::array<std::string_view, 4> options = {"--user", "--seccomp", "--version", "--help"};
constexpr std::array<std::string_view, 1> check_options = {"--against"};

int complain(const std::string& text) {
  std::fprintf(stderr, "postern: %s\n%.*s", text.c_str(), static_cast<int>(usage.size()), usage.data());
  return 2;
}

/// "unknown command "chekc"; did you mean "check"?"
int complain_unknown(const char* what, std::string_view word, std::span<const std::string_view> known) {
  const std::string_view close = postern::conf::nearest(word.substr(0, word.find('=')), known);
  if (close == word) return complain(fmt::format("{} needs a value", word));
  return complain(fmt::format("unknown {} \"{}\"{}", what, word,
                              close.empty() ? "" : fmt::format("; did you mean \"{}\"?", close)));
}

/// A first word that is no command is a path, but not where it can only be a slip of the fingers.
bool is_slip(std::span<char*> words) {
  if (words.empty()) return false;
  const std::string_view first = words.front();
  if (first.starts_with('-') || ::access(words.front(), F_OK) == 0) return false;
  if (words.size() > 1) return !std::string_view(words[1]).starts_with('-');
  return !postern::conf::nearest(first, commands).empty();
}

std::optional<std::string> config_path(std::span<char*> arguments) {
  if (!arguments.empty()) return arguments.front();
  const char* path = std::getenv("PROXY_CONFIG");
  if (path && *path) return path;
  return std::nullopt;
}

/// Takes the options of `run` out of the words, wherever they stand; a later one wins. Returns the first that
/// is none, or null.
const char* take_options(std::span<char*>& words, postern::proxy::Confinement& chosen) {
  using Calls = postern::proxy::Confinement::Calls;
  size_t kept = 0;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string_view word = words[i];
    if (word.starts_with("--user=") && word.size() > 7)
      chosen.user = word.substr(7);
    else if (word == "--user" && i + 1 < words.size() && *words[i + 1])
      chosen.user = words[++i];
    else if (word == "--seccomp" || word == "--seccomp=on")
      chosen.calls = Calls::filtered;
    else if (word == "--seccomp=log")
      chosen.calls = Calls::logged;
    else if (word == "--seccomp=off")
      chosen.calls = Calls::all;
    else if (word.starts_with('-'))
      return words[i];
    else
      words[kept++] = words[i];
  }
  words = words.first(kept);
  return nullptr;
}

/// The same for the one of `check`.
const char* take_against(std::span<char*>& words, std::string& running) {
  size_t kept = 0;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string_view word = words[i];
    if (word.starts_with("--against=") && word.size() > 10)
      running = word.substr(10);
    else if (word == "--against" && i + 1 < words.size() && *words[i + 1])
      running = words[++i];
    else if (word.starts_with('-') && word.size() > 1)
      return words[i];
    else
      words[kept++] = words[i];
  }
  words = words.first(kept);
  return nullptr;
}

int dispatch(std::string_view verb, std::span<char*> arguments, const postern::proxy::Confinement& chosen,
             const std::string& running) {
  using namespace postern::proxy;
  if (verb == "schema") return command_schema();
  if (verb == "reference") return command_reference();
  if (verb == "healthcheck") {
    if (!arguments.empty()) return command_healthcheck(arguments.front());
    const auto file = config_path({});
    const std::string url = file ? health_url(*file) : std::string();
    return url.empty() ? complain("healthcheck needs a URL, or PROXY_CONFIG with a [metrics] table")
                       : command_healthcheck(url);
  }
  const auto file = config_path(arguments);
  if (!file) return complain("no configuration: give a path or set PROXY_CONFIG");
  if (verb == "check") return command_check(*file, running);
  if (verb == "explain")
    return arguments.size() < 2 ? complain("explain needs a configuration and an account")
                                : command_explain(*file, arguments[1]);
  return command_run(*file, chosen);
}

}  // namespace

int main(int argc, char** argv) {
  postern::proxy::forbid_core_dumps();
  postern::proxy::ignore_sigpipe();
  std::span<char*> arguments(argv + 1, argc > 0 ? static_cast<size_t>(argc - 1) : 0);
  std::string_view verb = "run";
  if (!arguments.empty()) {
    const std::string_view first = arguments.front();
    if (first == "--help" || first == "-h") {
      std::fwrite(usage.data(), 1, usage.size(), stdout);
      return 0;
    }
    if (first == "--version" || first == "-V") {
      postern::tls::init();
      return postern::proxy::command_version();
    }
    const auto named = std::ranges::find(commands, first);
    if (named != commands.end())
      verb = *named;
    else if (first == "--check")
      verb = "check";
    else if (is_slip(arguments))
      return complain_unknown("command", first, commands);
    if (verb != "run" || first == "run") arguments = arguments.subspan(1);
  }
  postern::proxy::Confinement chosen;
  std::string running;
  if (verb == "run") {
    if (const char* strange = take_options(arguments, chosen))
      return complain_unknown("option", strange, options);
  } else if (verb == "check") {
    if (const char* strange = take_against(arguments, running))
      return complain_unknown("option", strange, check_options);
  } else {
    for (const std::string_view word : arguments)
      if (word.starts_with('-') && word.size() > 1) return complain_unknown("option", word, {});
  }
  const size_t most = verb == "explain" ? 2 : verb == "schema" || verb == "reference" ? 0 : 1;
  if (arguments.size() > most) return complain("too many arguments");
  postern::tls::init();
  return dispatch(verb, arguments, chosen, running);
}
