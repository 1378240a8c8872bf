// SPDX-License-Identifier: GPL-3.0-or-later
// wolfSSL driven over memory: every call takes what is there, says what it wants, and never waits.
#include "tls/engine.hpp"

#include <algorithm>
#include <climits>
#include <new>

#include "conf/address.hpp"
#include "conf/names.hpp"
#include "tls/bulk_cipher.hpp"
#include "tls/client_context.hpp"
#include "tls/client_hello.hpp"
#include "tls/engine_io.hpp"
#include "tls/facts.hpp"
#include "tls/heap.hpp"
#include "tls/library.hpp"
#include "tls/records.hpp"
#include "tls/rsa_power.hpp"
#include "tls/server_context.hpp"

namespace postern::tls {
namespace {

/// What a Resumption holds: a session, and for whom alone it is good.
struct SavedSession {
  WOLFSSL_SESSION* session = nullptr;
  uint64_t context = 0;
  std::string host;
};

/// What another server's ticket may have promised and a record around each piece of it: all that is skipped.
constexpr unsigned most_early_data = 32 * 1024;
constexpr uint32_t second = 1000;

const SavedSession* saved(const Resumption* resume) {
  return resume ? static_cast<const SavedSession*>(resume->get()) : nullptr;
}

}  // namespace

struct Engine::Impl : Channel {
  SslHandle ssl;                                // server: from the ClientHello on
  std::shared_ptr<const ServerContext> server;  // until the ClientHello is there
  std::shared_ptr<const ServerSlot> slot;       // from then on
  std::shared_ptr<const ClientContext> client;
  const char* error = "";
  bool established = false;
  bool peer_closed = false;
  bool closed = false;
  bool resuming = false;          // client: the ClientHello offers to resume
  bool ticket_too_large = false;  // client: the last ticket was, and is not kept
  uint16_t ticket = 0;            // client: the size of the last ticket that this connection was given
  int64_t allocated = 0;          // by the library, for this conversation

  /// Sets `in` and `out` for the length of one call.
  class Call {
   public:
    Call(Impl& impl, Input* in, Outbox& out) : impl_(impl) {
      impl.in = in;
      impl.out = &out;
    }
    ~Call() {
      impl_.allocated += tls::allocated() - before_;
      impl_.in = nullptr;
      impl_.out = nullptr;
    }
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

   private:
    Impl& impl_;
    const int64_t before_ = tls::allocated();
  };

