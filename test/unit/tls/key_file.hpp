// SPDX-License-Identifier: GPL-3.0-or-later
// Files of ticket keys for tests.
#pragma once

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "test/unit/tls/pair.hpp"

namespace postern::tls {

/// One line: a name and a secret, each made of one letter of a to d.
inline std::string hex(char name, char key) {
  const auto pair = [](char c) {
    return std::string(c == 'a' ? "aa" : c == 'b' ? "bb" : c == 'c' ? "cc" : "0D");
  };
  std::string line;
  for (int i = 0; i < 16; ++i) line += pair(name);
  for (int i = 0; i < 32; ++i) line += pair(key);
  return line;
}
/// A file that is gone at the end.
struct KeyFile {
  std::string path;
  explicit KeyFile(const std::string& text) {
    path = (std::filesystem::temp_directory_path() / "postern-keys-XXXXXX").string();
    const int fd = ::mkstemp(path.data());
    REQUIRE(fd >= 0);
    ::close(fd);
    write(text);
  }
  ~KeyFile() { std::remove(path.c_str()); }
  KeyFile(const KeyFile&) = delete;
  KeyFile& operator=(const KeyFile&) = delete;
  void write(const std::string& text) const { std::ofstream(path, std::ios::binary) << text; }
  [[nodiscard]] conf::TicketConf conf() const {
    conf::TicketConf conf;
    conf.file = path;
    return conf;
  }
};

}  // namespace postern::tls
