// SPDX-License-Identifier: GPL-3.0-or-later
// Where engines put ciphertext: one gather buffer a loop, so that many records leave in one system call.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <utility>

namespace postern::tls {

/// Ciphertext from the wire; an engine takes from the front what it needs.
struct Input {
  const uint8_t* data = nullptr;
  size_t size = 0;
  void skip(size_t n) {
    data += n;
    size -= n;
  }
};

/// Invariant: bytes()[0, size) is what engines appended since the last clear(). Grows, never shrinks by
/// itself: a turn's input bounds it (16 KiB of plaintext and the 21 bytes around them make a record). Without
/// memory to grow it says so and stays as it is: the library that writes here knows no exceptions.
class Outbox {
 public:
  Outbox() = default;
  /// Room from the start, so that a first burst need not grow it step by step.
  explicit Outbox(size_t capacity) : data_(new uint8_t[capacity]), capacity_(capacity) {}
  /// False: there was no memory.
  bool append(const uint8_t* data, size_t n) noexcept {
    if (n == 0) return true;
    uint8_t* const to = room(n);
    if (!to) return false;
    std::memcpy(to, data, n);
    size_ += n;
    return true;
  }
  /// Room for `n` bytes behind the others, or null; what is put there counts after added().
  uint8_t* room(size_t n) noexcept {
    if (size_ + n > capacity_) {
      size_t wanted = capacity_ ? capacity_ : 4096;
      while (wanted < size_ + n) wanted *= 2;
      std::unique_ptr<uint8_t[]> bigger(new (std::nothrow) uint8_t[wanted]);
      if (!bigger) return nullptr;
      if (size_) std::memcpy(bigger.get(), data_.get(), size_);
      data_ = std::move(bigger);
      capacity_ = wanted;
    }
    return data_.get() + size_;
  }
  void added(size_t n) { size_ += n; }
  [[nodiscard]] std::span<const uint8_t> bytes() const { return {data_.get(), size_}; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] size_t size() const { return size_; }
  void clear() { size_ = 0; }

 private:
  std::unique_ptr<uint8_t[]> data_;
  size_t size_ = 0;
  size_t capacity_ = 0;
};

}  // namespace postern::tls
