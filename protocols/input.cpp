// SPDX-License-Identifier: GPL-3.0-or-later
// One block that grows by halves; what leaves it is wiped first.
#include "protocols/input.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "conf/secret.hpp"

namespace postern::protocols {

Input::Input(Input&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      capacity_(std::exchange(other.capacity_, 0)),
      begin_(std::exchange(other.begin_, 0)),
      end_(std::exchange(other.end_, 0)),
      scanned_(std::exchange(other.scanned_, 0)),
      overlong_(std::exchange(other.overlong_, false)) {}

Input& Input::operator=(Input&& other) noexcept {
  if (this == &other) return *this;
  clear();
  data_ = std::exchange(other.data_, nullptr);
  capacity_ = std::exchange(other.capacity_, 0);
  begin_ = std::exchange(other.begin_, 0);
  end_ = std::exchange(other.end_, 0);
  scanned_ = std::exchange(other.scanned_, 0);
  overlong_ = std::exchange(other.overlong_, false);
  return *this;
}

void Input::append(std::span<const uint8_t> bytes) {
  if (bytes.empty()) return;
  reserve(bytes.size());
  std::memcpy(data_ + end_, bytes.data(), bytes.size());
  end_ += bytes.size();
}

/// Room for `more` bytes behind the end: by moving to the front if half of the block is free, else by
/// growing. Either way a byte is moved a constant number of times. What grows toward the limit does not grow
/// past it before it must; from there on it grows by halves like everything else.
void Input::reserve(size_t more) {
  if (capacity_ - end_ >= more) return;
  const size_t held = size();
  if (begin_ >= held && capacity_ - held >= more && capacity_ >= 2 * held) {
    std::memmove(data_, data_ + begin_, held);
    conf::wipe(data_ + held, end_ - held);
  } else {
    const size_t half_more = held + held / 2;
    const size_t ahead = held < limit ? std::min(half_more, limit) : half_more;
    const size_t wanted = std::max({held + more, ahead, size_t{512}});
    char* const fresh = new char[wanted];
    if (held != 0) std::memcpy(fresh, data_ + begin_, held);
    if (data_) conf::wipe(data_, end_);
    delete[] data_;
    data_ = fresh;
    capacity_ = wanted;
  }
  scanned_ -= begin_;
  begin_ = 0;
  end_ = held;
}

std::optional<std::string_view> Input::line(size_t longest) {
  overlong_ = false;
  if (begin_ == end_) return std::nullopt;
  const char* const from = data_ + scanned_;
  const auto* const lf = static_cast<const char*>(std::memchr(from, '\n', end_ - scanned_));
  if (!lf) {
    scanned_ = end_;
    overlong_ = size() > longest + 1;  // one more may be the CR
    return std::nullopt;
  }
  std::string_view text(data_ + begin_, static_cast<size_t>(lf - data_) - begin_);
  const size_t whole = text.size() + 1;
  if (text.ends_with('\r')) text.remove_suffix(1);
  if (text.size() > longest) {
    overlong_ = true;
    return std::nullopt;
  }
  begin_ += whole;
  scanned_ = begin_;
  return text;
}

void Input::consume(size_t count) {
  begin_ += std::min(count, size());
  scanned_ = std::max(scanned_, begin_);
}

void Input::clear() {
  if (data_) conf::wipe(data_, end_);
  delete[] data_;
  data_ = nullptr;
  capacity_ = begin_ = end_ = scanned_ = 0;
  overlong_ = false;
}

}  // namespace postern::protocols
