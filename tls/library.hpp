// SPDX-License-Identifier: GPL-3.0-or-later
// Our words for suites and groups in the TLS library's terms. Internal to tls/.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "conf/config.hpp"
#include "tls/wolfssl.hpp"

namespace postern::tls {

/// Older clients take a server that refuses their TLS 1.2 ticket for one that resumes, and fail (seen with
/// 5.5.4 and 5.7.2): there we do not offer such a session again.
#if LIBWOLFSSL_VERSION_HEX >= 0x05009000
inline constexpr bool resumes_tls12 = true;
#else
inline constexpr bool resumes_tls12 = false;
#endif

/// wolfSSL's names with colons, in the order given.
std::string suite_list(std::span<const conf::Suite> suites);
/// The number on the wire.
uint16_t number(conf::Suite suite);
uint16_t number(conf::Group group);
/// Those the library can do, in the order given.
std::vector<conf::Group> known_groups(std::span<const conf::Group> wanted);
bool set_groups(WOLFSSL_CTX* context, std::span<const conf::Group> groups);
/// The one group a TLS 1.2 connection of the server may use; a context's groups count in TLS 1.3 only.
void set_tls12_group(WOLFSSL* ssl, conf::Group group);

}  // namespace postern::tls
