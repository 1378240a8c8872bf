// SPDX-License-Identifier: GPL-3.0-or-later
// What the TLS fuzz targets share: one listener, one destination, and randomness that repeats.
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tls/context.hpp"
#include "tls/engine.hpp"
#include "tls/tickets.hpp"

namespace postern::tls {

/// Ends the run; libFuzzer and replay.cpp both count that as a finding.
inline void demand(bool holds) {
  if (!holds) std::abort();
}

/// The input, taken from the front.
class Script {
 public:
  Script(const uint8_t* data, size_t size) : rest_(data, size) {}
  uint8_t byte() {
    if (rest_.empty()) return 0;
    const uint8_t first = rest_.front();
    rest_ = rest_.subspan(1);
    return first;
  }
  [[nodiscard]] std::span<const uint8_t> rest() const { return rest_; }
  [[nodiscard]] bool done() const { return rest_.empty(); }

 private:
  std::span<const uint8_t> rest_;
};

inline conf::TlsPolicy fuzz_policy(bool tls13) {
  conf::TlsPolicy policy;
  policy.tls13 = tls13;
  for (size_t i = 0; i < conf::suite_count; ++i) policy.suites.push_back(static_cast<conf::Suite>(i));
  policy.groups = {conf::Group::x25519, conf::Group::secp256r1};
  return policy;
}

inline std::shared_ptr<const ServerContext> fuzz_server(bool tls13) {
  static const auto made = [] {
    conf::Problems problems("fuzz");
    const auto store = CertificateStore::load({}, nullptr, problems);
    auto keys = std::make_shared<TicketKeys>();
    auto plan = TicketPlan::make({});
    demand(plan.has_value());
    keys->adopt(std::move(*plan));
    std::array<std::shared_ptr<const ServerContext>, 2> contexts;
    for (const bool version : {false, true})
      contexts[version] =
          *ServerContext::make(fuzz_policy(version), store, TicketUse::of(keys, {}), {"imap", "pop3"});
    return contexts;
  }();
  return made[tls13];
}

/// 0: trusts anything; 1: pins the fuzz server's certificate; 2: verifies, in vain.
inline std::shared_ptr<const ClientContext> fuzz_client(unsigned kind) {
  static const auto made = [] {
    ::unsetenv("SSL_CERT_DIR");
    ::setenv("SSL_CERT_FILE", "/nonexistent", 1);
    const auto trust = TrustStore::load();
    std::array<std::shared_ptr<const ClientContext>, 3> contexts;
    conf::DestinationConf any, pinned, strict;
    any.tls_allow_invalid_certs = true;
    const auto leaf = self_signed()->sha256;
    pinned.tls_pinned_cert_sha256.emplace(leaf.begin(), leaf.end());
    contexts[0] = *ClientContext::make(any, trust);
    contexts[1] = *ClientContext::make(pinned, trust);
    contexts[2] = *ClientContext::make(strict, trust);
    return contexts;
  }();
  return made[kind % 3];
}

/// One engine, driven like the daemon does: handshake until established, then read.
struct Side {
  std::unique_ptr<Engine> engine;
  Outbox out;
  std::string plain;
  bool established = false;
  bool over = false;
  Moment moment = {};

  /// All of `bytes` in one call after another; what an engine leaves it must take in the next call.
  void feed(std::span<const uint8_t> bytes) {
    Input in{bytes.data(), bytes.size()};
    if (!established && !over) {
      const Progress progress = engine->handshake(in, out);
      established = progress == Progress::established;
      over = progress == Progress::failed;
      demand(over == (engine->failure() != Failure::none));
      if (progress == Progress::want_input) demand(in.size == 0);
    }
    uint8_t room[700];
    while (established && !over) {
      const ReadResult got = engine->read(in, room, out, moment);
      demand(got.bytes <= sizeof room);
      plain.append(reinterpret_cast<const char*>(room), got.bytes);
      over = got.end == ReadEnd::failed || got.end == ReadEnd::closed;
      if (got.end == ReadEnd::want_input) demand(in.size == 0);
      if (got.end != ReadEnd::full) break;
    }
    if (over) {
      demand(engine->failure() == Failure::none || *engine->error() != '\0');
      (void)engine->facts();
      (void)engine->alpn();
      (void)engine->certificate_id();
      const ReadEnd again = engine->read(in, room, out).end;
      demand(again == ReadEnd::failed || again == ReadEnd::closed);
    }
  }
  std::vector<uint8_t> sent() {
    const auto bytes = out.bytes();
    std::vector<uint8_t> copy(bytes.begin(), bytes.end());
    out.clear();
    return copy;
  }
};

}  // namespace postern::tls
