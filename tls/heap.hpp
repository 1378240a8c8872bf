// SPDX-License-Identifier: GPL-3.0-or-later
// What the TLS library allocates, counted a thread: the difference over a call is what the conversation it
// served has taken. Internal to tls/.
#pragma once

#include <cstdint>

namespace postern::tls {

/// From now on the library allocates through here. Before it is used for anything.
void count_allocations();
/// Bytes allocated on this thread less those freed on it.
int64_t allocated();

}  // namespace postern::tls
