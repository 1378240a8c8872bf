/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The rules behind postern_conversation.h: handshake messages in any fragments, a limit on key updates, early
 * data skipped, and an alert for every failure. */
#include <wolfssl/wolfcrypt/settings.h>

#include <wolfssl/internal.h>

#include "postern_conversation.h"
#ifdef NO_INLINE
#include <wolfssl/wolfcrypt/misc.h>
#else
#define WOLFSSL_MISC_INCLUDED
#include <wolfcrypt/src/misc.c>
#endif

struct postern_partial {
    word32 have;
    word32 size; /* of bytes[]: the header until that is there, then the whole message */
    byte bytes[];
};

/* After the handshake the longest message for a client is a ticket, and for a server a key update. */
enum { most_for_client = 20000, most_for_server = 64 };

static struct postern_conversation* of(const WOLFSSL* ssl)
{
    return (struct postern_conversation*)ssl->verifyCbCtx;
}

void postern_forget(struct postern_conversation* conversation)
{
    if (conversation->partial != NULL) {
        ForceZero(conversation->partial->bytes, conversation->partial->have);
        XFREE(conversation->partial, NULL, DYNAMIC_TYPE_TMP_BUFFER);
    }
    conversation->partial = NULL;
}

void postern_alert(WOLFSSL* ssl, int alert)
{
    /* Where the handshake failed in the middle of our first flight, in clear, the flight is not sent. */
    if (!IsEncryptionOn(ssl, 1) && ssl->alert_history.last_tx.level != alert_fatal) {
        ssl->buffers.outputBuffer.length = 0;
        ssl->buffers.outputBuffer.idx = 0;
    }
    SendAlert(ssl, alert_fatal, alert);
}

/* --- key updates -------------------------------------------------------------------------------------- */

static int allow_update(WOLFSSL* ssl, const byte* message)
{
    struct postern_conversation* my = of(ssl);
    /* A malformed one is the library's to refuse. */
    if (my->updates >= postern_most_updates)
        my->flood = postern_too_often;
    else if (message[HANDSHAKE_HEADER_SZ] == update_requested && my->unanswered >= postern_most_unanswered)
        my->flood = postern_unanswered;
    if (my->flood != postern_no_flood) {
        SendAlert(ssl, alert_fatal, unexpected_message);
        return WC_NO_ERR_TRACE(SANITY_MSG_E);
    }
    my->updates++;
    if (message[HANDSHAKE_HEADER_SZ] == update_requested)
        my->unanswered++;
    return 0;
}

/* --- handshake messages ------------------------------------------------------------------------------- */

static word32 body_size(const byte* header)
{
    return (word32)header[1] << 16 | (word32)header[2] << 8 | header[3];
}

/* One whole message, or the beginning of one that the library collects by itself. */
static int hand_over(WOLFSSL* ssl, byte* input, word32* index, word32 end, postern_handler handler)
{
    const byte* message = input + *index;
    if (ssl->options.tls1_3 && ssl->options.handShakeState == HANDSHAKE_DONE && message[0] == key_update &&
        end - *index > HANDSHAKE_HEADER_SZ) {
        const int refused = allow_update(ssl, message);
        if (refused != 0)
            return refused;
    }
    return handler(ssl, input, index, end);
}

static struct postern_partial* partial_of(word32 size)
{
    struct postern_partial* made =
        (struct postern_partial*)XMALLOC(sizeof *made + size, NULL, DYNAMIC_TYPE_TMP_BUFFER);
    if (made != NULL) {
        made->have = 0;
        made->size = size;
    }
    return made;
}

/* Adds what `input` has of the message. 1: it is whole, or its header is and the library can go on. */
static int collect(WOLFSSL* ssl, const byte* input, word32* index, word32 end)
{
    struct postern_partial* partial = of(ssl)->partial;
    for (;;) {
        const word32 n = min(partial->size - partial->have, end - *index);
        XMEMCPY(partial->bytes + partial->have, input + *index, n);
        partial->have += n;
        *index += n;
        if (partial->have < partial->size)
            return 0;
        if (partial->size == HANDSHAKE_HEADER_SZ && ssl->arrays == NULL) {
            const word32 whole = HANDSHAKE_HEADER_SZ + body_size(partial->bytes);
            struct postern_partial* bigger;
            if (ssl->options.side == WOLFSSL_SERVER_END && whole > most_for_server)
                return WC_NO_ERR_TRACE(OUT_OF_ORDER_E);
            if (whole > most_for_client)
                return WC_NO_ERR_TRACE(HANDSHAKE_SIZE_ERROR);
            if (whole == HANDSHAKE_HEADER_SZ)
                return 1;
            bigger = partial_of(whole);
            if (bigger == NULL)
                return WC_NO_ERR_TRACE(MEMORY_E);
            XMEMCPY(bigger->bytes, partial->bytes, partial->have);
            bigger->have = partial->have;
            XFREE(partial, NULL, DYNAMIC_TYPE_TMP_BUFFER);
            of(ssl)->partial = partial = bigger;
            continue;
        }
        return 1;
    }
}

