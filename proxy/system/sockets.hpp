// SPDX-License-Identifier: GPL-3.0-or-later
// Listening sockets: bound with every option of the file before anything is served, or taken over from
// systemd. Options are set on the listening socket; Linux hands them on to accepted ones.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "conf/config.hpp"
#include "conf/problem.hpp"
#include "conf/result.hpp"

namespace postern::proxy {

/// A descriptor that closes itself.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd();
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

/// One bound address: a socket for each worker.
struct BoundAddress {
  size_t listener = 0;  // index in Config::listeners
  conf::SocketAddress address;
  std::vector<Fd> sockets;
  bool inherited = false;
};

/// Sockets that systemd passed (LISTEN_FDS), with their names; taken once.
class Inherited {
 public:
  static Inherited take();
  /// The socket bound to `address`, or else the one named `name`; empty if there is none.
  Fd claim(const conf::SocketAddress& address, const std::string& name);
  /// What nobody claimed, for a warning; closed with this object.
  [[nodiscard]] std::vector<std::string> unclaimed() const;

 private:
  struct Entry {
    Fd fd;
    std::string name;
    conf::SocketAddress address;
  };
  std::vector<Entry> entries_;
};

struct Bound {
  std::vector<BoundAddress> listeners;
  Fd metrics;
  conf::SocketAddress metrics_address;
  std::vector<conf::SocketAddress> all;  // every address, with real ports
  std::vector<std::string> warnings;     // options the kernel refused
};

/// Binds everything and starts listening, or nothing: with any problem every socket is closed again.
std::optional<Bound> bind_all(const conf::Config& config, size_t workers, Inherited& inherited,
                              conf::Problems& problems);

}  // namespace postern::proxy
