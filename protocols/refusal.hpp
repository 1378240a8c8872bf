// SPDX-License-Identifier: GPL-3.0-or-later
// What a backend's refusal of a login means: wrong credentials, or only not now.
#pragma once

#include <string_view>

#include "conf/config.hpp"

namespace postern::protocols {

/// True if `said`, the backend's words as the client gets them, asks to come back later: then nobody's
/// password was wrong, whatever else the refusal does.
bool is_temporary(conf::Protocol protocol, std::string_view said);

}  // namespace postern::protocols