static int pending(const WOLFSSL* ssl)
{
    return ssl->arrays != NULL && ssl->arrays->pendingMsgSz != 0;
}

/* RFC 8446, 5.1: a message before a change of keys ends its record. */
static int changes_keys(const WOLFSSL* ssl, byte type)
{
    return ssl->options.tls1_3 && (type == finished || type == key_update || type == server_hello);
}

/* In place of the library's two, which want the header of a message in one record, and after the handshake the
 * whole of it. */
int postern_handshake(WOLFSSL* ssl, byte* input, word32* index, word32 end, postern_handler handler)
{
    struct postern_conversation* my = of(ssl);
    byte type;
    int ret;

    if (my == NULL)
        return handler(ssl, input, index, end);
    if (*index >= end) /* RFC 8446, 5.4: an empty one is out of order */
        return WC_NO_ERR_TRACE(OUT_OF_ORDER_E);
    if (IsEncryptionOn(ssl, 0))
        my->early_left = 0; /* a record that decrypts: early data is over */
    if (my->partial == NULL) {
        const word32 left = end - *index;
        type = pending(ssl) ? (byte)ssl->arrays->pendingMsgType : input[*index];
        if (pending(ssl) ||
            (left >= HANDSHAKE_HEADER_SZ &&
             (ssl->arrays != NULL || left - HANDSHAKE_HEADER_SZ >= body_size(input + *index)))) {
            ret = pending(ssl) ? handler(ssl, input, index, end) : hand_over(ssl, input, index, end, handler);
            if (ret == 0 && !pending(ssl) && *index < end && changes_keys(ssl, type))
                ret = WC_NO_ERR_TRACE(OUT_OF_ORDER_E);
            return ret;
        }
        my->partial = partial_of(HANDSHAKE_HEADER_SZ);
        if (my->partial == NULL)
            return WC_NO_ERR_TRACE(MEMORY_E);
    }
    ret = collect(ssl, input, index, end);
    if (ret == 1) {
        struct postern_partial* whole = my->partial;
        const word32 body = whole->size - HANDSHAKE_HEADER_SZ, here = *index;
        word32 at = 0;
        /* The library asks its own place in the record whether a message is the last in it. */
        *index = body == 0 && body_size(whole->bytes) != 0 ? end : here - body;
        my->partial = NULL; /* the message may be about to change everything */
        type = whole->bytes[0];
        ret = hand_over(ssl, whole->bytes, &at, whole->size, handler);
        *index = here;
        ForceZero(whole->bytes, whole->size);
        XFREE(whole, NULL, DYNAMIC_TYPE_TMP_BUFFER);
        if (ret == 0 && !pending(ssl) && *index < end && changes_keys(ssl, type))
            ret = WC_NO_ERR_TRACE(OUT_OF_ORDER_E);
    }
    return ret;
}

/* RFC 8446, 5.1: nothing comes between the parts of a handshake message. */
int postern_interrupts(const WOLFSSL* ssl)
{
    return of(ssl) != NULL && ssl->options.tls1_3 && ssl->curRL.type != handshake && ssl->curRL.type != alert &&
           (of(ssl)->partial != NULL || pending(ssl));
}

/* --- early data --------------------------------------------------------------------------------------- */

/* RFC 8446, 4.2.10: a server that takes no early data skips what does not decrypt or, after a
 * HelloRetryRequest, what is not in clear, as long as it is not too much. */
int postern_skips_early_data(WOLFSSL* ssl)
{
    struct postern_conversation* my = of(ssl);
    if (my == NULL || !ssl->options.tls1_3 || ssl->curRL.type != application_data || my->early_left < ssl->curSize)
        return 0;
    my->early_left -= ssl->curSize;
    return 1;
}
