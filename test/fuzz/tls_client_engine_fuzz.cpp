// SPDX-License-Identifier: GPL-3.0-or-later
// A client against a hostile backend: bytes instead of an answer, behind a real handshake, or as changes to
// what a real server says; the client trusts anything, pins, or verifies.
#include "test/fuzz/tls_fuzz.hpp"

namespace postern::tls {
extern uint64_t fuzz_random_state;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace postern::tls;
  if (size > 40000) return 0;
  Script script(data, size);
  const uint8_t mode = script.byte();
  const bool tls13 = mode & 1;
  const unsigned stage = mode >> 1 & 3, kind = (mode >> 3) % 3;
  const size_t piece = size_t{1} + script.byte() * 8u;
  const auto context = fuzz_server(tls13);
  const auto destination = fuzz_client(kind);
  fuzz_random_state = 1;

  Side client{Engine::client(destination, "localhost", nullptr), {}, {}};
  client.feed({});
  const auto feed = [&](std::span<const uint8_t> bytes) {
    while (!bytes.empty()) {
      const auto part = bytes.first(std::min(piece, bytes.size()));
      client.feed(part);
      bytes = bytes.subspan(part.size());
    }
  };
  if (stage == 0) {
    feed(script.rest());
    demand(!client.established);
    return 0;
  }
  Side server{Engine::server(context), {}, {}};
  for (unsigned flight = 1; flight <= 4 && !client.over; ++flight) {
    server.feed(client.sent());
    auto bytes = server.sent();
    if (stage == 3) {
      for (int i = 0; i < 4 && !script.done() && !bytes.empty(); ++i) {
        const size_t place = (script.byte() * 256u + script.byte()) % bytes.size();
        bytes[place] = static_cast<uint8_t>(bytes[place] ^ script.byte());
      }
    } else if (flight > stage || client.established) {
      feed(script.rest());
      break;
    }
    feed(bytes);
    if (kind == 2) demand(!client.established);  // nobody signed for this server
  }
  if (client.established) {
    std::unique_ptr<Resumption> kept;
    client.engine->renew(kept);
  }
  return 0;
}
