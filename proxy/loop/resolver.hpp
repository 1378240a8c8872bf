// SPDX-License-Identifier: GPL-3.0-or-later
// One loop's door to the names: who on this loop waits for which name.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "proxy/loop/name_service.hpp"

namespace postern::proxy {

class Resolver final : NameService::Asker {
 public:
  /// Someone waiting. Leaves the queue when destroyed or cancelled.
  class Waiter {
   public:
    /// Something was learned: ask again. No longer in the queue.
    virtual void name_learned() noexcept = 0;
    void cancel();
    Waiter() = default;
    Waiter(const Waiter&) = delete;
    Waiter& operator=(const Waiter&) = delete;
    virtual ~Waiter() { cancel(); }

   private:
    friend class Resolver;
    Waiter** back_ = nullptr;  // what points here; null: in no queue
    Waiter* next_ = nullptr;
  };

  /// `post`: from any thread, has tell() called with the name on this loop, or never, if this is gone;
  /// without memory for that, tell_all().
  using Post = std::function<void(const std::string& name)>;
  Resolver(NameService& names, Post post);
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;
  ~Resolver();

  /// As NameService::ask. If the reply is wait, `waiter` is told, never before this returns.
  NameService::Reply ask(const std::string& name, uint64_t stale, bool retry, Waiter& waiter);
  /// On this loop, by way of `post`.
  void tell(const std::string& name) noexcept;
  /// The same for whoever waits for any name: it asks again, and waits on if it was another.
  void tell_all() noexcept;

 private:
  void learned(const std::string& name) noexcept override { post_(name); }

  NameService& names_;
  const Post post_;
  using Queues = std::map<std::string, Waiter*, std::less<>>;
  static void tell(Waiter*& queue) noexcept;
  Queues queues_;
};

}  // namespace postern::proxy
