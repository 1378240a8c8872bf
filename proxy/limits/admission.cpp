// SPDX-License-Identifier: GPL-3.0-or-later
// One lock a listener, held for a few instructions when a connection comes, says who it is, logs in and goes.
// So the list of those who wait has one order over all workers, and a place is never given away twice.
// Whoever is put out has lost its place at once; its loop hears of it and closes the socket.
#include "proxy/limits/admission.hpp"

#include <algorithm>
#include <utility>

#include "proxy/loop/loop.hpp"

namespace postern::proxy {
namespace {

/// How far the search for somebody to put out goes. It only goes on where the oldest ones belong to clients
/// with fewer connections than the newcomer's own.
constexpr int search_limit = 64;

}  // namespace

uint64_t client_prefix(const conf::Ip& ip) {
  const auto bytes = ip.bytes();
  uint64_t prefix = ip.is_v4() ? 0xffff'ffffU : 0;  // in front of IPv4: no /64 begins like that (multicast)
  for (size_t i = 0; i < std::min<size_t>(bytes.size(), 8); ++i) prefix = prefix << 8 | bytes[i];
  return prefix;
}

// --- one connection ---------------------------------------------------------------------------------

Admission::~Admission() {
  if (!listener_) return;
  if (waiting_) waiting_->session = nullptr;
  const std::lock_guard lock(listener_->mutex_);
  if (!waiting_) {
    listener_->leave(client_);
  } else if (waiting_->put_out == Fault::none) {
    listener_->unlink(*waiting_);
    listener_->leave(waiting_->client);
    listener_->memory_->release(*waiting_);
  }
}

void Admission::belongs_to(Loop& loop, void* session, Waiting::End end) {
  const std::lock_guard lock(listener_->mutex_);
  waiting_->loop = &loop;
  waiting_->session = session;
  waiting_->end = end;
  listener_->append(*waiting_);
}

bool Admission::identify(const conf::Ip& client, uint32_t per_client) {
  const std::lock_guard lock(listener_->mutex_);
  if (waiting_->put_out != Fault::none) return true;  // its end is on its way
  ClientEntry* entry = listener_->enter(client_prefix(client), per_client);
  if (entry) waiting_->client = entry;
  return entry != nullptr;
}

void Admission::holds(size_t bytes, uint64_t now) {
  if (!waiting_) return;
  PreauthMemory& memory = *listener_->memory_;
  memory.charge(*waiting_, static_cast<uint32_t>(std::min<size_t>(bytes, PreauthMemory::most)));
  if (memory.held() > memory.limit()) memory.relieve(now);
}

Fault Admission::established() {
  const std::lock_guard lock(listener_->mutex_);
  if (waiting_->put_out != Fault::none) return waiting_->put_out;
  listener_->unlink(*waiting_);
  client_ = waiting_->client;
  if (client_) --client_->second.waiting;
  listener_->memory_->release(*waiting_);
  waiting_.reset();
  return Fault::none;
}

// --- one listener -----------------------------------------------------------------------------------

std::shared_ptr<Occupancy> Occupancy::make(const std::shared_ptr<PreauthMemory>& memory) {
  std::shared_ptr<Occupancy> made(new Occupancy(memory));
  memory->enlist(made);
  return made;
}

/// Null: the client has its share. Counts it as waiting.
ClientEntry* Occupancy::enter(uint64_t prefix, uint32_t per_client) {
  ClientEntry& entry = *clients_.try_emplace(prefix).first;
  Client& client = entry.second;
  if (client.all >= std::max(per_client, 1u)) return nullptr;
  ++client.all;
  ++client.waiting;
  return &entry;
}

/// A connection less. The caller has taken it off `waiting` if it was counted there.
void Occupancy::leave(ClientEntry* client) {
  live_.fetch_sub(1, std::memory_order_relaxed);
  if (client && --client->second.all == 0) clients_.erase(client->first);
}

void Occupancy::append(Waiting& waiting) {
  waiting.older = newest_;
  (newest_ ? newest_->newer : oldest_) = &waiting;
  newest_ = &waiting;
}

void Occupancy::unlink(Waiting& waiting) {
  if (!waiting.loop) return;  // never was in it
  (waiting.older ? waiting.older->newer : oldest_) = waiting.newer;
  (waiting.newer ? waiting.newer->older : newest_) = waiting.older;
  waiting.older = waiting.newer = nullptr;
}

/// The oldest connection of another client that has at least as many of them as the newcomer's would have: so
/// nobody with many loses one to the few, and nobody with few loses one to the many.
Waiting* Occupancy::victim(const ClientEntry* newcomer) const {
  const uint32_t wanted = newcomer ? newcomer->second.waiting : 0;
  int looked_at = 0;
  for (Waiting* at = oldest_; at && looked_at < search_limit; at = at->newer, ++looked_at)
    if (!at->client || (at->client != newcomer && at->client->second.waiting >= wanted)) return at;
  return nullptr;
}

Waiting* Occupancy::oldest_with(uint64_t bytes) const {
  int looked_at = 0;
  for (Waiting* at = oldest_; at && looked_at < search_limit; at = at->newer, ++looked_at)
    if (const uint32_t held = at->held.load(std::memory_order_relaxed); held >= bytes) return at;
  return nullptr;
}

/// Its loop hears of it while the lock is held: until its session is destroyed, which takes the lock, that
/// loop cannot end.
void Occupancy::put_out(Waiting& waiting, Fault why) {
  unlink(waiting);
  if (waiting.client) --waiting.client->second.waiting;
  leave(std::exchange(waiting.client, nullptr));
  waiting.put_out = why;
  memory_->release(waiting);
  waiting.loop->post(waiting.shared_from_this());
}

Occupancy::Answer Occupancy::admit(const std::optional<conf::Ip>& client, const Limits& limits,
                                   uint64_t now) {
  auto waiting = std::make_shared<Waiting>();
  waiting->since = now;
  Answer answer;
  const std::lock_guard lock(mutex_);
  if (client) {
    waiting->client = enter(client_prefix(*client), limits.per_client);
    if (!waiting->client) {
      answer.refused = Rejected::client_limit;
      return answer;
    }
  }
  // Two for one, where a reload has lowered the limit: so what is above it goes away.
  for (int i = 0; i < 2 && live() >= limits.connections; ++i) {
    Waiting* const out = victim(waiting->client);
    if (!out) break;
    put_out(*out, Fault::made_room);
    answer.made_room = true;
  }
  live_.fetch_add(1, std::memory_order_relaxed);
  if (!answer.made_room && live() > limits.connections) {
    if (waiting->client) --waiting->client->second.waiting;
    leave(waiting->client);
    return answer;
  }
  answer.admission.emplace(Admission(shared_from_this(), std::move(waiting)));
  memory_->holders_.fetch_add(1, std::memory_order_relaxed);
  return answer;
}

size_t Occupancy::clients() const {
  const std::lock_guard lock(mutex_);
  return clients_.size();
}

// --- the memory of all ------------------------------------------------------------------------------

void PreauthMemory::enlist(const std::shared_ptr<Occupancy>& listener) {
  const std::lock_guard lock(mutex_);
  std::erase_if(listeners_, [](const auto& known) { return known.expired(); });
  listeners_.push_back(listener);
}

/// Against release() on another thread: what was released stays so.
void PreauthMemory::charge(Waiting& waiting, uint32_t bytes) {
  uint32_t before = waiting.held.load(std::memory_order_relaxed);
  do
    if (before == released || before == bytes) return;
  while (!waiting.held.compare_exchange_weak(before, bytes, std::memory_order_relaxed));
  held_.fetch_add(int64_t{bytes} - int64_t{before}, std::memory_order_relaxed);
}

void PreauthMemory::release(Waiting& waiting) {
  const uint32_t before = waiting.held.exchange(released, std::memory_order_relaxed);
  if (before == released) return;
  held_.fetch_sub(int64_t{before}, std::memory_order_relaxed);
  holders_.fetch_sub(1, std::memory_order_relaxed);
}

/// The listener where somebody who holds that much has waited longest.
std::shared_ptr<Occupancy> PreauthMemory::oldest_with(uint64_t bytes) const {
  std::shared_ptr<Occupancy> found;
  uint64_t oldest = UINT64_MAX;
  for (const auto& known : listeners_) {
    const auto listener = known.lock();
    if (!listener) continue;
    const std::lock_guard its(listener->mutex_);
    const Waiting* const waiting = listener->oldest_with(bytes);
    if (!waiting || waiting->since >= oldest) continue;
    oldest = waiting->since;
    found = listener;
  }
  return found;
}

void PreauthMemory::relieve(uint64_t now) {
  size_t gone = 0;
  {
    const std::lock_guard lock(mutex_);
    while (held() > limit()) {
      // First who holds no less than the average; if the oldest everywhere are small, then any.
      const auto holders = std::max<int64_t>(holders_.load(std::memory_order_relaxed), 1);
      uint64_t least = held() / static_cast<uint64_t>(holders);
      std::shared_ptr<Occupancy> at = oldest_with(least);
      if (!at) at = oldest_with(least = 0);
      if (!at) break;
      const std::lock_guard its(at->mutex_);
      Waiting* const out = at->oldest_with(least);
      if (!out) continue;  // it has logged in since
      at->put_out(*out, Fault::preauth_memory);
      ++gone;
    }
  }
  uint64_t suppressed = 0;
  if (gone != 0 && told_.allow(now, suppressed))
    log::warn("preauth_memory used up; the oldest connections without a login are closed",
              {{"closed", gone}, {"limit_bytes", limit()}, {"suppressed", suppressed}});
}

}  // namespace postern::proxy
