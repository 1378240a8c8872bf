// SPDX-License-Identifier: GPL-3.0-or-later
// What this build reads and checks but does not serve yet. Whoever builds one of them deletes its row.
#include <algorithm>
#include <array>

#include "conf/rules/rules.hpp"
#include "conf/text.hpp"

namespace postern::conf {
namespace {

struct Feature {
  std::string_view key;    // "*" stands for the name of a table
  std::string_view value;  // empty: any value, also a table
};

constexpr auto unsupported = std::to_array<Feature>({
    {"listener.*.protocol", "http"},
    {"http.route", ""},
    {"admin", ""},
    {"server.listener_state", ""},
});

bool is_unsupported(std::string_view key, std::string_view value) {
  return std::any_of(unsupported.begin(), unsupported.end(), [&](const Feature& feature) {
    return feature.key == key && (feature.value.empty() || feature.value == value);
  });
}

}  // namespace

void refuse_unsupported(const Draft& draft) {
  constexpr const char* text = "not supported by this build yet";
  const auto refuse = [&](std::string_view feature, const std::string& key, std::string_view value) {
    if (!draft.problems().located(key) || !is_unsupported(feature, value)) return;
    draft.add(key, value.empty() ? text : quoted(value) + ": " + text);
  };
  for (const ListenerConf& listener : draft.config.listeners) {
    if (draft.sound(listener.path))
      refuse("listener.*.protocol", listener.path + ".protocol", name(listener.protocol));
  }
  for (const std::string_view key : {"http.route", "admin", "server.listener_state"}) {
    refuse(key, std::string(key), "");
  }
}

}  // namespace postern::conf
