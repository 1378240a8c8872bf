// SPDX-License-Identifier: GPL-3.0-or-later
// What a loop can be asked to do, from any thread, when there is no memory for the asking.
#pragma once

#include <memory>

namespace postern::proxy {

/// Made beforehand, and asked for by Loop::post(). Asked for again while it waits, it is done once.
class Errand {
 public:
  Errand() = default;
  virtual ~Errand() = default;
  Errand(const Errand&) = delete;
  Errand& operator=(const Errand&) = delete;
  virtual void perform() noexcept = 0;

 private:
  friend class Loop;
  std::shared_ptr<Errand> next_;  // both under the lock of the inbox
  bool waits_ = false;
};

}  // namespace postern::proxy
