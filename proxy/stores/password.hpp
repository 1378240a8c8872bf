// SPDX-License-Identifier: GPL-3.0-or-later
// A password in a file of its own, read anew for each connection so that it can be changed at any time.
#pragma once

#include <string>

#include "conf/result.hpp"
#include "conf/secret.hpp"

namespace postern::proxy {

/// The first line. The error names the key `key`, not the path.
conf::Result<conf::Secret> read_password(const std::string& path, const char* key = "password_file");

}  // namespace postern::proxy
