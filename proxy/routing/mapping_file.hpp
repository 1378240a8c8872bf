// SPDX-License-Identifier: GPL-3.0-or-later
// Where accounts are looked up. A store is immutable once made; a changed source makes another.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "conf/config.hpp"
#include "conf/problem.hpp"

namespace postern::proxy {

class MappingStore {
 public:
  virtual ~MappingStore() = default;
  /// The destination named for a normalised identifier, or nothing. From any thread, at once: a store that
  /// must ask somebody else will need another door.
  [[nodiscard]] virtual const std::string* find(std::string_view identifier) const = 0;
  [[nodiscard]] virtual size_t size() const = 0;
};

/// A mapping file in memory: one block of text and one open-addressed index, about the file's size and 12
/// bytes an account.
class FileMapping final : public MappingStore {
 public:
  /// Reads and checks the file; what is wrong goes to `problems`, and then there is no table. `previous` is
  /// handed back if the file has not changed since it was read.
  static std::shared_ptr<const MappingStore> load(const conf::Config& config,
                                                  const std::shared_ptr<const MappingStore>& previous,
                                                  conf::Problems& problems);

  [[nodiscard]] const std::string* find(std::string_view identifier) const override;
  [[nodiscard]] size_t size() const override { return count_; }

 private:
  struct Slot {
    uint32_t at = 0;      // of the identifier in text_; the number of its destination stands before it
    uint32_t length = 0;  // 0: free
  };
  /// What tells one state of a file from another, and what its lines were read for.
  struct Origin {
    std::string path;
    uint64_t device = 0, inode = 0, size = 0;
    int64_t modified_ns = 0, changed_ns = 0;
    conf::Normalize normalize = conf::Normalize::none;
    std::vector<std::string> destinations;
    bool operator==(const Origin&) const = default;
  };
  static std::optional<Origin> origin_of(const conf::Config& config);

  void reserve(size_t lines, size_t bytes);
  bool add(std::string_view identifier, size_t destination);
  [[nodiscard]] size_t destination(const Slot& slot) const;
  [[nodiscard]] size_t slot_of(std::string_view identifier) const;
  [[nodiscard]] std::string_view text(const Slot& slot) const {
    return {text_.data() + slot.at, slot.length};
  }
  void grow();

  Origin origin_;
  std::vector<std::string> names_;
  size_t width_ = 1;  // bytes that the number of a destination takes in text_
  std::vector<char> text_;
  std::vector<Slot> slots_;
  size_t count_ = 0;
};

}  // namespace postern::proxy
