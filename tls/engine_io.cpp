// SPDX-License-Identifier: GPL-3.0-or-later
// Reading copies from what the caller gave, writing appends: neither blocks, and only want of memory makes
// writing fail. The library is C: no exception may pass through it.
#include "tls/engine_io.hpp"

#include <algorithm>
#include <cstring>
#include <ctime>
#include <new>

#include "tls/der.hpp"

namespace postern::tls {
namespace {

/// The library hands out what it was given: the part of a channel that its amendments know.
Channel& channel_of(void* user) { return *static_cast<Channel*>(static_cast<Conversation*>(user)); }

/// Never 0: the library would ask again for ever.
int receive(WOLFSSL* /*ssl*/, char* to, int wanted, void* user) {
  Channel& channel = channel_of(user);
  if (wanted <= 0 || !channel.in) return WOLFSSL_CBIO_ERR_WANT_READ;
  const auto room = static_cast<size_t>(wanted);
  if (channel.hello) {
    size_t n = room;
    if (channel.hello->replay(reinterpret_cast<uint8_t*>(to), n)) channel.hello.reset();
    return static_cast<int>(n);
  }
  // As many answers as may wait to be taken are out: the caller first sees whether the peer takes them.
  if (channel.unanswered >= postern_most_unanswered && !channel.backlog) return WOLFSSL_CBIO_ERR_WANT_READ;
  const size_t n = std::min(room, channel.in->size);
  if (n == 0) return WOLFSSL_CBIO_ERR_WANT_READ;
  std::memcpy(to, channel.in->data, n);
  channel.in->skip(n);
  return static_cast<int>(n);
}

int send(WOLFSSL* /*ssl*/, char* from, int size, void* user) {
  Channel& channel = channel_of(user);
  if (size <= 0 || !channel.out) return WOLFSSL_CBIO_ERR_GENERAL;
  if (channel.out->append(reinterpret_cast<const uint8_t*>(from), static_cast<size_t>(size))) return size;
  channel.starved = true;
  return WOLFSSL_CBIO_ERR_GENERAL;
}

struct AlertRow {
  int code;
  const char* text;
};
constexpr AlertRow alert_rows[] = {
    {0, "the peer closed the conversation"},
    {10, "peer alert: unexpected_message"},
    {20, "peer alert: bad_record_mac"},
    {22, "peer alert: record_overflow"},
    {40, "peer alert: handshake_failure"},
    {42, "peer alert: bad_certificate"},
    {43, "peer alert: unsupported_certificate"},
    {44, "peer alert: certificate_revoked"},
    {45, "peer alert: certificate_expired"},
    {46, "peer alert: certificate_unknown"},
    {47, "peer alert: illegal_parameter"},
    {48, "peer alert: unknown_ca"},
    {49, "peer alert: access_denied"},
    {50, "peer alert: decode_error"},
    {51, "peer alert: decrypt_error"},
    {70, "peer alert: protocol_version"},
    {71, "peer alert: insufficient_security"},
    {80, "peer alert: internal_error"},
    {86, "peer alert: inappropriate_fallback"},
    {90, "peer alert: user_canceled"},
    {109, "peer alert: missing_extension"},
    {110, "peer alert: unsupported_extension"},
    {112, "peer alert: unrecognized_name"},
    {116, "peer alert: certificate_required"},
    {120, "peer alert: no_application_protocol"},
};

struct ErrorRow {
  int error;
  Failure failure;
  const char* text;
  Alert alert;
};
constexpr ErrorRow error_rows[] = {
    {VERSION_ERROR, Failure::version, "no TLS version in common", Alert::protocol_version},
    {UNSUPPORTED_PROTO_VERSION, Failure::version, "no TLS version in common", Alert::protocol_version},
    {MATCH_SUITE_ERROR, Failure::cipher, "no cipher suite in common", Alert::handshake_failure},
    {UNSUPPORTED_SUITE, Failure::cipher, "no cipher suite in common", Alert::illegal_parameter},
    {KEY_SHARE_ERROR, Failure::cipher, "no key-exchange group in common", Alert::handshake_failure},
    {BAD_KEY_SHARE_DATA, Failure::cipher, "no key-exchange group in common", Alert::illegal_parameter},
    {ECC_CURVE_ERROR, Failure::cipher, "no key-exchange group in common", Alert::illegal_parameter},
    {UNKNOWN_ALPN_PROTOCOL_NAME_E, Failure::alpn, "no application protocol in common",
     Alert::no_application_protocol},
    {ASN_AFTER_DATE_E, Failure::certificate, "the certificate has expired", Alert::bad_certificate},
    {ASN_BEFORE_DATE_E, Failure::certificate, "the certificate is not yet valid", Alert::bad_certificate},
    {ASN_NO_SIGNER_E, Failure::certificate, "unknown issuer", Alert::bad_certificate},
    {ASN_SELF_SIGNED_E, Failure::certificate, "self-signed certificate", Alert::bad_certificate},
    {ASN_SIG_CONFIRM_E, Failure::certificate, "bad signature on the certificate", Alert::bad_certificate},
    {ASN_SIG_OID_E, Failure::certificate, "the certificate is signed in an unsupported way",
     Alert::bad_certificate},
    {ASN_SIG_HASH_E, Failure::certificate, "the certificate is signed in an unsupported way",
     Alert::bad_certificate},
    {ASN_PATHLEN_INV_E, Failure::certificate, "a certificate of the chain may not issue others",
     Alert::bad_certificate},
    {ASN_PATHLEN_SIZE_E, Failure::certificate, "a certificate of the chain may not issue others",
     Alert::bad_certificate},
    {NOT_CA_ERROR, Failure::certificate, "a certificate of the chain may not issue others",
     Alert::bad_certificate},
    {ASN_NAME_INVALID_E, Failure::certificate, "the issuer may not certify this name",
     Alert::bad_certificate},
    {ASN_CRIT_EXT_E, Failure::certificate, "the certificate has an unknown critical extension",
     Alert::bad_certificate},
    {ASN_PARSE_E, Failure::certificate, "malformed certificate", Alert::bad_certificate},
    {EXTKEYUSE_AUTH_E, Failure::certificate, "the certificate is not for this use", Alert::bad_certificate},
    {KEYUSE_SIGNATURE_E, Failure::certificate, "the certificate is not for this use", Alert::bad_certificate},
    {RSA_KEY_SIZE_E, Failure::certificate, "the certificate's RSA key is too short", Alert::bad_certificate},
    {ECC_KEY_SIZE_E, Failure::certificate, "the certificate's key is too short", Alert::bad_certificate},
    {MAX_CHAIN_ERROR, Failure::certificate, "the certificate chain is too long", Alert::bad_certificate},
    {DOMAIN_NAME_MISMATCH, Failure::certificate, "name does not match", Alert::bad_certificate},
    {IPADDR_MISMATCH, Failure::certificate, "name does not match", Alert::bad_certificate},
    {VERIFY_CERT_ERROR, Failure::certificate, "the certificate was refused", Alert::bad_certificate},
    {NO_PEER_CERT, Failure::certificate, "the peer showed no certificate", Alert::bad_certificate},
    {VERIFY_SIGN_ERROR, Failure::protocol, "the peer does not own its certificate's key",
     Alert::decrypt_error},
    {SIG_VERIFY_E, Failure::protocol, "the peer does not own its certificate's key", Alert::decrypt_error},
    {VERIFY_FINISHED_ERROR, Failure::protocol, "the handshake was tampered with", Alert::decrypt_error},
    {BAD_BINDER, Failure::protocol, "a resumption that proves nothing", Alert::illegal_parameter},
    {DECRYPT_ERROR, Failure::protocol, "a record that does not decrypt", Alert::bad_record_mac},
    {VERIFY_MAC_ERROR, Failure::protocol, "a record that does not decrypt", Alert::bad_record_mac},
    {AES_GCM_AUTH_E, Failure::protocol, "a record that does not decrypt", Alert::bad_record_mac},
    {SANITY_CIPHER_E, Failure::protocol, "a record that does not decrypt", Alert::bad_record_mac},
    {UNKNOWN_RECORD_TYPE, Failure::protocol, "a record of unknown type", Alert::unexpected_message},
    {LENGTH_ERROR, Failure::protocol, "a record of impossible length", Alert::decode_error},
    {OUT_OF_ORDER_E, Failure::protocol, "a message out of order", Alert::unexpected_message},
    {DUPLICATE_MSG_E, Failure::protocol, "a message that came twice", Alert::unexpected_message},
    {SANITY_MSG_E, Failure::protocol, "a message out of order", Alert::unexpected_message},
    {HANDSHAKE_SIZE_ERROR, Failure::protocol, "a handshake message of impossible length",
     Alert::illegal_parameter},
    {UNKNOWN_HANDSHAKE_TYPE, Failure::protocol, "a message of unknown kind", Alert::unexpected_message},
    {NO_CHANGE_CIPHER_E, Failure::protocol, "a message out of order", Alert::unexpected_message},
    {ECC_PEERKEY_ERROR, Failure::protocol, "a key share that is no point of its curve",
     Alert::illegal_parameter},
    {PEER_KEY_ERROR, Failure::protocol, "a key share that is no point of its curve",
     Alert::illegal_parameter},
    {ECC_SHARED_ERROR, Failure::protocol, "a key share that is no point of its curve",
     Alert::illegal_parameter},
    {ECC_BAD_ARG_E, Failure::protocol, "a key share that is no point of its curve", Alert::illegal_parameter},
    {ECC_OUT_OF_RANGE_E, Failure::protocol, "a key share that is no point of its curve",
     Alert::illegal_parameter},
    {INVALID_PARAMETER, Failure::protocol, "a value that may not be", Alert::illegal_parameter},
    {BUFFER_ERROR, Failure::protocol, "a malformed message", Alert::decode_error},
    {BUFFER_E, Failure::protocol, "a malformed message", Alert::decode_error},
    {PARSE_ERROR, Failure::protocol, "a malformed message", Alert::unexpected_message},
    {INCOMPLETE_DATA, Failure::protocol, "a malformed message", Alert::decode_error},
    {SECURE_RENEGOTIATION_E, Failure::protocol, "a renegotiation", Alert::handshake_failure},
    {MEMORY_E, Failure::memory, "out of memory", Alert::internal_error},
    {MEMORY_ERROR, Failure::memory, "out of memory", Alert::internal_error},
};

/// The library goes on trusting what stands above a leaf it accepted, and never looks at the end of its life
/// again. The store remembers the first such end. What has expired already was not accepted.
void note_intermediates(const WOLFSSL_X509_STORE_CTX& peer, const TrustStore::Impl& trust) {
  const std::time_t now = std::time(nullptr);
  for (int i = 1; i < peer.totalCerts; ++i) {
    const auto facts = read_certificate({peer.certs[i].buffer, peer.certs[i].length});
    if (facts && facts->not_after >= now) trust.trusted_until(facts->not_after);
  }
}

/// Whether the certificate is what we want to see.
bool accepts(bool library_accepts, const WOLFSSL_X509_STORE_CTX& store, Channel& channel) {
  const bool pinned = channel.demands->pin.has_value();
  if (store.error_depth != 0) {
    // Above the leaf: with a pin nothing there matters; without, the library's word stands.
    return pinned || library_accepts;
  }
  if (store.totalCerts < 1 || !store.certs || !store.certs[0].buffer) return false;
  const std::span<const uint8_t> leaf(store.certs[0].buffer, store.certs[0].length);
  if (pinned) {
    channel.leaf_passed = sha256(leaf) == *channel.demands->pin;
    if (!channel.leaf_passed) channel.refusal = "pin mismatch";
    return channel.leaf_passed;
  }
  if (!library_accepts) return false;
  note_intermediates(store, channel.demands->trust->impl());
  channel.leaf_passed = names_host(leaf, channel.host);
  if (!channel.leaf_passed) channel.refusal = "name does not match";
  return channel.leaf_passed;
}

}  // namespace

void prepare_io(WOLFSSL_CTX* context) {
  wolfSSL_CTX_SetIORecv(context, receive);
  wolfSSL_CTX_SetIOSend(context, send);
  wolfSSL_CTX_set_group_messages(context);
  // Resumption is by ticket on the server and by Resumption on the client: no table, no lock.
  wolfSSL_CTX_set_session_cache_mode(context, WOLFSSL_SESS_CACHE_OFF);
}

void attach(WOLFSSL* ssl, Channel* channel) {
  Conversation* const known = channel;
  wolfSSL_SetIOReadCtx(ssl, known);
  wolfSSL_SetIOWriteCtx(ssl, known);
  wolfSSL_SetCertCbCtx(ssl, known);
}

int verify_peer(int library_accepts, WOLFSSL_X509_STORE_CTX* store) {
  if (!store->userCtx) return 0;
  Channel* const channel = &channel_of(store->userCtx);
  try {
    return channel->demands ? accepts(library_accepts != 0, *store, *channel) : 0;
  } catch (const std::bad_alloc&) {
    channel->starved = true;
    return 0;
  }
}

Verdict judge(WOLFSSL* ssl, int error, const Channel& channel) {
#ifdef OPENSSL_EXTRA  // a distribution's build keeps a queue of errors for each thread, which we never read
  wolfSSL_ERR_clear_error();
#endif
  if (channel.starved) return {Failure::memory, "out of memory", Alert::internal_error};
  if (channel.refusal) return {Failure::certificate, channel.refusal, Alert::bad_certificate};
  if (channel.flood != postern_no_flood)
    return {Failure::key_updates,
            channel.flood == postern_too_often ? "too many key updates in a second"
                                               : "key updates whose answers it does not take",
            Alert::unexpected_message};
  WOLFSSL_ALERT_HISTORY history{};
  wolfSSL_get_alert_history(ssl, &history);
  const bool told = history.last_rx.level == alert_fatal && history.last_rx.code >= 0;
  if (told || error == WOLFSSL_ERROR_ZERO_RETURN) {
    const int code = told ? history.last_rx.code : 0;
    for (const AlertRow& row : alert_rows)
      if (row.code == code) return {Failure::alert, row.text};
    return {Failure::alert, "peer alert of an unknown kind"};
  }
  // The server has settled the version before the library is asked: here it is only a record's.
  if (error == VERSION_ERROR && !channel.demands)
    return {Failure::protocol, "a record of another version", Alert::protocol_version};
  for (const ErrorRow& row : error_rows)
    if (row.error == error) return {row.failure, row.text, row.alert};
  const char* reason = wolfSSL_ERR_reason_error_string(static_cast<unsigned long>(error));
  return {Failure::protocol, reason && *reason ? reason : "a breach of the protocol"};
}

}  // namespace postern::tls
