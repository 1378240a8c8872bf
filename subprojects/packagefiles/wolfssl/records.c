/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Records of application data in TLS 1.3 with AES-GCM, taken straight from the wire's buffer to the
 * plaintext's and back. The library copies each record into a buffer of its own first, and out of it after.
 * Promise: what these two do, the library would have done byte for byte; whatever is out of the ordinary, a
 * record that does not decrypt included, is left to the library as it came, and 0 is returned. */
#include <wolfssl/wolfcrypt/settings.h>

#include <wolfssl/internal.h>
#include "postern_conversation.h"
#ifdef NO_INLINE
#include <wolfssl/wolfcrypt/misc.h>
#else
#define WOLFSSL_MISC_INCLUDED
#include <wolfcrypt/src/misc.c>
#endif

unsigned postern_open_record(WOLFSSL* ssl, const unsigned char* record, unsigned size, unsigned char* plain,
                             unsigned room);
/* Encrypts `plain` and one byte more, the type of its content, to `record` behind the header. 0: done. */
typedef int (*postern_sealer)(Aes* key, const unsigned char* nonce, const unsigned char* plain, unsigned size,
                              unsigned char* record);
unsigned postern_seal_record(WOLFSSL* ssl, const unsigned char* plain, unsigned size, unsigned char* record,
                             postern_sealer sealer);

#if defined(WOLFSSL_TLS13) && defined(HAVE_AESGCM)

/* Each of these gives a record a meaning, or the library a habit, that is not looked at here. */
#if defined(HAVE_MAX_FRAGMENT) || defined(WOLFSSL_EARLY_DATA) || defined(HAVE_LIBZ) || defined(ATOMIC_USER) || \
    defined(HAVE_PK_CALLBACKS) || defined(HAVE_SECURE_RENEGOTIATION) || defined(WOLFSSL_DTLS) || \
    defined(WOLFSSL_QUIC) || defined(HAVE_WRITE_DUP) || defined(WOLFSSL_THREADED_CRYPT) || \
    defined(WOLFSSL_RW_THREADED) || defined(WOLFSSL_ASYNC_CRYPT) || defined(WOLFSSL_POST_HANDSHAKE_AUTH)
#error "records.c knows nothing of one of these settings"
#endif

enum {
    header_size = RECORD_HEADER_SZ,
    tag_size = AES_BLOCK_SIZE,
    nonce_size = 12,
    most_plain = MAX_PLAINTEXT_SZ,
    between_records = 0, /* doProcessInit, which internal.c keeps to itself */
    /* The library looks at its records in time for a key update (2^24.5): keep well away from that number. */
    last_sequence = 0x01600000
};
_Static_assert(AEAD_MAX_IMP_SZ >= nonce_size && most_plain == 1 << 14, "TLS 1.3 says so");

static int in_order(const WOLFSSL* ssl, const Aes* key)
{
    const struct postern_conversation* conversation = (const struct postern_conversation*)ssl->verifyCbCtx;
    return (conversation == NULL || conversation->partial == NULL) && ssl->options.tls1_3 && ssl->options.handShakeState == HANDSHAKE_DONE && key != NULL &&
           ssl->specs.bulk_cipher_algorithm == wolfssl_aes_gcm && ssl->specs.aead_mac_size == tag_size &&
           (ssl->error == 0 || ssl->error == WC_NO_ERR_TRACE(WANT_READ)) && !ssl->keys.keyUpdateRespond &&
           ssl->pendingAlert.level == alert_none;
}

/* RFC 8446, 5.3: the key's own, with the number of the record over its end. */
static void make_nonce(unsigned char* nonce, const unsigned char* iv, word32 high, word32 low)
{
    int i;
    XMEMCPY(nonce, iv, nonce_size);
    for (i = 0; i < 4; i++) {
        nonce[nonce_size - 8 + i] ^= (unsigned char)(high >> (24 - 8 * i));
        nonce[nonce_size - 4 + i] ^= (unsigned char)(low >> (24 - 8 * i));
    }
}

