// SPDX-License-Identifier: GPL-3.0-or-later
// The store that asks an SQLite file, on threads of its own.
#pragma once

#include <memory>

#include "proxy/stores/sql.hpp"

namespace postern::proxy {

std::unique_ptr<Store> make_sqlite_store(Loop& loop, SqlSettings settings);

}  // namespace postern::proxy
