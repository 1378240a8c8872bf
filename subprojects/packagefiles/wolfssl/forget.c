/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a handshake leaves behind that nobody will ask for: the library keeps all extensions for the sake of two
 * (server name, application protocol), and a resumed client session the whole ticket among them. It frees
 * them itself in builds without those two (FreeHandshakeResources). */
#include <wolfssl/wolfcrypt/settings.h>

#include <wolfssl/internal.h>

/* After the handshake, and when the two are known or not wanted. */
void postern_forget_extensions(WOLFSSL* ssl)
{
    TLSX_FreeAll(ssl->extensions, ssl->heap);
    ssl->extensions = NULL;
    ssl->secure_renegotiation = NULL;  /* pointed into one */
}
