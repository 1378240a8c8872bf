// SPDX-License-Identifier: GPL-3.0-or-later
// Rules of HTTP routes and of the management listener.
#include <fmt/format.h>

#include "conf/build/patterns.hpp"
#include "conf/files.hpp"
#include "conf/rules/rules.hpp"
#include "conf/text.hpp"

namespace postern::conf {
namespace {

constexpr size_t largest_token_file = 65536;

void route_destination(const Draft& draft, const std::string& key, const std::string& wanted) {
  const DestinationConf* destination = draft.destination(wanted);
  if (destination == nullptr) {
    draft.add(key, quoted(wanted) + " is not a declared destination");
  } else if (!destination->leg(Protocol::http) && draft.sound(destination->path)) {
    draft.add(key, quoted(wanted) + " has no http leg");
  }
}

void extraction(const Draft& draft, const std::string& path, const ExtractFile& extract) {
  const auto needs = [&](ExtractFrom from, std::string_view key, const std::optional<std::string>& value) {
    if (extract.from != from || value || draft.problems().located(join_key(path, key))) return;
    draft.add(join_key(path, key), fmt::format("is missing, but from = \"{}\" needs it", word_text(from)));
  };
  needs(ExtractFrom::query, "param", extract.param);
  needs(ExtractFrom::header, "header", extract.header);
  needs(ExtractFrom::body, "regex", extract.regex);
  if (!extract.regex) return;
  if (const std::string fault = pattern_fault(*extract.regex); !fault.empty()) {
    draft.add(path + ".regex", quoted(*extract.regex) + " " + fault);
  }
}

void route(const Draft& draft, const std::string& path, const RouteFile& route) {
  if (draft.problems().located(path + ".match")) {
    if (const std::string fault = glob_fault(route.match); !fault.empty()) {
      draft.add(path + ".match", quoted(route.match) + " " + fault);
    }
  }
  if (route.destination) route_destination(draft, path + ".destination", *route.destination);
  if (route.fallback && (*route.fallback != "default" || draft.destination("default") != nullptr)) {
    route_destination(draft, path + ".fallback", *route.fallback);
  }
  if (route.extract) extraction(draft, path + ".extract", *route.extract);
  if (route.destination && route.extract) {
    draft.problems().warn(path + ".extract", "has no effect: destination wins");
  }
}

/// Surrounding white space is no part of a token in a file.
std::optional<Secret> token_of_file(const Draft& draft, const std::string& path) {
  auto text = read_file(path, largest_token_file);
  if (!text) {
    draft.add("admin.bearer_token_file", quoted(path) + " " + text.error().text);
    return std::nullopt;
  }
  if (const std::string others = exposure(path); !others.empty())
    draft.problems().warn("admin.bearer_token_file", quoted(path) + " " + others);
  Secret token{std::string(trimmed(*text))};
  wipe(*text);
  return token;
}

}  // namespace

void check_http(const Draft& draft) {
  const auto& routes = draft.file.http.route;
  for (size_t i = 0; i < routes.size(); ++i) route(draft, join_index("http.route", i), routes[i]);
}

void check_admin(const Draft& draft) {
  if (!draft.file.admin) return;
  const AdminFile& admin = *draft.file.admin;
  if (admin.tls != "implicit")
    draft.add("admin.tls", quoted(admin.tls) + " is not possible; must be \"implicit\"");
  std::optional<Secret> token;
  std::string key = "admin.bearer_token";
  if (admin.bearer_token_file && draft.options.touch_files) {
    // Read even if the environment wins: a path that leads nowhere is a mistake either way.
    token = token_of_file(draft, *admin.bearer_token_file);
    if (!token && !draft.environment.admin_token) return;
    key = "admin.bearer_token_file";
  }
  if (!token && !admin.bearer_token.empty()) token = admin.bearer_token;
  if (draft.environment.admin_token) {
    token = *draft.environment.admin_token;
    key = "admin";
  }
  if (!token) {
    if (!draft.problems().located("admin.bearer_token") &&
        !draft.problems().located("admin.bearer_token_file")) {
      draft.add(key, "is missing, and so are bearer_token_file and PROXY_ADMIN_TOKEN");
    }
    return;
  }
  const size_t length = token->reveal().size();
  if (length < admin.min_token_len) {
    const std::string_view where = key == "admin" ? "the token in PROXY_ADMIN_TOKEN has" : "the token has";
    draft.add(key, fmt::format("{} {} bytes, but min_token_len is {}", where, length, admin.min_token_len));
  }
}

}  // namespace postern::conf
