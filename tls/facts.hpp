// SPDX-License-Identifier: GPL-3.0-or-later
// What records, metrics and PROXY headers say of an established conversation.
#pragma once

#include "tls/engine.hpp"
#include "tls/wolfssl.hpp"

namespace postern::tls {

/// `ssl` is established; `server`: the conversation is with a client of ours.
Facts facts_of(WOLFSSL* ssl, bool server);

}  // namespace postern::tls
