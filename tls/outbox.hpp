// SPDX-License-Identifier: GPL-3.0-or-later
// Where engines put ciphertext: one gather buffer a loop, so that many records leave in one system call.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <span>

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
/// itself: a turn's input bounds it (16 KiB of plaintext and the 21 bytes around them make a record).
class Outbox {
 public:
  Outbox() = default;
  /// Room from the start, so that a first burst need not grow it step by step.
  explicit Outbox(size_t capacity) : data_(new uint8_t[capacity]), capacity_(capacity) {}
  void append(const uint8_t* data, size_t n) {
    if (n == 0) return;
    std::memcpy(reserve(n), data, n);
    size_ += n;
  }
  /// Room for `n` bytes behind the others; what is put there counts after added().
  uint8_t* room(size_t n) { return reserve(n); }
  void added(size_t n) { size_ += n; }
  [[nodiscard]] std::span<const uint8_t> bytes() const { return {data_.get(), size_}; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] size_t size() const { return size_; }
  void clear() { size_ = 0; }

 private:
  uint8_t* reserve(size_t n) {
    if (size_ + n > capacity_) {
      size_t wanted = capacity_ ? capacity_ : 4096;
      while (wanted < size_ + n) wanted *= 2;
      std::unique_ptr<uint8_t[]> bigger(new uint8_t[wanted]);
      if (size_) std::memcpy(bigger.get(), data_.get(), size_);
      data_ = std::move(bigger);
      capacity_ = wanted;
    }
    return data_.get() + size_;
  }
  std::unique_ptr<uint8_t[]> data_;
  size_t size_ = 0;
  size_t capacity_ = 0;
};

}  // namespace postern::tls
