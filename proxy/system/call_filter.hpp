// SPDX-License-Identifier: GPL-3.0-or-later
// The system calls a running Postern needs, and what becomes of the rest: ways out of the process end it on
// the spot, anything else answers as if the kernel did not know it, so that a newer C library falls back.
#pragma once

#include "conf/result.hpp"

namespace postern::proxy {

/// What goes through a ring is out of a filter's sight: none can be had, from now on. To be called before
/// libuv makes its loops, which keep to a ring that they have.
conf::Result<void> refuse_rings();

/// For all threads, from now on. `only_log`: what would be refused is done, and the kernel's log has it.
conf::Result<void> filter_calls(bool only_log);

}  // namespace postern::proxy
