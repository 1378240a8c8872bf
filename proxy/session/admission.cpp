// SPDX-License-Identifier: GPL-3.0-or-later
// A session as a guest: who it counts as, and what it weighs while it has not logged in.
#include <algorithm>

#include "proxy/base/log.hpp"
#include "proxy/session/roster.hpp"
#include "proxy/session/session.hpp"

namespace postern::proxy {
namespace {

/// What small blocks come to that are not looked at one by one: names, closures, the allocator's own share.
constexpr size_t small_things = 1024;
/// A backend that is being dialled: socket, TLS in the midst of its handshake, what it has said.
constexpr size_t dialling = 24 * 1024;

}  // namespace

bool expects_header(const conf::ListenerConf& conf, const conf::Ip& peer) {
  return conf.proxy_protocol != conf::ProxyMode::off &&
         std::ranges::any_of(conf.proxy_trusted,
                             [&](const conf::Cidr& range) { return range.contains(peer); });
}

/// Who the client is has become known, by a PROXY header or for want of one. False: it is one too many of
/// that client, and the session is over.
bool Session::identified() {
  if (admission_.identify(peer_.ip, listener().conf.max_connections_per_client)) return true;
  uint64_t suppressed = 0;
  if (listener_->occupancy->client_full.allow(loop().now(), suppressed))
    log::warn("max_connections_per_client reached; dropping connection",
              {{"listener", listener().conf.name}, {"peer", peer_.text()}, {"suppressed", suppressed}});
  close(Fault::client_limit);
  return false;
}

void Session::weigh() {
  if (phase_ < Phase::bridging) admission_.holds(held(), loop().now());
}

size_t Session::held() const {
  size_t bytes =
      sizeof(Session) + sizeof(Waiting) + small_things + client_.held() + early_.capacity() + held_besides();
  if (proxy_header_) bytes += sizeof(InboundHeader);
  if (dial_) bytes += dialling;
  if (backend_) bytes += sizeof(Stream) + backend_->held();
  return bytes;
}

void Session::stream_data(Stream& stream, std::span<const uint8_t> plain) noexcept {
  safely([&] {
    received(stream, plain);
    weigh();
  });
}

void Session::stream_shaking(Stream&) noexcept {
  safely([this] { weigh(); });
}

}  // namespace postern::proxy
