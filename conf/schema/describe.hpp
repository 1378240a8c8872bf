// SPDX-License-Identifier: GPL-3.0-or-later
// The documents that are generated from the rows.
#pragma once

#include <string>

namespace postern::conf {

std::string reference_markdown();
std::string json_schema();

}  // namespace postern::conf
