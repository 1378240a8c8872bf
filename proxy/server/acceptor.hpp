// SPDX-License-Identifier: GPL-3.0-or-later
// Takes connections off one listening socket of one loop: admission, and patience when the process is out
// of descriptors (protocols.md 1.11). libuv's own accept would drop the waiting connections then.
#pragma once

#include <uv.h>

#include <cstdint>
#include <memory>
#include <optional>

#include "conf/address.hpp"
#include "proxy/base/log.hpp"
#include "proxy/limits/admission.hpp"
#include "proxy/loop/timers.hpp"

namespace postern::proxy {

class Roster;
struct Listener;
struct ListenerPolicy;

class Acceptor {
 public:
  /// `fd` listens already and is owned from here on.
  Acceptor(Roster& roster, int fd, std::shared_ptr<Listener> listener);
  ~Acceptor();
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

 private:
  void watch();
  void ready();
  bool take_one();
  std::optional<Admission> admit(const ListenerPolicy& policy, const conf::SocketAddress& peer);
  void pause(int error);

  Roster& roster_;
  const int fd_;
  const std::shared_ptr<Listener> listener_;
  std::optional<conf::SocketAddress> bound_;  // known local address of every connection; unset for wildcards
  uv_poll_t* poll_;                           // freed in its close callback
  Timer resume_;
  uint64_t pause_ms_ = 0;
  Throttle starved_{1};
};

}  // namespace postern::proxy
