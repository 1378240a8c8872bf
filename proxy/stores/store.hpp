// SPDX-License-Identifier: GPL-3.0-or-later
// One account store, asked by name. A store knows no accounts, no cache and no session: it says what it
// found, that there is nothing, or that it could not say. It lives on the store loop, and no call of it
// blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace postern::proxy {

struct StoreAnswer {
  enum class Kind : uint8_t {
    found,    // `text` is the destination's name
    absent,   // the store knows that there is no mapping
    failed,   // it could not say; `text` is why, for the log
    timeout,  // it did not say in time
  };
  Kind kind = Kind::failed;
  std::string text;
};

/// What operators see of a store.
struct StoreState {
  bool up = false;         // the last thing it said was an answer
  size_t connections = 0;  // open now
  std::string last_error;  // empty while it is up
};

class Store {
 public:
  using Answered = std::function<void(StoreAnswer)>;
  struct Question {
    std::string name;   // normalised, at most 320 bytes, any byte but NUL
    Answered answered;  // called exactly once, on the store loop, maybe before find() returns
  };
  Store() = default;
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;
  virtual ~Store() = default;  // every question still open is answered `failed` first

  /// Everything one turn of the loop has asked, which a store may send together. Each question is answered by
  /// `deadline_ms` (the loop's clock) whatever the store does.
  virtual void find(std::vector<Question> questions, uint64_t deadline_ms) = 0;

  /// Where writes are configured (conf says so; else `failed`). `answered` gets `found` for a write that was
  /// made and `absent` for an erase that found nothing.
  virtual void put(std::string name, std::string destination, uint64_t deadline_ms, Answered answered) = 0;
  virtual void erase(std::string name, uint64_t deadline_ms, Answered answered) = 0;

  [[nodiscard]] virtual StoreState state() const = 0;
};

}  // namespace postern::proxy
