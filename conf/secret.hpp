// SPDX-License-Identifier: GPL-3.0-or-later
// Secret: bytes that are wiped when they go and that nothing can print. Opened only by reveal(),
// which can be searched for.
#pragma once

#include <string.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

namespace postern::conf {

inline void wipe(void* data, size_t size) { ::explicit_bzero(data, size); }
inline void wipe(std::string& text) {
  wipe(text.data(), text.size());
  text.clear();
}

class Secret {
 public:
  Secret() = default;
  explicit Secret(std::string text) : text_(std::move(text)) {}
  Secret(const Secret&) = default;
  Secret(Secret&& other) noexcept { take(other.text_); }
  Secret& operator=(const Secret& other) {
    if (this != &other) {
      wipe(text_);
      text_ = other.text_;
    }
    return *this;
  }
  Secret& operator=(Secret&& other) noexcept {
    if (this != &other) {
      wipe(text_);
      take(other.text_);
    }
    return *this;
  }
  ~Secret() { wipe(text_); }

  [[nodiscard]] std::string_view reveal() const { return text_; }
  [[nodiscard]] bool empty() const { return text_.empty(); }
  bool operator==(const Secret&) const = default;

 private:
  /// Short strings live inside the object, and moving them leaves their bytes behind: they are copied, which
  /// takes no memory, and wiped.
  void take(std::string& other) noexcept {
    if (other.size() > std::string().capacity())
      text_ = std::move(other);
    else
      text_.assign(other.data(), other.size());
    wipe(other);
  }
  std::string text_;
};

}  // namespace postern::conf
