// SPDX-License-Identifier: GPL-3.0-or-later
// Stores whose libraries block: a few threads of their own, each with a connection of its own, behind one
// queue.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "proxy/stores/store.hpp"

namespace postern::proxy {

class Loop;

/// One thread's connection. It is made, used and destroyed on that thread.
class BlockingClient {
 public:
  struct Said {
    StoreAnswer answer;
    bool about_key = false;  // it says nothing about the store
  };
  virtual ~BlockingClient() = default;
  /// Connects if need be. `ms`: how long there is.
  virtual Said find(const std::string& name, uint64_t ms) = 0;
  virtual Said put(const std::string& name, const std::string& destination, uint64_t ms) = 0;
  virtual Said erase(const std::string& name, uint64_t ms) = 0;
  [[nodiscard]] virtual bool connected() const = 0;
};

/// `make` is called on each thread. A thread that hangs in a call when the store goes is left behind.
std::unique_ptr<Store> make_blocking_store(Loop& loop, size_t threads, bool writable, const char* thread_name,
                                           std::function<std::unique_ptr<BlockingClient>()> make);

}  // namespace postern::proxy
