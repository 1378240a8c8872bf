// SPDX-License-Identifier: GPL-3.0-or-later
// A trial of a destination that no client has a part in: connection, PROXY header, TLS and the conversation
// up to where credentials would go. It decides what logins alone may not (management.md 5).
#pragma once

#include <memory>
#include <string>

#include "proxy/backend/destination.hpp"
#include "proxy/backend/dial.hpp"
#include "proxy/backend/health.hpp"
#include "proxy/backend/probe_waiter.hpp"
#include "proxy/loop/loop.hpp"
#include "proxy/loop/stream.hpp"
#include "proxy/loop/timers.hpp"

namespace postern::proxy {

class Probes;

class Probe final : DialEvents, StreamEvents {
 public:
  Probe(Probes& owner, std::shared_ptr<const BackendPolicy> policy,
        std::shared_ptr<const Destination> destination, conf::Protocol protocol, ProbeWaiter* waiter);
  /// Cut off before its end, it found nothing.
  ~Probe();
  void start() noexcept;
  Probe*& grave() { return next_; }  // see Loop::bury()

 private:
  // DialEvents
  void dialed(Leg leg) noexcept override;
  void dial_failed(Fault fault, const std::string& detail) noexcept override;
  // StreamEvents, of a backend that is told goodbye
  void stream_secured(Stream&) noexcept override {}
  void stream_data(Stream&, std::span<const uint8_t>) noexcept override {}
  void stream_ended(Stream&, StreamEnd) noexcept override { over(); }
  void stream_drained(Stream&) noexcept override {}

  void found(Health::Finding finding, Fault fault, const std::string& detail) noexcept;
  void over() noexcept;

  Probes& owner_;
  std::shared_ptr<const BackendPolicy> policy_;
  std::shared_ptr<const Destination> destination_;
  const conf::Protocol protocol_;
  protocols::ReplayOpening opening_;  // nobody's login
  Timer timer_;
  ProbeWaiter* waiter_;
  bool told_ = false;
  std::unique_ptr<Dial> dial_;
  std::unique_ptr<Stream> backend_;
  bool over_ = false;
  Probe* next_ = nullptr;  // in the list of its owner
  friend class ProbeWaiter;
  friend class Probes;
};

/// Those under way on one loop.
class Probes {
 public:
  explicit Probes(Loop& on) : loop(on) {}
  ~Probes() { clear(); }
  Probes(const Probes&) = delete;
  Probes& operator=(const Probes&) = delete;

  /// Makes the trial that the destination's Health has asked for. `waiter` (may be null) may hear of it
  /// before this returns. Without memory the trial has found nothing.
  void begin(const std::shared_ptr<const BackendPolicy>& policy,
             const std::shared_ptr<const Destination>& destination, conf::Protocol protocol,
             ProbeWaiter* waiter) noexcept;
  /// The probe is done: destroyed before the loop next waits.
  void retire(Probe& probe) noexcept;
  void clear() noexcept;

  Loop& loop;

 private:
  Probe* live_ = nullptr;  // linked by next_; few
};

}  // namespace postern::proxy
