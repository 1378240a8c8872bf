// SPDX-License-Identifier: GPL-3.0-or-later
// A path is walked as the kernel walks it, link by link.
#include "proxy/system/watch_plan.hpp"

#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

namespace postern::proxy {
namespace {

namespace fs = std::filesystem;

constexpr int links_max = 40;  // the kernel's own limit
constexpr size_t path_max = 4096;

/// "/a/b/" to "/a" and "b"; the root to itself and nothing.
std::pair<std::string, std::string> split(std::string_view path) {
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  if (slash == std::string_view::npos || path.size() == 1) return {"/", ""};
  return {std::string(slash == 0 ? "/" : path.substr(0, slash)), std::string(path.substr(slash + 1))};
}

std::string join(const std::string& directory, const std::string& name) {
  if (name.starts_with('/')) return name;
  return directory.ends_with('/') ? directory + name : directory + '/' + name;
}

}  // namespace

void WatchPlanner::add(const std::string& file) {
  std::string path = file;
  for (int links = 0; links < links_max && path.size() < path_max; ++links) {
    const auto [parent, name] = split(path);
    const auto directory = real_directory(parent, links);
    if (!directory || name.empty()) return;
    plan_[*directory].insert(name);
    path = join(*directory, name);
    std::error_code error;
    const fs::path target = fs::read_symlink(path, error);
    if (error) return;  // no link: the file itself, or nothing yet
    path = join(*directory, target.string());
  }
}

std::optional<std::string> WatchPlanner::real_directory(const std::string& path, int links) {
  if (links >= links_max || path.size() >= path_max) return std::nullopt;
  const auto [parent, name] = split(path);
  if (name.empty()) return "/";
  if (const auto known = known_.find(path); known != known_.end()) return known->second;

  auto real = real_directory(parent, links);
  if (real && name == "..") {
    real = split(*real).first;
  } else if (real && name != ".") {
    const std::string full = join(*real, name);
    std::error_code error;
    const auto type = fs::symlink_status(full, error).type();
    if (type == fs::file_type::symlink) {
      plan_[*real].insert(name);
      const fs::path target = fs::read_symlink(full, error);
      real = error ? std::nullopt : real_directory(join(*real, target.string()), links + 1);
    } else if (type == fs::file_type::directory) {
      real = full;
    } else {
      plan_[*real].insert(name);  // to come
      real = std::nullopt;
    }
  }
  known_.emplace(path, real);
  return real;
}

}  // namespace postern::proxy