/* The length of the plaintext of the complete record at `record`, which is then in `plain`. */
unsigned postern_open_record(WOLFSSL* ssl, const unsigned char* record, unsigned size, unsigned char* plain,
                             unsigned room)
{
    Keys* keys = &ssl->keys;
    unsigned char nonce[nonce_size];
    unsigned length, sealed;
    int failed;

    if (!in_order(ssl, ssl->decrypt.aes) || ssl->buffers.inputBuffer.length != ssl->buffers.inputBuffer.idx ||
        ssl->buffers.clearOutputBuffer.length != 0 || ssl->options.processReply != between_records ||
        (ssl->arrays != NULL && ssl->arrays->pendingMsgSz != 0))
        return 0;
    if (size < header_size || record[0] != application_data || record[1] != 3 || record[2] != 3)
        return 0;
    sealed = (unsigned)record[3] << 8 | record[4];
    if (size - header_size < sealed || sealed < tag_size + 2 || sealed > tag_size + 1 + most_plain)
        return 0;
    length = sealed - tag_size;
    if (room < length)
        return 0;
    make_nonce(nonce, keys->aead_dec_imp_IV, keys->peer_sequence_number_hi, keys->peer_sequence_number_lo);
    record += header_size;
    failed = wc_AesGcmDecrypt(ssl->decrypt.aes, plain, record, length, nonce, nonce_size, record + length, tag_size,
                              record - header_size, header_size);
    ForceZero(nonce, nonce_size);
    if (failed) {
        ForceZero(plain, length);
        return 0;
    }
    sealed = length;
    while (length > 0 && plain[length - 1] == 0)  /* padding */
        length--;
    if (length < 2 || plain[length - 1] != application_data) {
        ForceZero(plain, sealed);
        return 0;
    }
    if (++keys->peer_sequence_number_lo == 0)
        keys->peer_sequence_number_hi++;
    ssl->options.emptyRecordCount = 0;
    ssl->error = 0;
    return length - 1;
}

static int seal(Aes* key, const unsigned char* nonce, const unsigned char* plain, unsigned size,
                unsigned char* record)
{
    unsigned char* body = record + header_size;
    XMEMCPY(body, plain, size);
    body[size++] = application_data;
    return wc_AesGcmEncrypt(key, body, body, size, nonce, nonce_size, body + size, tag_size, record, header_size);
}

/* How much of `plain` is now in the record at `record`, which has room for 22 bytes more. `sealer` may be
 * NULL. */
unsigned postern_seal_record(WOLFSSL* ssl, const unsigned char* plain, unsigned size, unsigned char* record,
                             postern_sealer sealer)
{
    Keys* keys = &ssl->keys;
    unsigned char nonce[nonce_size];
    unsigned sealed;
    int failed;

    if (!in_order(ssl, ssl->encrypt.aes) || ssl->buffers.outputBuffer.length != 0 || ssl->options.sentNotify ||
        ssl->options.isClosed || ssl->options.connReset || keys->sequence_number_hi != 0 ||
        keys->sequence_number_lo >= last_sequence)
        return 0;
    if (size > most_plain)
        size = most_plain;
    sealed = size + 1 + tag_size;
    record[0] = application_data;
    record[1] = 3;
    record[2] = 3;
    record[3] = (unsigned char)(sealed >> 8);
    record[4] = (unsigned char)sealed;
    make_nonce(nonce, keys->aead_enc_imp_IV, 0, keys->sequence_number_lo);
    failed = sealer == NULL || sealer(ssl->encrypt.aes, nonce, plain, size, record) != 0;
    if (failed)  /* nothing has left, and it is the same plaintext */
        failed = seal(ssl->encrypt.aes, nonce, plain, size, record);
    ForceZero(nonce, nonce_size);
    if (failed) {
        ForceZero(record, header_size + sealed);
        return 0;
    }
    keys->sequence_number_lo++;
    ssl->error = 0;
    return size;
}

#else

unsigned postern_open_record(WOLFSSL* ssl, const unsigned char* record, unsigned size, unsigned char* plain,
                             unsigned room)
{
    (void)ssl, (void)record, (void)size, (void)plain, (void)room;
    return 0;
}

unsigned postern_seal_record(WOLFSSL* ssl, const unsigned char* plain, unsigned size, unsigned char* record,
                             postern_sealer sealer)
{
    (void)ssl, (void)plain, (void)size, (void)record, (void)sealer;
    return 0;
}

#endif
