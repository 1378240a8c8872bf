// SPDX-License-Identifier: GPL-3.0-or-later
// What may be wrong with a glob or a pattern of [[http.route]].
#pragma once

#include <string>
#include <string_view>

namespace postern::conf {

/// The globs of [[http.route]]; empty text: fine, else what is wrong.
std::string glob_fault(std::string_view glob);
/// A pattern of [[http.route]].extract: must compile and have a capture group.
std::string pattern_fault(std::string_view pattern);

}  // namespace postern::conf
