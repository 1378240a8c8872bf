// SPDX-License-Identifier: GPL-3.0-or-later
// The [metrics] listener: /metrics, /healthz, /readyz and the status page over plain HTTP/1.1 on the main
// loop. Bounded in everything a caller can send or leave unread.
#pragma once

#include <uv.h>

#include <functional>
#include <memory>
#include <string>

#include "conf/result.hpp"

namespace postern::proxy {

struct Readiness {
  bool ready = false;
  std::string reason;  // one clause; the body of the 503
};

/// Asked on the loop's thread, once a request.
struct Handlers {
  std::function<std::string()> metrics;
  std::function<Readiness()> ready;
  std::function<std::string()> status = {};  // the page at /; empty: there is none
};

struct ProbeState;

class ProbeServer {
 public:
  ProbeServer(uv_loop_t* loop, Handlers handlers);
  /// Closes. The loop must still run once for libuv to let go of the handles; it needs nothing of this
  /// object.
  ~ProbeServer();
  ProbeServer(const ProbeServer&) = delete;
  ProbeServer& operator=(const ProbeServer&) = delete;

  /// Takes over a socket that is bound but not listening. May be called for several addresses.
  conf::Result<void> open(int fd);
  /// Stops accepting and ends every connection. Handlers are not called again.
  void close();
  /// After close(): every handle is gone.
  [[nodiscard]] bool closed() const;

 private:
  std::shared_ptr<ProbeState> state_;
};

}  // namespace postern::proxy
