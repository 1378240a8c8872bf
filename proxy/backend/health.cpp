// SPDX-License-Identifier: GPL-3.0-or-later
// The rules of management.md 5, line by line.
#include "proxy/backend/health.hpp"

#include <algorithm>
#include <array>

namespace postern::proxy {
namespace {

/// Who counts as one client: an IPv4 address, or an IPv6 network of 64 bits, since one customer has them all.
conf::Ip one_client(const conf::Ip& ip) {
  if (ip.is_v4()) return ip;
  std::array<uint8_t, 16> network{};
  std::copy_n(ip.bytes().begin(), 8, network.begin());
  return conf::Ip::v6(network);
}

}  // namespace

Health::Admission Health::admit(const HealthPolicy& policy, uint64_t now_ms) {
  const std::lock_guard lock(mutex_);
  if (policy.threshold == 0 || !tripped_) return Admission::pass;
  if (now_ms < down_until_ || trying_) return Admission::refuse;
  trying_ = true;
  answered_ = false;
  return Admission::trial;
}

bool Health::success() {
  const std::lock_guard lock(mutex_);
  const bool was_down = tripped_;
  answered_ = true;
  clear();
  return was_down;
}

bool Health::failure(const HealthPolicy& policy, Stage stage, const conf::Ip& client) {
  const std::lock_guard lock(mutex_);
  if (failures_ < UINT32_MAX) ++failures_;
  const conf::Ip source = one_client(client);
  if (sources_.size() < max_sources && std::ranges::find(sources_, source) == sources_.end())
    sources_.push_back(source);
  if (stage == Stage::connect) host_level_ = true;

  const bool enough_clients = policy.min_clients == 0 || sources_.size() >= policy.min_clients;
  if (policy.threshold == 0 || failures_ < policy.threshold || !(host_level_ || enough_clients)) return false;
  if (tripped_ || trying_) return false;
  trying_ = true;
  answered_ = false;
  return true;
}

Health::Change Health::tried(const HealthPolicy& policy, Finding finding, uint64_t now_ms) {
  const std::lock_guard lock(mutex_);
  trying_ = false;
  const bool was_down = tripped_;
  switch (finding) {
    case Finding::up:
      clear();
      return was_down ? Change::came_up : Change::none;
    case Finding::down:
      if (policy.threshold == 0 || answered_) return Change::none;
      if (!was_down) down_since_ = now_ms;
      tripped_ = true;
      down_until_ = now_ms + policy.cooldown_ms;
      return was_down ? Change::none : Change::went_down;
    case Finding::unknown:
      if (was_down) down_until_ = now_ms + unknown_pause_ms;
      break;
  }
  return Change::none;
}

void Health::reset() {
  const std::lock_guard lock(mutex_);
  answered_ = true;  // what a trial under way finds was found out about the state before
  clear();
}

Health::View Health::view(uint64_t now_ms) const {
  const std::lock_guard lock(mutex_);
  return {failures_,   static_cast<uint32_t>(sources_.size()),
          host_level_, tripped_ && now_ms < down_until_,
          tripped_,    down_since_,
          trying_};
}

void Health::clear() {
  failures_ = 0;
  sources_.clear();
  host_level_ = tripped_ = false;
  down_until_ = 0;
}

}  // namespace postern::proxy
