// SPDX-License-Identifier: GPL-3.0-or-later
// One use of a destination by a login, and what it says about the destination's health: admitted, then told
// how it went, once (management.md 5). Destroyed without a report, it counts for nothing.
#pragma once

#include <memory>
#include <string>

#include "proxy/backend/caller.hpp"
#include "proxy/backend/destination.hpp"
#include "proxy/backend/health.hpp"
#include "proxy/base/fault.hpp"

namespace postern::proxy {

class Probes;

class Attempt {
 public:
  Attempt(Probes& probes, std::shared_ptr<const BackendPolicy> policy,
          std::shared_ptr<const Destination> destination, conf::Protocol protocol, const Caller& caller);
  Attempt(const Attempt&) = delete;
  Attempt& operator=(const Attempt&) = delete;

  [[nodiscard]] Health::Admission admit();
  void success();
  /// Counts and reports the failure; whether it tells on the destination is the fault's own affair (its
  /// stage).
  void failure(Fault fault, const std::string& detail);
  /// The same of a backend that was ready but gave no answer to the credentials, which a stranger can bring
  /// about.
  void unanswered(Fault fault, const std::string& detail);
  /// Nothing was learned: the client left.
  void abandon() { told_ = true; }

 private:
  [[nodiscard]] DestinationCells::PerProtocol& cells() const;
  void count(AttemptResult result, Stage stage, Fault fault, const std::string& detail);

  Probes& probes_;
  std::shared_ptr<const BackendPolicy> policy_;
  std::shared_ptr<const Destination> destination_;
  const conf::Protocol protocol_;
  const Caller caller_;
  bool told_ = false;
};

}  // namespace postern::proxy
