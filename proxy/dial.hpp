// SPDX-License-Identifier: GPL-3.0-or-later
// From a destination to a connected leg: loop check, breaker, resolution, addresses in turn, PROXY header,
// TLS, retries, all within backend_timeout (protocols.md 1.6). One result, recorded once.
#pragma once

#include <uv.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "conf/address.hpp"
#include "proxy/fault.hpp"
#include "proxy/health.hpp"
#include "proxy/resolver.hpp"
#include "proxy/snapshot.hpp"
#include "proxy/stream.hpp"
#include "proxy/timers.hpp"

namespace postern::proxy {

/// Who calls, for whom we dial. The views must stay valid until the dial is over.
struct Caller {
  conf::SocketAddress peer;   // the client, after an inbound PROXY header
  conf::SocketAddress local;  // what it connected to
  uint32_t ttl = 7;
  std::string_view listener;
  std::string_view session;
  bool tls = false;
  tls::Facts facts;
  std::string_view alpn;
  std::string_view server_name;
};

class DialEvents {
 public:
  /// The last thing a Dial does; it may be destroyed from here.
  virtual void dialed(std::unique_ptr<Stream> backend) = 0;
  virtual void dial_failed(Fault fault, const std::string& detail) = 0;

 protected:
  ~DialEvents() = default;
};

class Dial final : Resolver::Waiter, StreamEvents {
 public:
  Dial(Worker& worker, std::shared_ptr<const Snapshot> snapshot,
       std::shared_ptr<const Destination> destination, conf::Protocol protocol, const Caller& caller,
       DialEvents& owner);
  ~Dial() override { cancel(); }

  void start();
  /// Gives up without a word: the client left. Nothing is recorded. Idempotent.
  void cancel();

  [[nodiscard]] const conf::SocketAddress& backend() const { return target_; }  // last address tried

 private:
  struct Connecting;

  // Resolver::Waiter
  void resolved(const std::vector<conf::Ip>& addresses, const char* error) override;
  // StreamEvents, until the stream is handed over
  void stream_secured(Stream& stream) override;
  void stream_data(Stream&, std::span<const uint8_t>) override {}
  void stream_ended(Stream& stream, StreamEnd end) override;
  void stream_drained(Stream&) override {}

  void round();
  void next_address();
  int open_socket(Fault& fault, std::string& detail);
  void connect(int fd);
  void connected(uv_tcp_t* tcp);
  void tick();
  void attempt_failed(Fault fault, std::string detail);
  void fail(Fault fault, const std::string& detail);
  void succeed();
  void drop_attempt();
  [[nodiscard]] bool is_self(const conf::SocketAddress& address) const;
  [[nodiscard]] std::string proxy_header() const;

  Worker& worker_;
  std::shared_ptr<const Snapshot> snapshot_;
  std::shared_ptr<const Destination> destination_;
  const conf::Protocol protocol_;
  const conf::LegConf* leg_ = nullptr;
  Caller caller_;
  DialEvents& owner_;
  Timer timer_;

  const uint64_t began_;  // nanoseconds of uv_hrtime, for the metric
  uint64_t window_end_;
  uint32_t retries_left_;
  bool pausing_ = false;  // between two rounds
  bool over_ = false;
  Health::Admission admission_ = Health::Admission::refuse;

  std::vector<conf::Ip> addresses_;
  size_t next_ = 0;
  conf::SocketAddress target_;
  Connecting* connecting_ = nullptr;
  std::unique_ptr<Stream> stream_;
  Fault last_fault_ = Fault::none;
  std::string last_detail_;
};

}  // namespace postern::proxy
