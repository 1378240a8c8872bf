// SPDX-License-Identifier: GPL-3.0-or-later
// Who may be connected, and who must go when there is no room: the limit of a listener, the share of one
// client, and the memory of everybody who has not logged in. Shared by all workers and, across reloads, by
// snapshots.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "conf/address.hpp"
#include "proxy/base/fault.hpp"
#include "proxy/base/keyed_hash.hpp"
#include "proxy/base/log.hpp"
#include "proxy/loop/errand.hpp"

namespace postern::proxy {

class Occupancy;
class Loop;

/// Whom an address counts as: one IPv4 address, or the /64 of an IPv6 address, which its owner has whole.
uint64_t client_prefix(const conf::Ip& ip);

struct PrefixHash {
  size_t operator()(uint64_t prefix) const {
    return static_cast<size_t>(keyed_hash({reinterpret_cast<const char*>(&prefix), sizeof prefix}));
  }
};

/// How many connections one client has. The tables hold clients that have some, no others.
struct Client {
  uint32_t all = 0;
  uint32_t waiting = 0;  // of these, not logged in
};
using Clients = std::unordered_map<uint64_t, Client, PrefixHash>;
using ClientEntry = Clients::value_type;  // stays where it is while it is in the table

/// A connection that has not logged in, for those who may need its place. It stands in the list of its
/// listener, the oldest first, and that listener's lock guards it; what has another guard says so.
struct Waiting final : Errand, std::enable_shared_from_this<Waiting> {
  using End = void (*)(void* session, Fault why) noexcept;

  Waiting* older = nullptr;
  Waiting* newer = nullptr;
  uint64_t since = 0;             // when it was accepted
  ClientEntry* client = nullptr;  // null: a PROXY header will say who it is
  Fault put_out = Fault::none;    // why its place was given away
  std::atomic<uint32_t> held{0};  // bytes; see PreauthMemory

  // Whose it is: set before others can find it. `session` belongs to the loop's thread; null: it is gone.
  Loop* loop = nullptr;
  void* session = nullptr;
  End end = nullptr;
  /// Its place is given away: the loop hears of it.
  void perform() noexcept override {
    if (session) end(session, put_out);
  }
};

/// server.preauth_memory: what connections of the whole process hold before a login. Above the limit somebody
/// is ended, whichever listener it waits on: the oldest that holds no less than they do on average. So who
/// holds a little and logs in at once is not pushed out by a crowd that holds much.
class PreauthMemory {
 public:
  void limit(uint64_t bytes) { limit_.store(bytes, std::memory_order_relaxed); }
  [[nodiscard]] uint64_t limit() const { return limit_.load(std::memory_order_relaxed); }
  [[nodiscard]] uint64_t held() const {
    return static_cast<uint64_t>(std::max<int64_t>(held_.load(std::memory_order_relaxed), 0));
  }

 private:
  friend class Admission;
  friend class Occupancy;
  static constexpr uint32_t released = UINT32_MAX;  // instead of what is held: nothing, and never again
  static constexpr size_t most = released - 1;

  void enlist(const std::shared_ptr<Occupancy>& listener);
  void charge(Waiting& waiting, uint32_t bytes);
  void release(Waiting& waiting);
  void relieve(uint64_t now);
  [[nodiscard]] std::shared_ptr<Occupancy> oldest_with(uint64_t bytes) const;

  std::atomic<uint64_t> limit_{64 * uint64_t{1024} * 1024};
  std::atomic<int64_t> held_{
      0};  // for a moment less than nothing: what is charged may be released before it is added
  std::atomic<int64_t> holders_{0};
  std::mutex mutex_;  // of those who relieve; taken before a listener's
  std::vector<std::weak_ptr<Occupancy>> listeners_;
  SharedThrottle told_;
};

/// A connection's place on a listener: taken when it is accepted, given back when this is destroyed.
class Admission {
 public:
  Admission(Admission&& other) noexcept = default;
  Admission& operator=(Admission&&) = delete;
  ~Admission();

  /// Whom to end, on that loop's thread, if the place is needed: `end(session, why)`.
  void belongs_to(Loop& loop, void* session, Waiting::End end);
  /// The PROXY header has come. False: that client has as many connections as it may have.
  [[nodiscard]] bool identify(const conf::Ip& client, uint32_t per_client);
  /// What the connection holds now, in bytes. Means nothing after established().
  void holds(size_t bytes, uint64_t now);
  /// Logged in: from now on nobody else gets the place. Not Fault::none: somebody has got it a moment ago.
  [[nodiscard]] Fault established();

 private:
  friend class Occupancy;
  Admission(std::shared_ptr<Occupancy> listener, std::shared_ptr<Waiting> waiting)
      : listener_(std::move(listener)), waiting_(std::move(waiting)) {}

  std::shared_ptr<Occupancy> listener_;  // null: moved from
  std::shared_ptr<Waiting> waiting_;     // null once established
  ClientEntry* client_ = nullptr;        // from then on
};

/// How many connections a listener has, over all workers and snapshots, and whose they are.
class Occupancy : public std::enable_shared_from_this<Occupancy> {
 public:
  static std::shared_ptr<Occupancy> make(const std::shared_ptr<PreauthMemory>& memory);

  struct Limits {
    uint32_t connections;
    uint32_t per_client;
  };
  struct Answer {
    std::optional<Admission> admission;  // or, with nothing:
    Rejected refused = Rejected::limit;  // or client_limit
    bool made_room = false;              // somebody else had to go
  };
  /// Asks for a place. `client` is nothing where a PROXY header will say who it is: until then the connection
  /// counts for the listener alone. The sender of that header is trusted, is the same for all clients, and
  /// sends it at once; it must not be taken for one client with many connections.
  Answer admit(const std::optional<conf::Ip>& client, const Limits& limits, uint64_t now);

  [[nodiscard]] uint32_t live() const { return live_.load(std::memory_order_relaxed); }
  [[nodiscard]] size_t clients() const;

  SharedThrottle full, client_full, made_room;  // of the warnings

 private:
  friend class Admission;
  friend class PreauthMemory;

  explicit Occupancy(std::shared_ptr<PreauthMemory> memory) : memory_(std::move(memory)) {}

  // All under the lock.
  ClientEntry* enter(uint64_t prefix, uint32_t per_client);
  void leave(ClientEntry* client);
  void append(Waiting& waiting);
  void unlink(Waiting& waiting);
  [[nodiscard]] Waiting* victim(const ClientEntry* newcomer) const;
  [[nodiscard]] Waiting* oldest_with(uint64_t bytes) const;
  void put_out(Waiting& waiting, Fault why);

  const std::shared_ptr<PreauthMemory> memory_;
  mutable std::mutex mutex_;
  std::atomic<uint32_t> live_{0};  // written under the lock
  Clients clients_;
  Waiting* oldest_ = nullptr;
  Waiting* newest_ = nullptr;
};

}  // namespace postern::proxy
