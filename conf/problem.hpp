// SPDX-License-Identifier: GPL-3.0-or-later
// What is wrong with a configuration, and where. Everything that checks collects here; nobody stops
// at the first finding.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace postern::conf {

struct Place {
  int line = 0;  // 1-based; 0: unknown (a key that is missing altogether)
  int column = 0;
  bool operator==(const Place&) const = default;
};

struct Problem {
  std::string file;
  Place place;
  std::string key;  // "listener.imap.bind", or empty for the file as a whole
  std::string text;
  bool warning = false;

  /// "FILE:LINE:COL: key.path: what is wrong" (configuration.md 0).
  [[nodiscard]] std::string line() const;
};

/// Collects problems; knows where each key of the file stands, so that checks name only the key.
class Problems {
 public:
  explicit Problems(std::string file = {}) : file_(std::move(file)) {}

  void locate(std::string key, Place place) { places_.insert_or_assign(std::move(key), place); }
  /// Where `key` stands; for an absent key its nearest present parent.
  [[nodiscard]] Place where(std::string_view key) const;

  void add(std::string key, std::string text);
  void warn(std::string key, std::string text);
  void add_at(std::string file, Place place, std::string key,
              std::string text);  // another file, e.g. mappings

  /// Puts the problems of this file in its order; those of other files stay behind.
  void sort();

  [[nodiscard]] bool ok() const { return errors_ == 0; }  // warnings are fine
  [[nodiscard]] size_t errors() const { return errors_; }
  /// Whether `key` or something below it has an error already: no use in looking closer.
  [[nodiscard]] bool blames(std::string_view key) const;
  /// Whether the file has `key` itself.
  [[nodiscard]] bool located(std::string_view key) const { return places_.find(key) != places_.end(); }
  [[nodiscard]] const std::vector<Problem>& all() const { return list_; }
  [[nodiscard]] const std::string& file() const { return file_; }

 private:
  std::string file_;
  std::map<std::string, Place, std::less<>> places_;
  std::vector<Problem> list_;
  size_t errors_ = 0;
};

}  // namespace postern::conf
