/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What Postern adds to a conversation of the library, and the places of the three .patch files that use it.
 * Whoever gives such a structure to wolfSSL_SetCertCbCtx() gets these rules; without one, the library does as
 * it was released. */
#ifndef POSTERN_CONVERSATION_H
#define POSTERN_CONVERSATION_H

#ifdef __cplusplus
extern "C" {
#endif

struct WOLFSSL;
struct postern_partial;

/* How the peer broke the rules of key updates; the conversation has then ended. */
enum postern_flood { postern_no_flood, postern_too_often, postern_unanswered };

struct postern_conversation {
    struct postern_partial* partial; /* a handshake message of which not all has come; rare */
    unsigned early_left;             /* server: bytes of early data that may still be skipped */
    unsigned char updates;           /* key updates in the second that is counted now */
    unsigned char unanswered;        /* of these, asked for an answer that has not left yet */
    unsigned char flood;             /* enum postern_flood */
};

enum { postern_most_updates = 32, postern_most_unanswered = 3 };

/* Frees what `conversation` still holds. */
void postern_forget(struct postern_conversation* conversation);
/* Sends a fatal alert, unless one was sent before. */
void postern_alert(struct WOLFSSL* ssl, int alert);

/* For the three .patch files alone. */
typedef int (*postern_handler)(struct WOLFSSL* ssl, unsigned char* input, unsigned* index, unsigned end);
int postern_handshake(struct WOLFSSL* ssl, unsigned char* input, unsigned* index, unsigned end,
                      postern_handler handler);
int postern_interrupts(const struct WOLFSSL* ssl);
int postern_skips_early_data(struct WOLFSSL* ssl);

#ifdef __cplusplus
}
#endif

#endif
