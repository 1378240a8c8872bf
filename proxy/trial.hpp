// SPDX-License-Identifier: GPL-3.0-or-later
// One use of a destination and what it says about the destination's health: admitted, then told how it went,
// once (management.md 5). Untold, it says nothing.
#pragma once

#include <memory>
#include <string>

#include "proxy/caller.hpp"
#include "proxy/fault.hpp"
#include "proxy/health.hpp"
#include "proxy/snapshot.hpp"

namespace postern::proxy {

class Worker;

class Trial {
 public:
  Trial(Worker& worker, std::shared_ptr<const Snapshot> snapshot,
        std::shared_ptr<const Destination> destination, conf::Protocol protocol, const Caller& caller);
  ~Trial();
  Trial(const Trial&) = delete;
  Trial& operator=(const Trial&) = delete;

  /// False: the destination is marked down.
  [[nodiscard]] bool admit();
  void success();
  /// Counts and reports the failure; whether it tells on the destination is the fault's own affair (its
  /// stage).
  void failure(Fault fault, const std::string& detail);
  /// Nothing was learned: the client left.
  void abandon();

 private:
  [[nodiscard]] DestinationCells::PerProtocol& cells() const;

  Worker& worker_;
  std::shared_ptr<const Snapshot> snapshot_;
  std::shared_ptr<const Destination> destination_;
  const conf::Protocol protocol_;
  const Caller caller_;
  Health::Admission admission_ = Health::Admission::refuse;
  bool told_ = false;
};

}  // namespace postern::proxy
