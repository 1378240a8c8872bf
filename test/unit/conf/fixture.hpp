// SPDX-License-Identifier: GPL-3.0-or-later
// A folder with the files documents refer to ("@" in a document is that folder), and the base document of
// configuration.md 5, of which every rejection is a small change.
#pragma once

#include <doctest/doctest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "conf/load.hpp"

namespace postern::conf {

class Folder {
 public:
  Folder() {
    std::string pattern = std::filesystem::temp_directory_path() / "postern-conf-XXXXXX";
    path_ = ::mkdtemp(pattern.data());
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] const std::string& path() const { return path_; }
  std::string write(const std::string& name, std::string_view text) const {
    std::ofstream(path_ + "/" + name, std::ios::binary) << text;
    return path_ + "/" + name;
  }

 private:
  std::string path_;
};

inline std::string replaced(std::string text, std::string_view from, std::string_view to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  return text;
}

inline constexpr std::string_view base_document = R"([mapping]
source = "file"
[mapping.file]
path = "@/M"
[routing]
default_destination = "legacy"
[destination.legacy]
host = "127.0.0.1"
proxy_protocol = false
allow_plaintext_auth = true
[destination.legacy.protocol.imap]
port = 1143
tls = "plain"
[listener.front]
protocol = "imap"
bind = ["127.0.0.1:2143"]
tls = "plain"
)";

inline const LoadOptions everything = {.refuse_unsupported = false};
inline const LoadOptions no_files = {.refuse_unsupported = false, .touch_files = false};

inline std::string lines_of(const Loaded& loaded) {
  std::string out;
  for (const Problem& problem : loaded.problems.all()) {
    out += (problem.warning ? "warning: " : "") + problem.line() + "\n";
  }
  return out;
}

/// Loads a TOML document without looking at files.
inline Loaded load_toml(std::string_view text) { return load_text("test.toml", text, {}, no_files); }
inline Loaded load_yaml(std::string_view text) { return load_text("test.yaml", text, {}, no_files); }

/// The base document with more behind it.
inline std::string base_and(std::string_view more) { return std::string(base_document) + std::string(more); }

inline const Problem* find_problem(const Loaded& loaded, std::string_view key, bool warning = false) {
  for (const Problem& problem : loaded.problems.all()) {
    if (problem.key == key && problem.warning == warning) return &problem;
  }
  return nullptr;
}

}  // namespace postern::conf
