// SPDX-License-Identifier: GPL-3.0-or-later
// The version, from meson.build.
#pragma once

#include <string_view>

namespace postern::proxy {

inline constexpr std::string_view version = POSTERN_VERSION;

}  // namespace postern::proxy
