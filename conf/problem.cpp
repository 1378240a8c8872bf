// SPDX-License-Identifier: GPL-3.0-or-later
// How problems are placed and printed.
#include "conf/problem.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "conf/text.hpp"

namespace postern::conf {

std::string Problem::line() const {
  std::string out = file;
  if (place.line > 0) out += fmt::format(":{}:{}", place.line, place.column);
  out += ": ";
  if (!key.empty()) out += key + ": ";
  return on_one_line(out + text);  // what libraries say may span lines
}

Place Problems::where(std::string_view key) const {
  // A dot inside a quoted name gives a path nobody located, so the search just goes on.
  while (true) {
    if (const auto found = places_.find(key); found != places_.end()) return found->second;
    if (key.empty()) return {};
    const size_t cut = key.find_last_of(".[");
    key = key.substr(0, cut == std::string_view::npos ? 0 : cut);
  }
}

void Problems::add(std::string key, std::string text) {
  const Place place = where(key);
  list_.push_back({file_, place, std::move(key), std::move(text), false});
  ++errors_;
}

void Problems::warn(std::string key, std::string text) {
  const Place place = where(key);
  list_.push_back({file_, place, std::move(key), std::move(text), true});
}

void Problems::add_at(std::string file, Place place, std::string key, std::string text) {
  list_.push_back({std::move(file), place, std::move(key), std::move(text), false});
  ++errors_;
}

bool Problems::blames(std::string_view key) const {
  if (ok()) return false;
  return std::any_of(list_.begin(), list_.end(), [&](const Problem& problem) {
    const std::string_view at = problem.key;
    return !problem.warning && at.starts_with(key) && (at.size() == key.size() || at[key.size()] == '.');
  });
}

void Problems::sort() {
  std::stable_sort(list_.begin(), list_.end(), [this](const Problem& a, const Problem& b) {
    const auto rank = [this](const Problem& p) {
      const bool here = p.file == file_;
      return std::tuple(!here, here ? p.place.line : 0, here ? p.place.column : 0);
    };
    return rank(a) < rank(b);
  });
}

}  // namespace postern::conf
