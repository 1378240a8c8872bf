// SPDX-License-Identifier: GPL-3.0-or-later
// A login that waits for the outcome of a trial of its destination. It may leave at any time.
#pragma once

namespace postern::proxy {

class Probe;

class ProbeWaiter {
 public:
  ProbeWaiter() = default;
  ProbeWaiter(const ProbeWaiter&) = delete;
  ProbeWaiter& operator=(const ProbeWaiter&) = delete;
  virtual ~ProbeWaiter() { leave(); }

  virtual void probe_over(bool up) noexcept = 0;
  /// It does not want to know any more. Idempotent.
  void leave();
  [[nodiscard]] bool waiting() const { return probe_ != nullptr; }

 private:
  friend class Probe;
  Probe* probe_ = nullptr;
};

}  // namespace postern::proxy
