// SPDX-License-Identifier: GPL-3.0-or-later
// A client made of bare wolfSSL, for offers that Postern's own client never makes.
#pragma once

#include <cstring>
#include <string>

#include "test/unit/tls/pair.hpp"
#include "tls/wolfssl.hpp"

namespace postern::tls {

struct RawOffer {
  const char* suites = nullptr;  // wolfSSL's names
  std::vector<int> groups = {};  // numbers, TLS 1.3 shares for the first
  bool tls12 = true, tls13 = true;
  std::string server_name = {};
  std::string alpn = {};  // comma-separated
  WOLFSSL_SESSION* session = nullptr;
};

/// Verifies nothing: these tests are about the server.
class RawClient {
 public:
  explicit RawClient(const RawOffer& offer) {
    init();
    context_.reset(wolfSSL_CTX_new(!offer.tls13   ? wolfTLSv1_2_client_method()
                                   : !offer.tls12 ? wolfTLSv1_3_client_method()
                                                  : wolfTLS_client_method()));
    WOLFSSL_CTX* context = context_.get();
    wolfSSL_CTX_SetMinVersion(context, WOLFSSL_TLSV1_2);
    wolfSSL_CTX_set_verify(context, WOLFSSL_VERIFY_NONE, nullptr);
    wolfSSL_CTX_set_session_cache_mode(context, WOLFSSL_SESS_CACHE_OFF);
    wolfSSL_CTX_UseSessionTicket(context);
    wolfSSL_CTX_SetIORecv(context, receive);
    wolfSSL_CTX_SetIOSend(context, send);
    if (offer.suites) REQUIRE(wolfSSL_CTX_set_cipher_list(context, offer.suites) == WOLFSSL_SUCCESS);
    auto groups = offer.groups;
    if (!groups.empty() && offer.tls13)
      REQUIRE(wolfSSL_CTX_set_groups(context, groups.data(), static_cast<int>(groups.size())) ==
              WOLFSSL_SUCCESS);
    else
      for (const int group : groups)
        REQUIRE(wolfSSL_CTX_UseSupportedCurve(context, static_cast<word16>(group)) == WOLFSSL_SUCCESS);
    ssl.reset(wolfSSL_new(context));
    wolfSSL_SetIOReadCtx(ssl.get(), this);
    wolfSSL_SetIOWriteCtx(ssl.get(), this);
    if (!groups.empty() && offer.tls13) wolfSSL_UseKeyShare(ssl.get(), static_cast<word16>(groups.front()));
    const auto& name = offer.server_name;
    if (!name.empty())
      wolfSSL_UseSNI(ssl.get(), WOLFSSL_SNI_HOST_NAME, name.data(), static_cast<unsigned short>(name.size()));
    std::string alpn = offer.alpn;
    if (!alpn.empty())
      wolfSSL_UseALPN(ssl.get(), alpn.data(), static_cast<unsigned>(alpn.size()),
                      WOLFSSL_ALPN_CONTINUE_ON_MISMATCH);
    if (offer.session) wolfSSL_set_session(ssl.get(), offer.session);
  }

  /// Both sides until they are done; true if both are established.
  bool shake(Engine& server) {
    bool mine = false;
    Progress theirs = Progress::want_input;
    for (int round = 0; round < 20; ++round) {
      if (!mine) mine = wolfSSL_connect(ssl.get()) == WOLFSSL_SUCCESS;
      Outbox out;
      Input in{up.data(), up.size()};
      if (theirs == Progress::want_input && !up.empty()) theirs = server.handshake(in, out);
      up.erase(up.begin(), up.end() - static_cast<std::ptrdiff_t>(in.size));
      down.insert(down.end(), out.bytes().begin(), out.bytes().end());
      if (theirs == Progress::failed) break;
      if (mine && theirs == Progress::established) break;
    }
    if (!mine) mine = wolfSSL_connect(ssl.get()) == WOLFSSL_SUCCESS;
    return mine && theirs == Progress::established;
  }
  /// The fatal alert that arrived, or -1.
  [[nodiscard]] int alert() const {
    WOLFSSL_ALERT_HISTORY history{};
    wolfSSL_get_alert_history(ssl.get(), &history);
    return history.last_rx.level == alert_fatal ? history.last_rx.code : -1;
  }
  std::string read() {
    char text[65536];
    const int n = wolfSSL_read(ssl.get(), text, sizeof text);
    return {text, text + (n > 0 ? n : 0)};
  }

  std::vector<uint8_t> up, down;  // not yet taken by the server, by the client

 private:
  static int receive(WOLFSSL* /*ssl*/, char* to, int wanted, void* user) {
    auto& from = static_cast<RawClient*>(user)->down;
    const size_t n = std::min(static_cast<size_t>(wanted), from.size());
    if (n == 0) return WOLFSSL_CBIO_ERR_WANT_READ;
    std::memcpy(to, from.data(), n);
    from.erase(from.begin(), from.begin() + static_cast<std::ptrdiff_t>(n));
    return static_cast<int>(n);
  }
  static int send(WOLFSSL* /*ssl*/, char* from, int size, void* user) {
    auto& to = static_cast<RawClient*>(user)->up;
    to.insert(to.end(), from, from + size);
    return size;
  }
  ContextHandle context_;

 public:
  SslHandle ssl;
};

}  // namespace postern::tls
