// SPDX-License-Identifier: GPL-3.0-or-later
// Who reads what is logged.
#pragma once

namespace postern::proxy {

/// Whether the journal reads what is written to this descriptor.
bool is_journal(int fd);

}  // namespace postern::proxy
