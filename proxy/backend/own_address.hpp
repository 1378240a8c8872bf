// SPDX-License-Identifier: GPL-3.0-or-later
// Whether a connect would come back to this process (protocols.md 1.10).
#pragma once

#include <vector>

#include "conf/address.hpp"

namespace postern::proxy {

/// Where a connect to this address leads: an unspecified one (0.0.0.0, ::) means this machine's loopback.
/// Connect to the result, so that the kernel goes to what was checked.
conf::Ip reached(const conf::Ip& ip);

/// `own`: what this process listens on. A wildcard among them is every address of this machine. `target` is
/// what reached() gave.
bool is_own(const std::vector<conf::SocketAddress>& own, const conf::SocketAddress& target);

}  // namespace postern::proxy
