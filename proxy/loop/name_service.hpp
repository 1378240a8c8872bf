// SPDX-License-Identifier: GPL-3.0-or-later
// Names to addresses, once for the whole process: what is known of each name, and the threads that look up.
// One lookup a name at a time, whichever loops ask.
//
// getaddrinfo on threads of our own, and not c-ares, although that would need no thread:
// - Whatever `getent ahosts NAME` says on this machine is what Postern uses: nsswitch.conf with all its
//   modules (systemd-resolved, mDNS, machined, myhostname), /etc/hosts, search domains and ndots as
//   Kubernetes writes them, gai.conf, and a resolv.conf that changes while we run. c-ares knows files and
//   DNS, reads its configuration once, and differs between Debian's releases (1.18, 1.34).
// - glibc asks each question from a new socket and port; c-ares 1.18 keeps one port for all of them, which
//   makes answers easier to forge.
// - It parses hostile answers and orders thousands of addresses here, where no loop waits for it.
// The price: no time to live is told, so an answer is fresh for five seconds; and a lookup cannot be given
// up, so each one that hangs holds a thread. There are `most_threads` at most. Names that were not answered
// the last time, or never asked for, get half of them, so that those that are answered always have some; they
// go on with their last good addresses anyway. A thread that hangs is left behind at the exit, unwaited for.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "proxy/loop/name_record.hpp"

namespace postern::proxy {

class NameService {
 public:
  static constexpr size_t most_threads = 32;
  using Lookup = std::function<NameAnswer(const std::string& name)>;  // blocking, on any thread

  /// Hears that something was learned about a name it had to wait for.
  class Asker {
   public:
    /// On some thread, under a lock: pass it on, do nothing else.
    virtual void learned(const std::string& name) noexcept = 0;

   protected:
    ~Asker() = default;
  };

  struct Reply {
    NameRecord::What what = NameRecord::What::wait;
    Addresses addresses;    // of use and use_last
    uint64_t age = 0;       // of use_last, milliseconds
    uint64_t patience = 0;  // of wait, as in NameRecord::Advice
    NameResult why{};       // of give_up and use_last
    std::string error;      // of the same
    bool tell = false;      // log it: of use_last once a minute a name, of use when that is over
  };

  explicit NameService(Lookup lookup = system_lookup, size_t threads = most_threads, NameTimes times = {});
  ~NameService();
  NameService(const NameService&) = delete;
  NameService& operator=(const NameService&) = delete;

  // Any thread.
  /// If the reply is wait, `asker` hears of it; then ask again. `stale`: milliseconds.
  Reply ask(const std::string& name, uint64_t stale, bool retry, Asker& asker);
  /// `asker` hears of nothing any more once this returns.
  void forget(Asker& asker);
  [[nodiscard]] size_t in_flight() const;  // lookups, queued ones included

  [[nodiscard]] NameCounts counts() const;

  /// getaddrinfo, and what its answer means.
  static NameAnswer system_lookup(const std::string& name);

 private:
  struct State;
  std::shared_ptr<State> state_;  // with every thread that may be hanging
};

}  // namespace postern::proxy
