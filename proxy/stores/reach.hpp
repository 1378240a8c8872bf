// SPDX-License-Identifier: GPL-3.0-or-later
// From a store's name to a stream that is ready: resolution, addresses in turn, TLS, all by one deadline.
#pragma once

#include <uv.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "conf/address.hpp"
#include "proxy/loop/resolver.hpp"
#include "proxy/loop/stream.hpp"
#include "proxy/loop/timers.hpp"
#include "proxy/stores/store.hpp"

namespace postern::tls {
class ClientContext;
}

namespace postern::proxy {

/// The addresses of one name, by a deadline.
class HostLookup final : Resolver::Waiter {
 public:
  /// `error` is empty if there are addresses. Called once, maybe before start() returns; may destroy this.
  using Found = std::function<void(Addresses addresses, const std::string& error)>;
  HostLookup(Loop& loop, std::string host, uint64_t stale_ms, Found found);
  void start(uint64_t deadline_ms);
  /// Nobody is told any more.
  void cancel();

 private:
  void name_learned() override { ask(); }
  void ask();
  void tell(Addresses addresses, const std::string& error);

  Loop& loop_;
  const std::string host_;
  const uint64_t stale_ms_;
  Found found_;
  Timer timer_;
  uint64_t deadline_ = 0;
  bool retry_ = false;
};

class Reach final : StreamEvents {
 public:
  struct Where {
    std::string host;  // a name or an address
    uint16_t port = 0;
    std::string path;                               // of a Unix socket, instead of both
    std::shared_ptr<const tls::ClientContext> tls;  // null: none
    std::string server_name;                        // that the certificate must be for
    uint64_t stale_ms = 0;                          // how old last good addresses may be
    std::function<bool(const conf::Ip&)> allowed;   // which addresses may be connected to; null: all
  };
  class Events {
   public:
    /// Either is the last thing a Reach does; it may be buried from here.
    virtual void reached(std::unique_ptr<Stream> stream, const conf::Ip& ip) = 0;
    virtual void not_reached(const std::string& why) = 0;

   protected:
    ~Events() = default;
  };

  Reach(Loop& loop, Where where, Events& owner);
  ~Reach();
  /// May tell its owner before it returns.
  void start(uint64_t deadline_ms);
  /// Gives up without a word to its owner.
  void cancel();

 private:
  struct Connecting;
  void stream_secured(Stream& stream) override;
  void stream_data(Stream&, std::span<const uint8_t>) override {}
  void stream_ended(Stream& stream, StreamEnd end) override;
  void stream_drained(Stream&) override {}

  void connect_path();
  void next_address();
  bool connect(const conf::SocketAddress& address);
  void connected(uv_tcp_t* tcp);
  void begin(std::unique_ptr<Stream> stream);
  void drop_attempt();
  void attempt_failed(std::string why);
  void late();
  void fail(const std::string& why);

  Loop& loop_;
  const Where where_;
  Events& owner_;
  Timer timer_;
  std::unique_ptr<HostLookup> lookup_;
  Addresses addresses_;
  size_t next_ = 0;
  conf::SocketAddress target_;
  uint64_t deadline_ = 0;
  Connecting* connecting_ = nullptr;
  std::unique_ptr<Stream> stream_;
  std::string last_;
  bool over_ = false;
};

}  // namespace postern::proxy
