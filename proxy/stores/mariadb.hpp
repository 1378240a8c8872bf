// SPDX-License-Identifier: GPL-3.0-or-later
// The store that asks MariaDB or MySQL, on threads of its own.
#pragma once

#include <memory>

#include "proxy/stores/sql.hpp"

namespace postern::proxy {

std::unique_ptr<Store> make_mariadb_store(Loop& loop, SqlSettings settings);

}  // namespace postern::proxy
