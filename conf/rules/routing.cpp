// SPDX-License-Identifier: GPL-3.0-or-later
// Rules between listeners, routing, destinations and mappings. Each adds its problems and stops no other.
#include <fmt/format.h>

#include <algorithm>

#include "conf/build/accounts_file.hpp"
#include "conf/rules/rules.hpp"
#include "conf/text.hpp"

namespace postern::conf {
namespace {

constexpr int most_mapping_problems = 20;  // a file with the wrong separator would give one a line

bool has_listener(const Draft& draft, Protocol protocol) {
  return std::any_of(draft.config.listeners.begin(), draft.config.listeners.end(),
                     [&](const ListenerConf& l) { return l.protocol == protocol && draft.sound(l.path); });
}

/// Interactive protocols that a sound listener serves and the destination lacks.
std::vector<Protocol> lacking(const Draft& draft, const DestinationConf& destination) {
  std::vector<Protocol> out;
  for (const Protocol p : {Protocol::imap, Protocol::pop3, Protocol::managesieve, Protocol::submission}) {
    if (!destination.leg(p) && has_listener(draft, p)) out.push_back(p);
  }
  return out;
}

void something_listens(const Draft& draft) {
  const bool any = !draft.file.listener.items.empty() || !draft.file.server.listener.items.empty();
  if (!any && !draft.problems().located("admin")) {
    draft.add("listener", "is missing: nothing listens, not even [admin]");
  }
}

void default_destination_serves_every_listener(const Draft& draft) {
  const std::string& wanted = draft.config.routing.default_destination;
  const std::string key = "routing.default_destination";
  if (wanted.empty()) return;
  const DestinationConf* destination = draft.destination(wanted);
  if (destination == nullptr) {
    draft.add(key, quoted(wanted) + " is not a declared destination");
    return;
  }
  if (!draft.sound(destination->path)) return;
  for (const Protocol p : lacking(draft, *destination)) {
    draft.add(key, fmt::format("{} has no {} leg, but there is a listener for it", quoted(wanted), name(p)));
  }
}

void passthrough_listeners_have_a_destination(const Draft& draft) {
  const std::string& wanted = draft.config.routing.smtp_passthrough_destination;
  const std::string key = "routing.smtp_passthrough_destination";
  if (draft.problems().located("routing") && !draft.problems().located(key)) {
    for (const ListenerConf& listener : draft.config.listeners) {
      if (!passthrough(listener.protocol) || !draft.sound(listener.path)) continue;
      draft.add(key, fmt::format("is missing, but {} is a listener for {}", listener.path,
                                 name(listener.protocol)));
      return;
    }
  }
  if (wanted.empty()) return;
  const DestinationConf* destination = draft.destination(wanted);
  if (destination == nullptr) {
    draft.add(key, quoted(wanted) + " is not a declared destination");
  } else if (draft.sound(destination->path)) {
    if (!destination->leg(Protocol::smtp)) draft.add(key, quoted(wanted) + " has no smtp leg");
    if (!destination->leg(Protocol::lmtp) && has_listener(draft, Protocol::lmtp)) {
      draft.add(key, quoted(wanted) + " has no lmtp leg, but there is a listener for it");
    }
  }
}

/// Walks the mapping file once.
class MappingCheck {
 public:
  MappingCheck(const Draft& draft, std::string path) : draft_(draft), path_(std::move(path)) {}

  void run() {
    const MappingVisitor visitor{
        [this](const MappingLine& line) { check(line); },
        [this](int number, std::string_view why) { report(number, 1, std::string(why)); }};
    if (const auto done = visit_mapping_file(path_, visitor); !done) {
      draft_.add("mapping.file.path", quoted(path_) + " " + done.error().text);
    }
    if (found_ > most_mapping_problems) {
      draft_.problems().add_at(path_, {}, "mapping.file",
                               fmt::format("and {} more problems", found_ - most_mapping_problems));
    }
  }

 private:
  void check(const MappingLine& line) {
    name_ = line.destination;  // a member, so that a million look-ups do not allocate
    const auto found = draft_.destination_index.find(name_);
    if (found == draft_.destination_index.end()) {
      report(line.number, line.destination_column, quoted(name_) + " is not a declared destination");
      return;
    }
    if (seen_.size() <= found->second) seen_.resize(draft_.config.destinations.size());
    if (seen_[found->second]) return;
    seen_[found->second] = true;
    const DestinationConf& destination = draft_.config.destinations[found->second];
    if (!draft_.sound(destination.path)) return;
    for (const Protocol p : lacking(draft_, destination)) {
      report(line.number, line.destination_column,
             fmt::format("{} has no {} leg, but there is a listener for it", quoted(name_), name(p)));
    }
  }

  void report(int line, int column, std::string text) {
    if (++found_ > most_mapping_problems) return;
    draft_.problems().add_at(path_, {line, column}, "mapping.file", std::move(text));
  }

  const Draft& draft_;
  std::string path_;
  std::string name_;
  std::vector<bool> seen_;  // by destination
  int found_ = 0;
};

}  // namespace

void check_routing(const Draft& draft) {
  something_listens(draft);
  default_destination_serves_every_listener(draft);
  passthrough_listeners_have_a_destination(draft);
}

void check_mapping(const Draft& draft) {
  if (!draft.file.mapping) return;
  const MappingFile& mapping = *draft.file.mapping;
  const Problems& problems = draft.problems();
  if (mapping.source) {
    const std::string table = join_key("mapping", word_text(*mapping.source));
    if (!problems.located(table)) {
      draft.add(table, fmt::format("is missing, but source = \"{}\"", word_text(*mapping.source)));
    }
  }
  const std::string& path = draft.config.mapping.file_path;
  if (mapping.source == MappingSource::file && !path.empty() && draft.options.touch_files) {
    MappingCheck(draft, path).run();
  }
}

}  // namespace postern::conf
