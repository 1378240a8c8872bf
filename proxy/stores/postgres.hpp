// SPDX-License-Identifier: GPL-3.0-or-later
// The store that asks PostgreSQL: a few connections, each with questions one behind the other.
#pragma once

#include <memory>

#include "proxy/stores/sql.hpp"

namespace postern::proxy {

std::unique_ptr<Store> make_postgres_store(Loop& loop, SqlSettings settings);

}  // namespace postern::proxy
