// SPDX-License-Identifier: GPL-3.0-or-later
// What a peer has sent and nobody has looked at yet. Every byte is scanned once, however it arrives; what is
// consumed is wiped, since it may be a password.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace postern::protocols {

class Input {
 public:
  /// A peer that has sent this much ahead is not read from any more (protocols.md 1.3).
  static constexpr size_t limit = 72 * 1024;

  Input() = default;
  ~Input() { clear(); }
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;
  Input(Input&& other) noexcept;
  Input& operator=(Input&& other) noexcept;

  void append(std::span<const uint8_t> bytes);
  void append(std::string_view text) { append({reinterpret_cast<const uint8_t*>(text.data()), text.size()}); }

  [[nodiscard]] bool empty() const { return begin_ == end_; }
  [[nodiscard]] size_t size() const { return end_ - begin_; }
  [[nodiscard]] size_t capacity() const { return capacity_; }
  [[nodiscard]] bool full() const { return size() >= limit; }
  /// Everything unconsumed; valid until the next call that is not const.
  [[nodiscard]] std::string_view view() const { return {data_ + begin_, size()}; }

  /// Takes the next line, its LF or CR LF dropped, if it is whole; the view is valid until the next call that
  /// is not const. Nothing and overlong(): more than `longest` bytes stand there without a line end in reach,
  /// or the line is longer than that.
  std::optional<std::string_view> line(size_t longest);
  [[nodiscard]] bool overlong() const { return overlong_; }

  void consume(size_t count);
  /// Wipes everything and gives the memory back.
  void clear();

 private:
  void reserve(size_t more);

  char* data_ = nullptr;
  size_t capacity_ = 0;
  size_t begin_ = 0;    // first byte unconsumed
  size_t end_ = 0;      // behind the last byte received
  size_t scanned_ = 0;  // no LF in [begin_, scanned_)
  bool overlong_ = false;
};

}  // namespace postern::protocols
