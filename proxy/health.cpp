// SPDX-License-Identifier: GPL-3.0-or-later
// The rules of management.md 5, line by line.
#include "proxy/health.hpp"

#include <algorithm>

namespace postern::proxy {

Health::Admission Health::admit(const HealthPolicy& policy, uint64_t now_ms) {
  const std::lock_guard lock(mutex_);
  if (policy.threshold == 0 || !tripped_) return Admission::pass;
  if (now_ms < down_until_ || probing_) return Admission::refuse;
  probing_ = true;
  return Admission::probe;
}

bool Health::success() {
  const std::lock_guard lock(mutex_);
  const bool was_down = tripped_;
  clear();
  return was_down;
}

bool Health::failure(const HealthPolicy& policy, Admission admission, Stage stage, const conf::Ip& client,
                     uint64_t now_ms) {
  const std::lock_guard lock(mutex_);
  if (admission == Admission::probe) probing_ = false;
  if (failures_ < UINT32_MAX) ++failures_;
  if (sources_.size() < max_sources && std::find(sources_.begin(), sources_.end(), client) == sources_.end())
    sources_.push_back(client);
  if (stage == Stage::connect) host_level_ = true;

  const bool enough_clients = policy.min_clients == 0 || sources_.size() >= policy.min_clients;
  if (policy.threshold == 0 || failures_ < policy.threshold || !(host_level_ || enough_clients)) return false;
  const bool was_up = !tripped_;
  if (was_up) down_since_ = now_ms;
  tripped_ = true;
  down_until_ = now_ms + policy.cooldown_ms;
  return was_up;
}

void Health::abandon(Admission admission) {
  if (admission != Admission::probe) return;
  const std::lock_guard lock(mutex_);
  probing_ = false;
}

void Health::reset() {
  const std::lock_guard lock(mutex_);
  clear();
}

Health::View Health::view(uint64_t now_ms) const {
  const std::lock_guard lock(mutex_);
  return {failures_,   static_cast<uint32_t>(sources_.size()),
          host_level_, tripped_ && now_ms < down_until_,
          tripped_,    down_since_};
}

void Health::clear() {
  failures_ = 0;
  sources_.clear();
  host_level_ = tripped_ = probing_ = false;
  down_until_ = 0;
}

}  // namespace postern::proxy
