// SPDX-License-Identifier: GPL-3.0-or-later
// [server], and the tables that are taken over nearly as they stand.
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "conf/build/draft.hpp"
#include "conf/text.hpp"

namespace postern::conf {
namespace {

template <Protocol p>
void build_capabilities(Draft& draft, const Capabilities<p>& from) {
  std::vector<std::string> seen;
  for (const std::string& mechanism : from.sasl) {
    std::string folded = ascii_lower(mechanism);
    if (std::find(seen.begin(), seen.end(), folded) != seen.end()) {
      draft.add(fmt::format("capabilities.{}.sasl", name(p)), quoted(mechanism) + " is there twice");
    }
    seen.push_back(std::move(folded));
  }
  draft.config.capabilities[static_cast<size_t>(p)] = from;
}

}  // namespace

void build_server(Draft& draft) {
  ServerConf& server = draft.config.server;
  server = draft.file.server.conf;
  if (const auto level = parse_log_level(draft.file.server.log_level, LogLevel::info)) {
    server.log_level = *level;
  } else {
    draft.add("server.log_level", level.error().text);
  }
  if (const auto& rust_log = draft.environment.rust_log) {
    server.log_level = parse_log_level(*rust_log, server.log_level).value_or(server.log_level);
  }
}

void build_rest(Draft& draft) {
  File& file = draft.file;
  // What the operator lists is announced as it stands; the list of ours fits what there is.
  const bool jmap = std::ranges::any_of(draft.config.listeners,
                                        [](const ListenerConf& l) { return l.protocol == Protocol::http; });
  if (jmap && !draft.problems().located("capabilities.imap.advertise"))
    file.capabilities.imap.advertise.emplace_back("JMAPACCESS");
  build_capabilities(draft, file.capabilities.imap);
  build_capabilities(draft, file.capabilities.pop3);
  build_capabilities(draft, file.capabilities.managesieve);
  build_capabilities(draft, file.capabilities.submission);
  draft.config.oauth = file.oauth;
  draft.config.metrics = file.metrics;
  if (file.routing) {
    draft.config.routing = *file.routing;
    std::erase(draft.config.routing.master_user_separators, std::string());
  }
  build_mapping(draft);
}

}  // namespace postern::conf
