// SPDX-License-Identifier: GPL-3.0-or-later
// The sessions of one loop and what they share: the loop, the trials of backends, and the configuration that
// is current.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

#include "proxy/backend/probe.hpp"
#include "proxy/base/fault.hpp"
#include "proxy/loop/loop.hpp"
#include "proxy/routing/lookup_desk.hpp"
#include "proxy/session/snapshot.hpp"

namespace postern::proxy {

class Session;

/// Used on its loop's thread alone.
class Roster {
 public:
  explicit Roster(Loop& on);
  Roster(const Roster&) = delete;
  Roster& operator=(const Roster&) = delete;
  /// After clear().
  ~Roster() = default;

  void adopt(std::shared_ptr<const Snapshot> snapshot) { snapshot_ = std::move(snapshot); }
  [[nodiscard]] const std::shared_ptr<const Snapshot>& snapshot() const { return snapshot_; }

  void add(std::unique_ptr<Session> session);
  /// The session is done: out of the list now, destroyed before the loop next waits.
  void retire(Session& session) noexcept;
  /// From now on `empty` is called, once, when there is no session: at once if there is none now. It must do
  /// without memory.
  void when_empty(std::function<void()> empty);
  void cut(Fault fault) noexcept;  // every session
  /// Every session, probe and the configuration goes; no time to linger.
  void clear() noexcept;

  Loop& loop;
  Probes probes;
  LookupDesk desk;  // for accounts that no table and no cache knows

 private:
  void look_whether_empty() noexcept;

  std::shared_ptr<const Snapshot> snapshot_;
  Session* first_ = nullptr;  // live sessions, intrusive list
  std::function<void()> empty_;
};

}  // namespace postern::proxy
