/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What only the library's inside allows, for a conversation whose handshake is over. */
#include <wolfssl/wolfcrypt/settings.h>

#include <wolfssl/internal.h>

void postern_forget_extensions(WOLFSSL* ssl);
void postern_use_device(WOLFSSL* ssl, int device);
unsigned postern_signature(const WOLFSSL* ssl);

/* What a handshake leaves behind that nobody will ask for: the library keeps all extensions for the sake of two
 * (server name, application protocol), and a resumed client session the whole ticket among them. It frees
 * them itself in builds without those two (FreeHandshakeResources). */
void postern_forget_extensions(WOLFSSL* ssl)
{
    TLSX_FreeAll(ssl->extensions, ssl->heap);
    ssl->extensions = NULL;
    ssl->secure_renegotiation = NULL;  /* pointed into one */
}

/* Offers records from now on to a crypto call-back. Set before, it would be asked for every hash of the
 * handshake as well: a twentieth of its time. */
void postern_use_device(WOLFSSL* ssl, int device)
{
#if defined(WOLF_CRYPTO_CB) && defined(WOLFSSL_AESNI)
    Aes* both[2];
    int i;
    both[0] = ssl->encrypt.aes;
    both[1] = ssl->decrypt.aes;
    for (i = 0; i < 2; i++) {
        if (both[i] == NULL || !both[i]->use_aesni)
            continue;
        /* The instructions' key schedule begins with the key as it is. */
        XMEMCPY(both[i]->devKey, both[i]->key, (size_t)both[i]->keylen);
        both[i]->devId = device;
    }
    ssl->devId = device;  /* for the keys of later updates */
#else
    (void)ssl;
    (void)device;
#endif
}

/* What the server signed its side of the handshake with: the hash in the high byte, the algorithm in the low one. */
unsigned postern_signature(const WOLFSSL* ssl)
{
    return (unsigned)ssl->options.hashAlgo << 8 | ssl->options.sigAlgo;
}
