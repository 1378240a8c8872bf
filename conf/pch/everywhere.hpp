// SPDX-License-Identifier: GPL-3.0-or-later
// Compiled once a library, before its files: what nearly every one of them includes, and what takes a
// compiler longer to read than most of our own code. It saves time and nothing else: each file still includes
// what it uses, and a build with -Db_pch=false proves it.

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <unordered_map>
#include <utility>
#include <vector>

#include <fmt/format.h>
