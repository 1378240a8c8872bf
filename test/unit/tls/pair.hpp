// SPDX-License-Identifier: GPL-3.0-or-later
// Two engines, or one and a bare wolfSSL client, joined over memory. The pieces each byte stream is cut into
// are the test's to choose.
#pragma once

#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "conf/config.hpp"
#include "tls/context.hpp"
#include "tls/engine.hpp"
#include "tls/tickets.hpp"

namespace postern::tls {

inline std::string pki(const std::string& file) { return std::string(POSTERN_PKI) + "/" + file; }

inline std::string slurp(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The entry for pki/NAME.crt and .key, under its own name as id.
inline conf::CertificateConf entry(const std::string& name, bool is_default = false,
                                   std::vector<std::string> subjects = {}) {
  conf::CertificateConf conf;
  conf.id = name;
  conf.cert = pki(name + ".crt");
  conf.key = conf::Secret(pki(name + ".key"));
  conf.is_default = is_default;
  conf.subjects = std::move(subjects);
  conf.path = "tls.certificate." + name;
  return conf;
}

inline std::shared_ptr<const CertificateStore> store_of(const std::vector<conf::CertificateConf>& entries) {
  conf::Problems problems("test");
  auto store = CertificateStore::load(entries, nullptr, problems);
  REQUIRE(problems.ok());
  return store;
}

inline conf::TlsPolicy default_policy() {
  conf::TlsPolicy policy;
  for (size_t i = 0; i < conf::suite_count; ++i) policy.suites.push_back(static_cast<conf::Suite>(i));
  policy.groups = {conf::Group::x25519mlkem768, conf::Group::x25519, conf::Group::secp256r1,
                   conf::Group::secp384r1};
  return policy;
}

/// Ticket keys and the settings they were made for, as a snapshot has them.
struct Tickets {
  std::shared_ptr<TicketKeys> keys;  // null: no tickets
  conf::TicketConf conf;
  TicketKeys* operator->() const { return keys.get(); }
};

inline std::shared_ptr<const ServerContext> server_context(const conf::TlsPolicy& policy,
                                                           std::shared_ptr<const CertificateStore> store,
                                                           const Tickets& tickets = {},
                                                           std::vector<std::string> alpn = {}) {
  auto context = ServerContext::make(policy, std::move(store), TicketUse::of(tickets.keys, tickets.conf),
                                     std::move(alpn));
  REQUIRE(context);
  return *context;
}

/// Trust in pki/root.crt alone, or in another file of pki/.
inline std::shared_ptr<const TrustStore> trust_in(const std::string& file = "root.crt") {
  ::unsetenv("SSL_CERT_DIR");
  ::setenv("SSL_CERT_FILE", pki(file).c_str(), 1);
  auto trust = TrustStore::load();
  ::unsetenv("SSL_CERT_FILE");
  return trust;
}

inline std::shared_ptr<const ClientContext> client_context(
    const conf::DestinationConf& destination = {}, std::shared_ptr<const TrustStore> trust = trust_in()) {
  auto context = ClientContext::make(destination, std::move(trust));
  REQUIRE(context);
  return *context;
}

/// The settings hold at once; false: they are bad, and nothing has changed.
inline bool configure(TicketKeys& keys, const conf::TicketConf& conf) {
  auto plan = TicketPlan::make(conf);
  if (plan) keys.adopt(std::move(*plan));
  return plan.has_value();
}

inline Tickets ticket_keys(const conf::TicketConf& conf = {}) {
  Tickets made{std::make_shared<TicketKeys>(), conf};
  REQUIRE(configure(*made.keys, conf));
  return made;
}

/// What a conversation leaves for the next one that resumes.
inline std::unique_ptr<Resumption> left_by(const Engine& engine) {
  std::unique_ptr<Resumption> kept;
  engine.renew(kept);
  return kept;
}

/// One direction: what the sender's engine appended and the other has not taken yet.
struct Wire {
  Outbox box;
  std::vector<uint8_t> bytes;
  size_t carried = 0;
  /// Moves the outbox to the wire; true if there is something on it.
  bool flush() {
    const auto fresh = box.bytes();
    bytes.insert(bytes.end(), fresh.begin(), fresh.end());
    carried += fresh.size();
    box.clear();
    return !bytes.empty();
  }
};

struct Joined {
  std::unique_ptr<Engine> client, server;
  Wire up, down;  // to the server, to the client
  Progress client_progress = Progress::want_input, server_progress = Progress::want_input;

  Joined(std::unique_ptr<Engine> c, std::unique_ptr<Engine> s) : client(std::move(c)), server(std::move(s)) {}
  Joined(const std::shared_ptr<const ClientContext>& c, const std::shared_ptr<const ServerContext>& s,
         const std::string& name = "alpha.test", const Resumption* resume = nullptr)
      : client(Engine::client(c, name, resume)), server(Engine::server(s)) {}

  /// One call of handshake() with at most `piece` bytes of the wire.
  static Progress step(Engine& engine, Wire& from, Wire& to, size_t piece) {
    Input in{from.bytes.data(), std::min(piece, from.bytes.size())};
    const size_t given = in.size;
    const Progress progress = engine.handshake(in, to.box);
    from.bytes.erase(from.bytes.begin(), from.bytes.begin() + static_cast<std::ptrdiff_t>(given - in.size));
    to.flush();
    return progress;
  }
  /// Until both are established, or one failed and the other has heard all it had to say.
  bool shake(size_t piece = SIZE_MAX) {
    for (;;) {
      const auto before = std::tuple(up.carried, down.carried, up.bytes.size(), down.bytes.size());
      const bool first = up.carried == 0;
      if (client_progress == Progress::want_input && (first || !down.bytes.empty()))
        client_progress = step(*client, down, up, piece);
      if (server_progress == Progress::want_input && !up.bytes.empty())
        server_progress = step(*server, up, down, piece);
      const bool still = before == std::tuple(up.carried, down.carried, up.bytes.size(), down.bytes.size());
      if (still) break;
    }
    return client_progress == Progress::established && server_progress == Progress::established;
  }

  struct Read {
    std::string text;
    ReadEnd end = ReadEnd::want_input;
  };
  /// Everything on the wire, `piece` bytes of ciphertext at a time into a buffer of `room`.
  static Read read(Engine& engine, Wire& from, Wire& back, size_t piece = SIZE_MAX, size_t room = 65536) {
    from.flush();
    Read result;
    std::vector<uint8_t> plain(room);
    size_t at = 0;
    do {
      Input in{from.bytes.data() + at, std::min(piece, from.bytes.size() - at)};
      at += in.size;
      for (;;) {
        const ReadResult got = engine.read(in, plain, back.box);
        result.text.append(reinterpret_cast<const char*>(plain.data()), got.bytes);
        result.end = got.end;
        if (got.end != ReadEnd::full) break;
      }
      CHECK(in.size == 0);
    } while (at < from.bytes.size() && result.end == ReadEnd::want_input);
    from.bytes.erase(from.bytes.begin(), from.bytes.begin() + static_cast<std::ptrdiff_t>(at));
    back.flush();
    return result;
  }
  Read client_reads(size_t piece = SIZE_MAX, size_t room = 65536) {
    return read(*client, down, up, piece, room);
  }
  Read server_reads(size_t piece = SIZE_MAX, size_t room = 65536) {
    return read(*server, up, down, piece, room);
  }
  static bool write(Engine& engine, Wire& to, std::string_view text) {
    return engine.write({reinterpret_cast<const uint8_t*>(text.data()), text.size()}, to.box);
  }
  bool client_writes(std::string_view text) { return write(*client, up, text); }
  bool server_writes(std::string_view text) { return write(*server, down, text); }
};

}  // namespace postern::tls
