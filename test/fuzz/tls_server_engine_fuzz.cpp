// SPDX-License-Identifier: GPL-3.0-or-later
// A server against hostile bytes: instead of a client, behind the start of a real one, or as changes to what
// a real one says. First byte: version and stage; second: size of pieces; then bytes, or pairs of place and
// change.
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
  const unsigned stage = mode >> 1 & 3, kind = mode >> 3 & 1;
  const size_t piece = size_t{1} + script.byte() * 8u;
  const auto context = fuzz_server(tls13);
  (void)fuzz_client(0);
  fuzz_random_state = 1;

  Side server{Engine::server(context), {}, {}};
  const auto feed = [&](std::span<const uint8_t> bytes) {
    while (!bytes.empty()) {
      const auto part = bytes.first(std::min(piece, bytes.size()));
      server.feed(part);
      bytes = bytes.subspan(part.size());
    }
  };
  if (stage == 0) {
    feed(script.rest());
    return 0;
  }
  Side client{Engine::client(fuzz_client(kind), "localhost", nullptr), {}, {}};
  client.feed({});
  bool talked = false;
  for (unsigned flight = 1; flight <= 4 && !server.over; ++flight) {
    auto bytes = client.sent();
    if (stage == 3) {
      // Change what the client says, byte by byte; the place is spread over the flight.
      for (int i = 0; i < 4 && !script.done() && !bytes.empty(); ++i) {
        const size_t place = (script.byte() * 256u + script.byte()) % bytes.size();
        bytes[place] = static_cast<uint8_t>(bytes[place] ^ script.byte());
      }
    } else if (flight > stage || server.established) {
      feed(script.rest());
      break;
    }
    feed(bytes);
    client.feed(server.sent());
    if (client.established && !client.over && !talked) {
      const uint8_t text[] = {'a', ' ', 'N', 'O', 'O', 'P', '\r', '\n'};
      talked = client.engine->write(text, client.out);
    }
  }
  return 0;
}
