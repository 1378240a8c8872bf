// SPDX-License-Identifier: GPL-3.0-or-later
// Records of an established conversation, without the library's own buffers in between. Internal to tls/.
// Whatever is unusual about one stays the library's business.
#pragma once

#include <span>

#include "tls/outbox.hpp"
#include "tls/wolfssl.hpp"

namespace postern::tls {

/// A complete record at the front of `in`, straight into `plain`; how many bytes it held. 0: nothing has
/// happened, and the library has to look at what comes next.
size_t open_record(WOLFSSL* ssl, Input& in, std::span<uint8_t> plain);
/// The front of `plain` as a record straight into `out`; how many bytes. 0: as above.
size_t seal_record(WOLFSSL* ssl, std::span<const uint8_t> plain, Outbox& out);

}  // namespace postern::tls
