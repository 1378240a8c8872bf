// SPDX-License-Identifier: GPL-3.0-or-later
// Rules between keys of several tables. Each adds its problems; none stops the others.
#pragma once

#include "conf/build/draft.hpp"

namespace postern::conf {

void check_routing(const Draft& draft);
void check_http(const Draft& draft);
void check_admin(const Draft& draft);
void check_mapping(const Draft& draft);
void check_stores(const Draft& draft);
void refuse_unsupported(const Draft& draft);

}  // namespace postern::conf
