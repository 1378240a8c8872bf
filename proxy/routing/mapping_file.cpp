// SPDX-License-Identifier: GPL-3.0-or-later
// Two walks over the file: one to know how much there is, one to keep it without a byte to spare.
#include "proxy/routing/mapping_file.hpp"

#include <fmt/core.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <string_view>
#include <unordered_map>

#include "conf/build/accounts_file.hpp"
#include "conf/build/normalize.hpp"
#include "proxy/base/keyed_hash.hpp"

namespace postern::proxy {
namespace {

constexpr size_t most_faults = 100;  // a broken file need not flood the log
/// A file younger than this when it is read may change once more without its times showing it.
constexpr int64_t settled_ns = 100'000'000;

int64_t nanoseconds(const timespec& t) { return static_cast<int64_t>(t.tv_sec) * 1'000'000'000 + t.tv_nsec; }

int64_t wall_clock() {
  return std::chrono::nanoseconds(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

std::optional<FileMapping::Origin> FileMapping::origin_of(const conf::Config& config) {
  struct stat found {};
  if (::stat(config.mapping.file_path.c_str(), &found) != 0) return std::nullopt;
  Origin origin;
  origin.path = config.mapping.file_path;
  origin.device = found.st_dev;
  origin.inode = found.st_ino;
  origin.size = static_cast<uint64_t>(found.st_size);
  origin.modified_ns = nanoseconds(found.st_mtim);
  origin.changed_ns = nanoseconds(found.st_ctim);
  origin.normalize = config.mapping.normalize;
  for (const conf::DestinationConf& destination : config.destinations)
    origin.destinations.push_back(destination.name);
  return origin;
}

std::shared_ptr<const MappingStore> FileMapping::load(const conf::Config& config,
                                                      const std::shared_ptr<const MappingStore>& previous,
                                                      conf::Problems& problems) {
  const auto origin = origin_of(config);
  const auto* old = dynamic_cast<const FileMapping*>(previous.get());
  if (origin && old && old->origin_ == *origin) return previous;

  auto made = std::make_shared<FileMapping>();
  if (origin && wall_clock() - origin->changed_ns > settled_ns) made->origin_ = *origin;
  for (const conf::DestinationConf& destination : config.destinations)
    made->names_.push_back(destination.name);
  std::unordered_map<std::string_view, size_t> numbers;
  for (size_t i = 0; i < made->names_.size(); ++i) numbers.emplace(made->names_[i], i);
  for (size_t most = made->names_.size(); most > 256; most = (most + 255) / 256) ++made->width_;

  const std::string& path = config.mapping.file_path;
  size_t faults = 0;
  const auto fault = [&](int line, int column, const std::string& why) {
    if (++faults <= most_faults) problems.add_at(path, {line, column}, {}, why);
  };
  size_t lines = 0, bytes = 0;
  conf::MappingVisitor measure;
  measure.line = [&](const conf::MappingLine& line) {
    ++lines;
    bytes += line.identifier.size() + made->width_;
  };
  measure.fault = [](int, std::string_view) {};
  if (!conf::visit_mapping_file(path, measure)) lines = 0;
  made->reserve(lines, bytes);

  conf::MappingVisitor keep;
  keep.line = [&](const conf::MappingLine& line) {
    const auto number = numbers.find(line.destination);
    if (number == numbers.end())
      return fault(line.number, line.destination_column,
                   fmt::format("destination \"{}\" is not declared", line.destination));
    if (!made->add(conf::normalized(line.identifier, config.mapping.normalize), number->second))
      fault(line.number, 1, "the file is too large");
  };
  keep.fault = [&](int line, std::string_view why) { fault(line, 1, std::string(why)); };
  if (auto read = conf::visit_mapping_file(path, keep); !read) {
    problems.add("mapping.file.path", read.error().text);
    return nullptr;
  }
  return faults == 0 ? made : nullptr;
}

void FileMapping::reserve(size_t lines, size_t bytes) {
  text_.reserve(bytes);
  slots_.assign(std::max<size_t>(8, lines + lines / 3 + 1), Slot());
}

/// The identifier's slot, or the free one where it would stand. Invariant: there is always a free one.
size_t FileMapping::slot_of(std::string_view identifier) const {
  auto at = static_cast<size_t>(((keyed_hash(identifier) >> 32) * slots_.size()) >> 32);
  while (slots_[at].length != 0 && text(slots_[at]) != identifier) at = at + 1 == slots_.size() ? 0 : at + 1;
  return at;
}

bool FileMapping::add(std::string_view identifier, size_t destination) {
  if (identifier.empty() || text_.size() + width_ + identifier.size() > std::numeric_limits<uint32_t>::max())
    return false;
  if (count_ + count_ / 4 + 1 >= slots_.size()) grow();  // lines came between the two walks
  Slot& slot = slots_[slot_of(identifier)];
  if (slot.length == 0) {
    slot.at = static_cast<uint32_t>(text_.size() + width_);
    slot.length = static_cast<uint32_t>(identifier.size());
    text_.resize(text_.size() + width_);
    text_.insert(text_.end(), identifier.begin(), identifier.end());
    ++count_;
  }
  for (size_t i = 0; i < width_; ++i)  // the last line wins
    text_[slot.at - 1 - i] = static_cast<char>(destination >> 8 * i & 0xff);
  return true;
}

size_t FileMapping::destination(const Slot& slot) const {
  size_t number = 0;
  for (size_t i = width_; i > 0; --i) number = number << 8 | static_cast<unsigned char>(text_[slot.at - i]);
  return number;
}

void FileMapping::grow() {
  const std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(slots_.size() * 2));
  for (const Slot& slot : old)
    if (slot.length != 0) slots_[slot_of(text(slot))] = slot;
}

const std::string* FileMapping::find(std::string_view identifier) const {
  if (identifier.empty() || slots_.empty()) return nullptr;
  const Slot& slot = slots_[slot_of(identifier)];
  return slot.length == 0 ? nullptr : &names_[destination(slot)];
}

}  // namespace postern::proxy
