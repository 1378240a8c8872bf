// SPDX-License-Identifier: GPL-3.0-or-later
// Sealing and opening; an unknown key, a wrong tag or an old age means a full handshake, never a failure, and
// so does a ticket that was made when there was no key.
#include "tls/ticket_seal.hpp"

#include <sys/random.h>

#include <algorithm>
#include <ctime>

#include "tls/engine_io.hpp"

namespace postern::tls {
namespace {

constexpr size_t name_size = 16, nonce_size = 12, iv_size = 16, tag_size = 16, mac_size = 32;
static_assert(name_size == WOLFSSL_TICKET_NAME_SZ && iv_size == WOLFSSL_TICKET_IV_SZ &&
              mac_size <= WOLFSSL_TICKET_MAC_SZ);
constexpr int64_t clock_skew = 600;         // between replicas
constexpr size_t generation_at = tag_size;  // in the field for the MAC
// wolfSSL counts the tickets of a session and of everything resumed from it in one byte, and at 256 fails the
// handshake instead of starting over. So does a client that always resumes, for good. We start over in time.
constexpr uint8_t last_generation = 200;

uint32_t seconds_now() { return static_cast<uint32_t>(std::time(nullptr)); }

void put(uint8_t* to, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) *to++ = static_cast<uint8_t>(value >> shift);
}
uint32_t get(const uint8_t* from) {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i) value = value << 8 | from[i];
  return value;
}

bool fresh(uint32_t issued, std::chrono::seconds lifetime) {
  // Modulo 2^32, so that 2106 is a day like any other.
  const auto age = static_cast<int32_t>(seconds_now() - issued);
  return age >= -clock_skew && age <= lifetime.count();
}

bool crypt(bool seal, const TicketKey& key, const uint8_t* name, const uint8_t* iv, const TicketScope& scope,
           uint8_t* text, word32 size, uint8_t* tag) {
  std::array<uint8_t, name_size + iv_size + 32 + 4 + 1> context{};
  auto* at = std::copy_n(name, name_size, context.data());
  at = std::copy_n(iv, iv_size, at);
  at = std::copy(scope.identity.begin(), scope.identity.end(), at);
  put(at, size);
  context.back() = tag[generation_at];
  Aes aes;
  if (wc_AesInit(&aes, nullptr, INVALID_DEVID) != 0) return false;
  int result = wc_AesGcmSetKey(&aes, key.key.data(), static_cast<word32>(key.key.size()));
  if (result == 0)
    result = seal ? wc_AesGcmEncrypt(&aes, text, text, size, iv, nonce_size, tag, tag_size, context.data(),
                                     static_cast<word32>(context.size()))
                  : wc_AesGcmDecrypt(&aes, text, text, size, iv, nonce_size, tag, tag_size, context.data(),
                                     static_cast<word32>(context.size()));
  wc_AesFree(&aes);
  conf::wipe(&aes, sizeof aes);
  return result == 0;
}

/// Noise instead of a ticket: nothing of the session is in it, and no key opens it. The library insists on
/// name, IV and MAC that are not all zero, and on text that is not the session.
void blind(uint8_t* name, uint8_t* iv, uint8_t* mac, uint8_t* ticket, size_t size) {
  std::fill_n(ticket, size, uint8_t{0xa5});  // also if there are no random numbers
  std::fill_n(name, name_size, uint8_t{0xa5});
  std::fill_n(iv, iv_size, uint8_t{0xa5});
  std::fill_n(mac, WOLFSSL_TICKET_MAC_SZ, uint8_t{0});
  std::fill_n(mac, tag_size, uint8_t{0xa5});
  for (size_t at = 0; at < size; at += 256)
    (void)!::getrandom(ticket + at, std::min<size_t>(256, size - at), GRND_NONBLOCK);
  (void)!::getrandom(name, name_size, GRND_NONBLOCK);
  (void)!::getrandom(iv, nonce_size, GRND_NONBLOCK);
  put(iv + nonce_size, seconds_now());
  (void)!::getrandom(mac, tag_size, GRND_NONBLOCK);
}

}  // namespace

int ticket_callback(WOLFSSL* ssl, unsigned char* name, unsigned char* iv, unsigned char* mac, int seal,
                    unsigned char* ticket, int size, int* out_size, void* user) {
  const auto& scope = *static_cast<const TicketScope*>(user);
  auto* channel = static_cast<Channel*>(wolfSSL_GetIOReadCtx(ssl));
  *out_size = size;
  TicketKey key;
  bool newest = true, good = false;
  if (seal) {
    if (scope.keys && scope.keys->making(key) && ::getrandom(iv, nonce_size, 0) == ssize_t{nonce_size}) {
      std::copy(key.name.begin(), key.name.end(), name);
      put(iv + nonce_size, seconds_now());
      std::fill_n(mac, WOLFSSL_TICKET_MAC_SZ, uint8_t{0});
      mac[generation_at] = channel->ticket_generation;
      good = crypt(true, key, name, iv, scope, ticket, static_cast<word32>(size), mac);
    }
  } else if (mac[generation_at] < last_generation && fresh(get(iv + nonce_size), scope.lifetime) &&
             scope.keys->named(std::span<const uint8_t, 16>(name, name_size), key, newest)) {
    good = crypt(false, key, name, iv, scope, ticket, static_cast<word32>(size), mac);
  }
  conf::wipe(key.key.data(), key.key.size());
  if (!good && seal) blind(name, iv, mac, ticket, static_cast<size_t>(size));
  if (!good) return seal ? WOLFSSL_TICKET_RET_OK : WOLFSSL_TICKET_RET_REJECT;
  if (!seal)
    channel->ticket_generation =
        std::max(channel->ticket_generation, static_cast<uint8_t>(mac[generation_at] + 1));
  // TLS 1.3 issues a new ticket with every handshake, and would take CREATE for a reason to start over.
  const bool renew = !seal && !newest && wolfSSL_version(ssl) < TLS1_3_VERSION;
  return renew ? WOLFSSL_TICKET_RET_CREATE : WOLFSSL_TICKET_RET_OK;
}

}  // namespace postern::tls
