// SPDX-License-Identifier: GPL-3.0-or-later
// What a backend's words about a login mean beyond yes and no: not now, goodbye, or no answer at all.
#pragma once

#include <string_view>

#include "conf/config.hpp"

namespace postern::protocols {

/// True if `said`, the backend's words as the client gets them, asks to come back later: then nobody's
/// password was wrong, whatever else the refusal does.
bool is_temporary(conf::Protocol protocol, std::string_view said);

/// True if whoever reads `said` knows that the connection ends (BYE, 421).
bool is_goodbye(conf::Protocol protocol, std::string_view said);

/// True if `said`, which stood there before a question went out, would be taken for its answer: then that of
/// the last question would be taken for a verdict on the login. IMAP alone has lines that answer nothing.
bool is_premature(conf::Protocol protocol, std::string_view said);

}  // namespace postern::protocols
