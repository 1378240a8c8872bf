// SPDX-License-Identifier: GPL-3.0-or-later
// Checks of single texts, used by rows: each says what is wrong, or nothing.
#pragma once

#include <string>
#include <string_view>

namespace postern::conf {

std::string check_filled(std::string_view text);
/// Goes to a peer as part of one line: no control characters (a tab is fine).
std::string check_line(std::string_view text);
/// One word on such a line: also no spaces, and not empty.
std::string check_word(std::string_view text);
/// As check_line, and not empty.
std::string check_item(std::string_view text);
std::string check_hostname(std::string_view text);
std::string check_host(std::string_view text);
/// A TLS name of a certificate or an SNI entry: no white space or controls, a "*." in front is fine.
std::string check_subject(std::string_view text);
/// Inline PEM, a path or a file:// URL; does not look at the file.
std::string check_pem(std::string_view text);
std::string check_sasl(std::string_view text);
std::string check_min_version(std::string_view text);

}  // namespace postern::conf