  Verdict open_server();
  bool open_client(const SavedSession* session);
  Verdict finish();
  void begin_turn(Moment moment);
  void tell(const Verdict& verdict);
  void look_at_ticket();
  [[nodiscard]] std::string_view alpn() const;
};

Engine::Engine() : impl_(std::make_unique<Impl>()) {}
Engine::~Engine() = default;

std::unique_ptr<Engine> Engine::server(std::shared_ptr<const ServerContext> context) {
  std::unique_ptr<Engine> engine(new Engine);
  engine->impl_->server = std::move(context);
  engine->impl_->hello = std::make_unique<HelloReader>();
  return engine;
}

std::unique_ptr<Engine> Engine::client(std::shared_ptr<const ClientContext> context,
                                       const std::string& server_name, const Resumption* resume) {
  std::unique_ptr<Engine> engine(new Engine);
  Impl& impl = *engine->impl_;
  impl.client = std::move(context);
  impl.demands = &impl.client->impl();
  impl.host = server_name;
  const int64_t before = tls::allocated();
  const bool opened = impl.open_client(saved(resume));
  impl.allocated = tls::allocated() - before;
  return opened ? std::move(engine) : nullptr;
}

bool Engine::Impl::open_client(const SavedSession* session) {
  ssl.reset(wolfSSL_new(demands->context.get()));
  WOLFSSL* raw = ssl.get();
  if (!raw) return false;
  attach(raw, this);
  wolfSSL_set_SessionTicket_cb(
      raw,
      [](WOLFSSL*, const unsigned char*, int size, void* self) {
        static_cast<Impl*>(self)->ticket = static_cast<uint16_t>(size);
        return 0;
      },
      this);
  if (!host.empty() && !conf::Ip::parse(host)) {
    std::string_view name = host;
    if (name.ends_with('.')) name.remove_suffix(1);
    if (wolfSSL_UseSNI(raw, WOLFSSL_SNI_HOST_NAME, name.data(), static_cast<unsigned short>(name.size())) !=
        WOLFSSL_SUCCESS)
      return false;
  }
  // Both, or a server without the hybrid costs another round trip.
  const conf::Group shares[] = {conf::Group::x25519mlkem768, conf::Group::x25519};
  for (const conf::Group group : known_groups(shares)) wolfSSL_UseKeyShare(raw, number(group));
  if (demands->own) {
    const auto bytes = [](std::string_view text) {
      return reinterpret_cast<const unsigned char*>(text.data());
    };
    const std::string_view chain = demands->own->chain_pem, key = demands->own->key_pem.reveal();
    if (wolfSSL_use_certificate_chain_buffer(raw, bytes(chain), static_cast<long>(chain.size())) !=
            WOLFSSL_SUCCESS ||
        wolfSSL_use_PrivateKey_buffer(raw, bytes(key), static_cast<long>(key.size()), WOLFSSL_FILETYPE_PEM) !=
            WOLFSSL_SUCCESS)
      return false;
  }
  if (session && session->context == demands->id && session->host == host) {
    // A copy: two connections that resume at once would write into one session.
    if (WOLFSSL_SESSION* copy = wolfSSL_SESSION_dup(session->session)) {
      resuming = wolfSSL_set_session(raw, copy) == WOLFSSL_SUCCESS;
      wolfSSL_SESSION_free(copy);
      // Expired: the library does not offer it, and yet would mix what it holds with what comes.
      if (!resuming) return open_client(nullptr);
    }
  }
  return true;
}

/// The ClientHello is complete: decides everything that hangs on it.
Verdict Engine::Impl::open_server() {
  const ServerContext::Impl& listener = server->impl();
  const ClientHello& said = hello->hello();
  const ServerRules& rules = listener.pool->rules();
  const auto refuse = [this](Failure failure, Alert alert, const char* why) {
    append_alert(*out, alert);
    return Verdict{failure, why};
  };
  const bool tls13 = said.tls13 && rules.tls13;
  if (!tls13 && !(said.tls12 && rules.tls12))
    return refuse(Failure::version, Alert::protocol_version, "no TLS version in common");
  // The library would ask for one of its own groups instead, and leave the refusal to the client.
  const auto offered = [&said, tls13](conf::Group group) {
    return (tls13 || group != conf::Group::x25519mlkem768) && ClientHello::holds(said.groups, number(group));
  };
  const auto group = std::find_if(rules.groups.begin(), rules.groups.end(), offered);
  if (said.has_groups && group == rules.groups.end())
    return refuse(Failure::cipher, Alert::handshake_failure, "no key-exchange group in common");
  std::string_view protocol;
  if (said.has_alpn && !listener.alpn.empty()) {
    protocol = said.choose_alpn(listener.alpn);
    if (protocol.empty())
      return refuse(Failure::alpn, Alert::no_application_protocol, "no application protocol in common");
  }
  host = said.server_name;
  slot = listener.pool->slot(listener.choose(said));
  if (slot) ssl.reset(wolfSSL_new(slot->context.get()));
  if (!ssl) return refuse(Failure::memory, Alert::internal_error, "the TLS library is out of memory");
  attach(ssl.get(), this);
  if (said.early_data) early_left = most_early_data;
  if (slot->rsa) RsaPower::offer(ssl.get());
  if (!tls13 && said.has_groups) set_tls12_group(ssl.get(), *group);
  if (!protocol.empty()) {
    std::string list(protocol);
    if (wolfSSL_UseALPN(ssl.get(), list.data(), static_cast<unsigned>(list.size()),
                        WOLFSSL_ALPN_FAILED_ON_MISMATCH) != WOLFSSL_SUCCESS)
      return refuse(Failure::memory, Alert::internal_error, "the TLS library is out of memory");
  }
  server.reset();
  return {Failure::none, ""};
}

/// The handshake is over: what must have happened, and what is not needed any more.
Verdict Engine::Impl::finish() {
  if (client && (demands->verifies || demands->pin) && !leaf_passed && !wolfSSL_session_reused(ssl.get()))
    return {Failure::certificate, "the certificate was not checked", Alert::bad_certificate};
  if (client && demands->own) wolfSSL_UnloadCertsKeys(ssl.get());
  hello.reset();
  look_at_ticket();
#ifdef POSTERN_WOLFSSL_BUNDLED
  // The application protocol is the only extension that is still asked for.
  if (alpn().empty()) postern_forget_extensions(ssl.get());
#endif
  use_bulk_cipher(ssl.get());
  established = true;
  return {Failure::none, ""};
}

/// Forgets key updates of a second that is over, and requests whose answers are out.
void Engine::Impl::begin_turn(Moment moment) {
  backlog = moment.backlog;
  if (!backlog) unanswered = 0;
  if (updates != 0 && moment.milliseconds - window < second) return;
  updates = 0;
  window = moment.milliseconds;  // should one come now, its second begins
}

/// The last word to a peer that broke the rules; nothing where it broke off itself.
void Engine::Impl::tell(const Verdict& verdict) {
  if (verdict.failure != Failure::alert) postern_alert(ssl.get(), static_cast<int>(verdict.alert));
}

/// A ticket above the limit goes at once: for the rest of the conversation it would only be memory.
void Engine::Impl::look_at_ticket() {
  if (ticket == 0) return;
  ticket_too_large = ticket > ticket_limit;
  if (!ticket_too_large) return;
  ticket = 0;
  const unsigned char nothing = 0;
  wolfSSL_set_SessionTicket(ssl.get(), &nothing, 1);  // a short one, so that the library frees the long one
  wolfSSL_set_SessionTicket(ssl.get(), nullptr, 0);
}

Progress Engine::handshake(Input& in, Outbox& out) noexcept try {
  Impl& my = *impl_;
  if (failure_ != Failure::none) return Progress::failed;
  if (my.established) return Progress::established;
  const Impl::Call call(my, &in, out);
  const auto fail = [&](const Verdict& verdict) {
    failure_ = verdict.failure;
    my.error = verdict.error;
    my.hello.reset();
    return Progress::failed;
  };
  const auto broken = [&](const Verdict& verdict) {
    my.tell(verdict);
    return fail(verdict);
  };
  if (!my.ssl) {
    switch (my.hello->feed(in)) {
      case HelloReader::Status::want_input:
        return Progress::want_input;
      case HelloReader::Status::failed:
        append_alert(out, my.hello->alert());
        return fail({my.hello->failure(), my.hello->error()});
      case HelloReader::Status::complete:
        break;
    }
    if (const Verdict verdict = my.open_server(); verdict.failure != Failure::none) return fail(verdict);
  }
  const RsaPower::Use rsa(my.slot ? my.slot->rsa.get() : nullptr);
  const int result = my.client ? wolfSSL_connect(my.ssl.get()) : wolfSSL_accept(my.ssl.get());
  if (result != WOLFSSL_SUCCESS) {
    const int error = wolfSSL_get_error(my.ssl.get(), result);
    return error == WOLFSSL_ERROR_WANT_READ ? Progress::want_input : broken(judge(my.ssl.get(), error, my));
  }
  if (const Verdict verdict = my.finish(); verdict.failure != Failure::none) return broken(verdict);
  return Progress::established;
} catch (const std::bad_alloc&) {
  append_alert(out, Alert::internal_error);
  failure_ = Failure::memory;
  impl_->error = "out of memory";
  impl_->hello.reset();
  return Progress::failed;
}

ReadResult Engine::read(Input& in, std::span<uint8_t> plain, Outbox& out, Moment moment) noexcept {
  Impl& my = *impl_;
  ReadResult result;
  if (failure_ != Failure::none || !my.established) return {0, ReadEnd::failed};
  if (my.peer_closed) {
    in.skip(in.size);  // RFC 8446 6.1: data behind close_notify is ignored
    return {0, ReadEnd::closed};
  }
  const Impl::Call call(my, &in, out);
  const BulkKeys keys;
  WOLFSSL* ssl = my.ssl.get();
  my.begin_turn(moment);
  while (result.bytes < plain.size()) {
    if (const size_t opened = open_record(ssl, in, plain.subspan(result.bytes))) {
      result.bytes += opened;
      continue;
    }
    const auto room = std::min<size_t>(plain.size() - result.bytes, INT_MAX);
    const int n = wolfSSL_read(ssl, plain.data() + result.bytes, static_cast<int>(room));
    my.look_at_ticket();
    if (n > 0) {
      result.bytes += static_cast<size_t>(n);
      continue;
    }
    const int error = wolfSSL_get_error(ssl, n);
    if (error == WOLFSSL_ERROR_WANT_READ) {
      if (in.size != 0) result.end = ReadEnd::full;  // answers to key updates should leave first
      return result;
    }
    if (error == WOLFSSL_ERROR_ZERO_RETURN) {
      my.peer_closed = true;
      in.skip(in.size);
      result.end = ReadEnd::closed;
      return result;
    }
    const Verdict verdict = judge(ssl, error, my);
    my.tell(verdict);
    failure_ = verdict.failure;
    my.error = verdict.error;
    result.end = ReadEnd::failed;
    return result;
  }
  result.end = ReadEnd::full;
  return result;
}

size_t Engine::held() const {
  const Impl& my = *impl_;
  const size_t hello = my.hello ? sizeof(HelloReader) + my.hello->held() : 0;
  return sizeof(Engine) + sizeof(Impl) + hello + static_cast<size_t>(std::max<int64_t>(my.allocated, 0));
}

bool Engine::write(std::span<const uint8_t> plain, Outbox& out) noexcept {
  Impl& my = *impl_;
  if (failure_ != Failure::none || !my.established || my.closed) return false;
  const Impl::Call call(my, nullptr, out);
  const BulkKeys keys;
  while (!plain.empty()) {
    if (const size_t sealed = seal_record(my.ssl.get(), plain, out)) {
      plain = plain.subspan(sealed);
      continue;
    }
    const auto size = static_cast<int>(std::min<size_t>(plain.size(), INT_MAX));
    const int n = wolfSSL_write(my.ssl.get(), plain.data(), size);
    if (n <= 0) {
      const Verdict verdict = judge(my.ssl.get(), wolfSSL_get_error(my.ssl.get(), n), my);
      failure_ = verdict.failure;
      my.error = verdict.error;
      return false;
    }
    plain = plain.subspan(static_cast<size_t>(n));
  }
  return true;
}

void Engine::close(Outbox& out) noexcept {
  Impl& my = *impl_;
  if (failure_ != Failure::none || !my.established || my.closed) return;
  const Impl::Call call(my, nullptr, out);
  my.closed = true;
  wolfSSL_shutdown(my.ssl.get());
}

bool Engine::is_client() const { return impl_->client != nullptr; }

Facts Engine::facts() const {
  if (!impl_->ssl || !impl_->established) return {};
  return facts_of(impl_->ssl.get(), impl_->client == nullptr);
}

const char* Engine::error() const { return impl_->error; }

std::string_view Engine::server_name() const { return impl_->client ? std::string_view() : impl_->host; }

std::string_view Engine::certificate_id() const {
  return impl_->slot ? std::string_view(impl_->slot->certificate->id) : std::string_view();
}

std::string_view Engine::alpn() const { return impl_->alpn(); }

std::string_view Engine::Impl::alpn() const {
  char* name = nullptr;
  unsigned short size = 0;
  if (!ssl || wolfSSL_ALPN_GetProtocol(ssl.get(), &name, &size) != WOLFSSL_SUCCESS) return {};
  return {name, size};
}

bool Engine::offers_resumption() const { return impl_->resuming; }

// A session of the library holds the ticket it came with beside the secrets of the last handshake. They
// belong together only if this handshake brought the ticket, or if TLS 1.2 resumed, which keeps the secrets.
// Whoever offers another mixture is refused from then on.
void Engine::renew(std::unique_ptr<Resumption>& kept) const {
  const Impl& my = *impl_;
  if (!my.client || !my.established) return;
  WOLFSSL* ssl = my.ssl.get();
  const bool tls13 = wolfSSL_version(ssl) == TLS1_3_VERSION, resumed = wolfSSL_session_reused(ssl) != 0;
  if (my.resuming && !resumed) {
    kept.reset();
    // A session of TLS 1.2 is only ever offered as TLS 1.2: the next handshake is a free one.
    if (!tls13) return;
  }
  if (my.ticket_too_large || (my.ticket == 0 && (tls13 || resumed))) return;
  if (!tls13 && !resumes_tls12) return;
  WOLFSSL_SESSION* session = wolfSSL_get1_session(ssl);
  if (!session) return;
  WOLFSSL_SESSION* const copy = wolfSSL_SESSION_dup(session);
  wolfSSL_SESSION_free(session);
  if (!copy) return;
  const auto drop = [](WOLFSSL_SESSION* unused) { wolfSSL_SESSION_free(unused); };
  std::unique_ptr<WOLFSSL_SESSION, decltype(drop)> owned(copy, drop);
  auto keep = std::make_unique<SavedSession>();
  keep->context = my.client->impl().id;
  keep->host = my.host;
  auto made = std::make_unique<Resumption>(nullptr);
  keep->session = owned.release();
  made->session_ = keep.release();
  kept = std::move(made);
}

Resumption::~Resumption() {
  const std::unique_ptr<SavedSession> keep(static_cast<SavedSession*>(session_));
  if (keep) wolfSSL_SESSION_free(keep->session);
}

std::string_view name(Failure failure) {
  switch (failure) {
    case Failure::none:
      return "none";
    case Failure::not_tls:
      return "not_tls";
    case Failure::hello_too_large:
      return "hello_too_large";
    case Failure::version:
      return "version";
    case Failure::cipher:
      return "cipher";
    case Failure::alpn:
      return "alpn";
    case Failure::certificate:
      return "certificate";
    case Failure::alert:
      return "alert";
    case Failure::protocol:
      return "protocol";
    case Failure::key_updates:
      return "key_updates";
    case Failure::memory:
      return "memory";
  }
  return "";
}

}  // namespace postern::tls
