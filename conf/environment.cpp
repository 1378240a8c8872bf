// SPDX-License-Identifier: GPL-3.0-or-later
#include "conf/environment.hpp"

#include <cstdlib>

namespace postern::conf {

Environment Environment::of_process() {
  Environment out;
  if (const char* value = std::getenv("RUST_LOG")) out.rust_log = value;  // NOLINT: read before threads start
  if (const char* value = std::getenv("PROXY_ADMIN_TOKEN")) out.admin_token = Secret(value);  // NOLINT
  return out;
}

}  // namespace postern::conf
