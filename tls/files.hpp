// SPDX-License-Identifier: GPL-3.0-or-later
// Small files with secrets in them, read whole. Internal to tls/.
#pragma once

#include <string>

#include "conf/result.hpp"

namespace postern::tls {

/// A regular file of at most 1 MiB. The error names the path, unless the path looks like a secret itself.
conf::Result<std::string> read_small_file(const std::string& path);

}  // namespace postern::tls
