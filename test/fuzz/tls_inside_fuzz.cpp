// SPDX-License-Identifier: GPL-3.0-or-later
// What a client that knows the keys can put into records: messages cut anywhere, key updates, alerts,
// padding. The server gives the same answer however the bytes are split. First byte: size of pieces; then
// commands, each a byte and what belongs to it.
#include "test/fuzz/tls_fuzz.hpp"
#include "tls/wolfssl.hpp"

namespace postern::tls {
extern uint64_t fuzz_random_state;
}

namespace {

using namespace postern::tls;

#ifdef POSTERN_WOLFSSL_BUNDLED

/// A bare client that trusts anybody; what it says gathers in `up`.
class Knower {
 public:
  Knower() {
    fuzz_random_state = 1;
    ssl_.reset(wolfSSL_new(context()));
    demand(ssl_ != nullptr);
    wolfSSL_SetIOReadCtx(ssl_.get(), this);
    wolfSSL_SetIOWriteCtx(ssl_.get(), this);
    for (int round = 0; round < 6 && !(mine_ && server.established); ++round) {
      mine_ = mine_ || wolfSSL_connect(ssl_.get()) == WOLFSSL_SUCCESS;
      const std::vector<uint8_t> said = std::move(up);
      up.clear();
      server.feed(said);
      down_ = server.sent();
    }
    demand(mine_ && server.established);
    up.clear();
  }
  /// One record with this inside; its last byte is the type of its content.
  void say(std::span<const uint8_t> inside) {
    std::vector<uint8_t> record(inside.size() + 21);
    const auto as_it_is = [](Aes* key, const uint8_t* nonce, const uint8_t* /*plain*/, unsigned size,
                             uint8_t* to) {
      std::copy(what.begin(), what.end(), to + 5);
      ++size;
      return wc_AesGcmEncrypt(key, to + 5, to + 5, size, nonce, 12, to + 5 + size, 16, to, 5);
    };
    what = inside;
    const auto size = static_cast<unsigned>(inside.size() - 1);
    const uint8_t nothing = 0;
    if (postern_seal_record(ssl_.get(), size ? inside.data() : &nothing, size, record.data(), as_it_is) ==
        size)
      up.insert(up.end(), record.begin(), record.end());
  }
  void update() { (void)wolfSSL_update_keys(ssl_.get()); }

  Side server{Engine::server(fuzz_server(true)), {}, {}};
  std::vector<uint8_t> up;

 private:
  static WOLFSSL_CTX* context() {
    static const ContextHandle made = [] {
      (void)fuzz_server(true);
      ContextHandle context(wolfSSL_CTX_new(wolfTLSv1_3_client_method()));
      wolfSSL_CTX_set_verify(context.get(), WOLFSSL_VERIFY_NONE, nullptr);
      wolfSSL_CTX_SetIORecv(context.get(), [](WOLFSSL*, char* to, int wanted, void* user) {
        auto& from = static_cast<Knower*>(user)->down_;
        const size_t n = std::min(static_cast<size_t>(wanted), from.size());
        if (n == 0) return static_cast<int>(WOLFSSL_CBIO_ERR_WANT_READ);
        std::copy_n(from.begin(), n, to);
        from.erase(from.begin(), from.begin() + static_cast<std::ptrdiff_t>(n));
        return static_cast<int>(n);
      });
      wolfSSL_CTX_SetIOSend(context.get(), [](WOLFSSL*, char* from, int size, void* user) {
        auto& to = static_cast<Knower*>(user)->up;
        to.insert(to.end(), from, from + size);
        return size;
      });
      return context;
    }();
    return made.get();
  }
  static inline std::span<const uint8_t> what;
  SslHandle ssl_;
  std::vector<uint8_t> down_;
  bool mine_ = false;
};

/// What the server made of the script.
struct Result {
  std::string plain;
  bool over;
  Failure failure;
  std::vector<uint8_t> sent;
};

Result run(Script script, size_t piece) {
  Knower client;
  uint32_t now = 0;
  bool backlog = false;
  Side& server = client.server;
  server.plain.clear();
  while (!script.done() && !server.over) {
    const uint8_t command = script.byte();
    if (command < 4) {
      client.update();
    } else if (command < 8) {
      now += command * 200u;
    } else if (command < 10) {
      backlog = command == 9;
    } else {
      // A length, then the inside without its type, then padding.
      const size_t size = script.byte();
      std::vector<uint8_t> inside;
      while (inside.size() < size && !script.done()) inside.push_back(script.byte());
      inside.push_back(command);
      if (command & 0x80) inside.back() = 22, inside.resize(inside.size() + (command & 0x7fu));
      client.say(inside);
    }
    server.moment = {now, backlog};
    const std::vector<uint8_t> bytes = std::move(client.up);
    client.up.clear();
    for (size_t at = 0; at < bytes.size(); at += piece)
      server.feed(std::span(bytes).subspan(at, std::min(piece, bytes.size() - at)));
  }
  return {server.plain, server.over, server.engine->failure(), server.sent()};
}

#endif

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
#ifdef POSTERN_WOLFSSL_BUNDLED
  if (size > 3000) return 0;
  Script script(data, size);
  const size_t piece = size_t{1} + script.byte();
  const Result whole = run(script, SIZE_MAX / 2), split = run(script, piece);
  demand(whole.over == split.over && whole.failure == split.failure && whole.plain == split.plain);
  demand(whole.sent == split.sent);
  if (whole.failure != Failure::none && whole.failure != Failure::alert) demand(!whole.sent.empty());
#else
  (void)data, (void)size;
#endif
  return 0;
}
