// SPDX-License-Identifier: GPL-3.0-or-later
// Names to addresses without blocking the loop. Those who ask for one name at the same time share one
// lookup, so a hung name server costs one pool thread a name and worker, not one a client.
#pragma once

#include <uv.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "conf/address.hpp"

namespace postern::proxy {

class Resolver {
 public:
  /// Someone waiting. Leaves the queue when destroyed or cancelled.
  class Waiter {
   public:
    /// In resolver order, without duplicates; empty: `error` says why.
    virtual void resolved(const std::vector<conf::Ip>& addresses, const char* error) = 0;
    void cancel();
    Waiter() = default;
    Waiter(const Waiter&) = delete;
    Waiter& operator=(const Waiter&) = delete;
    virtual ~Waiter() { cancel(); }

   private:
    friend class Resolver;
    std::vector<Waiter*>* queue_ = nullptr;
  };

  explicit Resolver(uv_loop_t* loop);
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;
  ~Resolver();

  /// The answer never comes before this returns. A lookup that could not even begin gives its error, and
  /// no answer comes.
  const char* resolve(const std::string& host, Waiter& waiter);
  [[nodiscard]] size_t in_flight() const { return lookups_.size(); }

 private:
  struct Lookup;
  void finish(Lookup& lookup, int status, addrinfo* list);

  uv_loop_t* loop_;
  std::map<std::string, std::unique_ptr<Lookup>, std::less<>> lookups_;
};

}  // namespace postern::proxy
