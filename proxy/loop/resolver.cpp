// SPDX-License-Identifier: GPL-3.0-or-later
// Queues are linked through those who wait, so that ten thousand may leave one after another.
#include "proxy/loop/resolver.hpp"

#include <utility>

namespace postern::proxy {

void Resolver::Waiter::cancel() {
  if (!back_) return;
  *back_ = next_;
  if (next_) next_->back_ = back_;
  back_ = nullptr;
  next_ = nullptr;
}

Resolver::Resolver(NameService& names, Post post) : names_(names), post_(std::move(post)) {}

Resolver::~Resolver() {
  names_.forget(*this);
  for (auto& [name, first] : queues_)
    while (first) first->cancel();
}

NameService::Reply Resolver::ask(const std::string& name, uint64_t stale, bool retry, Waiter& waiter) {
  waiter.cancel();
  Waiter*& first = queues_[name];  // before it asks: then its place is sure
  NameService::Reply reply = names_.ask(name, stale, retry, *this);
  if (reply.what != NameRecord::What::wait) {
    if (!first) queues_.erase(name);
    return reply;
  }
  waiter.next_ = first;
  waiter.back_ = &first;
  if (first) first->back_ = &waiter.next_;
  first = &waiter;
  return reply;
}

void Resolver::tell(const std::string& name) noexcept {
  const auto found = queues_.find(name);
  if (found == queues_.end()) return;
  Queues one;
  one.insert(queues_.extract(found));
  tell(one.begin()->second);
}

void Resolver::tell_all() noexcept {
  Queues all;
  all.swap(queues_);
  for (auto& [name, first] : all) tell(first);
}

void Resolver::tell(Waiter*& queue) noexcept {
  // Into a queue of this call: whoever is told may ask again at once, or end others that wait.
  Waiter* told = std::exchange(queue, nullptr);
  if (told) told->back_ = &told;
  while (told) {
    Waiter& waiter = *told;
    waiter.cancel();
    waiter.name_learned();
  }
}

}  // namespace postern::proxy
