// SPDX-License-Identifier: GPL-3.0-or-later
// getaddrinfo on libuv's pool, one request a name.
#include "proxy/resolver.hpp"

#include <algorithm>

namespace postern::proxy {

struct Resolver::Lookup {
  uv_getaddrinfo_t request{};
  Resolver* resolver = nullptr;
  std::string host;
  std::vector<Waiter*> waiters;
};

void Resolver::Waiter::cancel() {
  if (!queue_) return;
  std::erase(*queue_, this);
  queue_ = nullptr;
}

Resolver::Resolver(uv_loop_t* loop) : loop_(loop) {}

Resolver::~Resolver() {
  // A lookup still on the pool outlives us: leave it its memory, it finds no resolver any more.
  for (auto& [host, lookup] : lookups_) {
    for (Waiter* waiter : lookup->waiters) waiter->queue_ = nullptr;
    lookup->waiters.clear();
    lookup->resolver = nullptr;
    uv_cancel(reinterpret_cast<uv_req_t*>(&lookup->request));
    static_cast<void>(lookup.release());
  }
}

const char* Resolver::resolve(const std::string& host, Waiter& waiter) {
  auto found = lookups_.find(host);
  if (found == lookups_.end()) {
    auto lookup = std::make_unique<Lookup>();
    lookup->resolver = this;
    lookup->host = host;
    lookup->request.data = lookup.get();
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    const auto done = [](uv_getaddrinfo_t* request, int status, addrinfo* list) {
      auto* self = static_cast<Lookup*>(request->data);
      if (self->resolver) {
        self->resolver->finish(*self, status, list);
      } else {
        delete self;  // the resolver went first
      }
      uv_freeaddrinfo(list);
    };
    const int status = uv_getaddrinfo(loop_, &lookup->request, done, host.c_str(), nullptr, &hints);
    if (status != 0) return uv_strerror(status);
    found = lookups_.emplace(host, std::move(lookup)).first;
  }
  found->second->waiters.push_back(&waiter);
  waiter.queue_ = &found->second->waiters;
  return nullptr;
}

void Resolver::finish(Lookup& lookup, int status, addrinfo* list) {
  std::vector<conf::Ip> addresses;
  for (const addrinfo* at = list; at; at = at->ai_next) {
    if (at->ai_family != AF_INET && at->ai_family != AF_INET6) continue;
    const conf::Ip ip = conf::SocketAddress::from(at->ai_addr).ip;
    if (std::find(addresses.begin(), addresses.end(), ip) == addresses.end()) addresses.push_back(ip);
  }
  const char* error = status != 0 ? uv_strerror(status) : addresses.empty() ? "no address" : nullptr;
  // Out of the map first: a waiter may ask for the same name again from its answer.
  const auto owned = std::move(lookups_.extract(lookup.host).mapped());
  while (!owned->waiters.empty()) {
    Waiter* waiter = owned->waiters.back();
    owned->waiters.pop_back();
    waiter->queue_ = nullptr;
    waiter->resolved(addresses, error);  // may destroy other waiters: they take themselves out of the queue
  }
}

}  // namespace postern::proxy
