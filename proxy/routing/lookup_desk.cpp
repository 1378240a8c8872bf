// SPDX-License-Identifier: GPL-3.0-or-later
#include "proxy/routing/lookup_desk.hpp"

#include <utility>

namespace postern::proxy {

uint64_t LookupDesk::ask(std::string name, uint64_t deadline_ms, Answered hear, void* asker) {
  const uint64_t number = next_++;
  unsent_.push_back({number, std::move(name), deadline_ms});
  waiting_.emplace(number, Asker{hear, asker});  // should that fail, the answer is for nobody
  return number;
}

void LookupDesk::flush() {
  if (unsent_.empty() || !send_) return;
  send_(std::exchange(unsent_, {}));
}

void LookupDesk::answered(std::vector<Answer> answers) {
  for (Answer& one : answers) {
    const auto at = waiting_.find(one.number);  // anew each time: an answer may be the end of other askers
    if (at == waiting_.end()) continue;
    const Asker asker = at->second;
    waiting_.erase(at);
    asker.answered(asker.self, std::move(one.answer));
  }
}

}  // namespace postern::proxy
