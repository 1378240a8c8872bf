// SPDX-License-Identifier: GPL-3.0-or-later
// A server made of bare wolfSSL, for what no server of ours does: tickets now and then, and of odd sizes.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "test/unit/tls/pair.hpp"
#include "tls/wolfssl.hpp"

#ifdef POSTERN_WOLFSSL_BUNDLED
// The library's own way to put a message of the handshake into a record; not among its exported names.
extern "C" int BuildTls13Message(WOLFSSL* ssl, unsigned char* output, int room, const unsigned char* input,
                                 int size, int type, int hash_output, int size_only, int async_okay);
#endif

namespace postern::tls {

/// What a backend lives by: its key, and the key of its tickets.
class RawServerContext {
 public:
  explicit RawServerContext(bool tls13) {
    init();
    context_.reset(wolfSSL_CTX_new(tls13 ? wolfTLSv1_3_server_method() : wolfTLSv1_2_server_method()));
    REQUIRE(wolfSSL_CTX_use_certificate_chain_file(get(), pki("alpha.crt").c_str()) == WOLFSSL_SUCCESS);
    REQUIRE(wolfSSL_CTX_use_PrivateKey_file(get(), pki("alpha.key").c_str(), WOLFSSL_FILETYPE_PEM) ==
            WOLFSSL_SUCCESS);
  }
  [[nodiscard]] WOLFSSL_CTX* get() const { return context_.get(); }

 private:
  ContextHandle context_;
};

class RawServer {
 public:
  RawServer(const RawServerContext& context, bool tickets) {
    ssl.reset(wolfSSL_new(context.get()));
    wolfSSL_SSLSetIORecv(ssl.get(), receive);
    wolfSSL_SSLSetIOSend(ssl.get(), send);
    wolfSSL_SetIOReadCtx(ssl.get(), this);
    wolfSSL_SetIOWriteCtx(ssl.get(), this);
    if (tickets) return;
    wolfSSL_no_ticket_TLSv13(ssl.get());
    wolfSSL_NoTicketTLSv12(ssl.get());
  }

  /// Both sides until they are done; true if both are established.
  bool shake(Engine& client) {
    bool mine = false;
    Progress theirs = Progress::want_input;
    for (int round = 0; round < 20 && !(mine && theirs == Progress::established); ++round) {
      if (theirs == Progress::want_input) theirs = pass(client, &Engine::handshake);
      if (theirs == Progress::failed) break;
      if (!mine) mine = wolfSSL_accept(ssl.get()) == WOLFSSL_SUCCESS;
    }
    return mine && theirs == Progress::established;
  }
  bool says(std::string_view text) {
    return wolfSSL_write(ssl.get(), text.data(), static_cast<int>(text.size())) > 0;
  }
  /// What the client reads of it, or nothing if it fails.
  std::string heard_by(Engine& client) {
    std::vector<uint8_t> plain(65536);
    Outbox out;
    Input in{down.data(), down.size()};
    const ReadResult got = client.read(in, plain, out);
    down.clear();
    return got.end == ReadEnd::failed
               ? std::string()
               : std::string(plain.begin(), plain.begin() + static_cast<std::ptrdiff_t>(got.bytes));
  }
#ifdef POSTERN_WOLFSSL_BUNDLED
  /// A ticket of so many bytes that opens nothing (RFC 8446, 4.6.1).
  void gives_ticket(size_t size, size_t nonce) {
    std::vector<uint8_t> body = {0, 0, 14, 16, 1, 2, 3, 4, static_cast<uint8_t>(nonce)};
    body.insert(body.end(), nonce, 'n');
    body.push_back(static_cast<uint8_t>(size >> 8));
    body.push_back(static_cast<uint8_t>(size));
    body.insert(body.end(), size, 't');
    body.insert(body.end(), {0, 0});
    std::vector<uint8_t> message = {4, static_cast<uint8_t>(body.size() >> 16),
                                    static_cast<uint8_t>(body.size() >> 8),
                                    static_cast<uint8_t>(body.size())};
    message.insert(message.end(), body.begin(), body.end());
    constexpr size_t longest = 16'000;
    for (size_t at = 0; at < message.size(); at += longest) {
      const size_t piece = std::min(longest, message.size() - at);
      std::vector<uint8_t> record(5 + piece + 512);
      std::memcpy(record.data() + 5, message.data() + at, piece);
      const int made = BuildTls13Message(ssl.get(), record.data(), static_cast<int>(record.size()),
                                         record.data() + 5, static_cast<int>(piece), 22, 0, 0, 0);
      REQUIRE(made > 0);
      down.insert(down.end(), record.begin(), record.begin() + made);
    }
  }
#endif

  std::vector<uint8_t> up, down;  // not yet taken by the server, by the client

 private:
  template <typename Step>
  Progress pass(Engine& client, Step step) {
    Outbox out;
    Input in{down.data(), down.size()};
    const Progress progress = (client.*step)(in, out);
    down.erase(down.begin(), down.end() - static_cast<std::ptrdiff_t>(in.size));
    up.insert(up.end(), out.bytes().begin(), out.bytes().end());
    return progress;
  }
  static int receive(WOLFSSL* /*ssl*/, char* to, int wanted, void* user) {
    auto& from = static_cast<RawServer*>(user)->up;
    const size_t n = std::min(static_cast<size_t>(wanted), from.size());
    if (n == 0) return WOLFSSL_CBIO_ERR_WANT_READ;
    std::memcpy(to, from.data(), n);
    from.erase(from.begin(), from.begin() + static_cast<std::ptrdiff_t>(n));
    return static_cast<int>(n);
  }
  static int send(WOLFSSL* /*ssl*/, char* from, int size, void* user) {
    auto& to = static_cast<RawServer*>(user)->down;
    to.insert(to.end(), from, from + size);
    return size;
  }

 public:
  SslHandle ssl;
};

}  // namespace postern::tls
