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

/// wolfSSL's names with colons, in the order given.
std::string suite_list(std::span<const conf::Suite> suites);
/// The number on the wire.
uint16_t number(conf::Suite suite);
uint16_t number(conf::Group group);
/// Those the library can do, in the order given.
std::vector<conf::Group> known_groups(std::span<const conf::Group> wanted);
bool set_groups(WOLFSSL_CTX* context, std::span<const conf::Group> groups);

}  // namespace postern::tls
