// SPDX-License-Identifier: GPL-3.0-or-later
// A mail loop's side of lookups: the questions of one turn leave together, and an answer finds who asked by a
// number, or nobody. No pointer travels to the store loop.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "proxy/routing/lookups.hpp"

namespace postern::proxy {

class LookupDesk {
 public:
  struct Question {
    uint64_t number = 0;
    std::string name;
    uint64_t deadline_ms = 0;
  };
  struct Answer {
    uint64_t number = 0;
    LookupAnswer answer;
  };
  using Send = std::function<void(std::vector<Question>)>;
  using Answered = void (*)(void* asker, LookupAnswer answer) noexcept;

  /// Where questions go from now on.
  void connect(Send send) { send_ = std::move(send); }

  /// The number under which `answered` will be called with `asker`, once, in a later turn. Never 0.
  uint64_t ask(std::string name, uint64_t deadline_ms, Answered answered, void* asker);
  /// The asker is gone. The store is asked all the same, for the cache.
  void forget(uint64_t number) { waiting_.erase(number); }
  /// The turn is over.
  void flush();
  void answered(std::vector<Answer> answers);
  [[nodiscard]] size_t waiting() const { return waiting_.size(); }

 private:
  struct Asker {
    Answered answered;
    void* self;
  };
  Send send_;
  uint64_t next_ = 1;
  std::vector<Question> unsent_;
  std::unordered_map<uint64_t, Asker> waiting_;
};

}  // namespace postern::proxy
