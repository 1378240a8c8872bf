// SPDX-License-Identifier: GPL-3.0-or-later
// The one form in which an identifier is looked up.
#pragma once

#include <string>
#include <string_view>

#include "conf/config.hpp"

namespace postern::conf {

/// An identifier the way `mapping.normalize` wants it. Lower-casing covers the scripts with simple case pairs
/// (Latin, Greek, Cyrillic, Armenian); bytes that are no UTF-8 stay as they are.
std::string normalized(std::string_view identifier, Normalize how);

}  // namespace postern::conf
