// SPDX-License-Identifier: GPL-3.0-or-later
// The names of signature schemes, for records and PROXY headers.
#pragma once

#include <string_view>

namespace postern::tls {

/// The library's hash (high byte) and algorithm (low byte) of a signature, as RFC 8446, 4.2.3 names the two
/// together. Empty if it names no such pair.
std::string_view signature_scheme(unsigned hash_and_algorithm, bool tls13);

}  // namespace postern::tls
