// SPDX-License-Identifier: GPL-3.0-or-later
// The length of a record is read here; whether it may be taken, the library's own state tells.
#include "tls/records.hpp"

#ifdef POSTERN_WOLFSSL_BUNDLED
#include <algorithm>

#include "tls/bulk_cipher.hpp"
#endif

namespace postern::tls {

#ifdef POSTERN_WOLFSSL_BUNDLED

namespace {

constexpr size_t header = 5, longest = 16384;
constexpr size_t around = header + 1 + 16;  // the type of content and the tag

}  // namespace

size_t open_record(WOLFSSL* ssl, Input& in, std::span<uint8_t> plain) {
  if (in.size <= around) return 0;
  const size_t record = header + (static_cast<size_t>(in.data[3]) << 8 | in.data[4]);
  if (record > in.size) return 0;
  const size_t opened = postern_open_record(ssl, in.data, static_cast<unsigned>(record), plain.data(),
                                            static_cast<unsigned>(std::min(plain.size(), 2 * longest)));
  if (opened != 0) in.skip(record);
  return opened;
}

size_t seal_record(WOLFSSL* ssl, std::span<const uint8_t> plain, Outbox& out) {
  if (plain.empty()) return 0;
  const size_t size = std::min(plain.size(), longest);
  uint8_t* const room = out.room(size + around);
  if (!room) return 0;
  const size_t sealed = postern_seal_record(ssl, plain.data(), static_cast<unsigned>(size), room,
                                            size >= bulk_enough ? bulk_sealer() : nullptr);
  if (sealed != 0) out.added(sealed + around);
  return sealed;
}

#else

size_t open_record(WOLFSSL* /*ssl*/, Input& /*in*/, std::span<uint8_t> /*plain*/) { return 0; }
size_t seal_record(WOLFSSL* /*ssl*/, std::span<const uint8_t> /*plain*/, Outbox& /*out*/) { return 0; }

#endif

}  // namespace postern::tls
