// SPDX-License-Identifier: GPL-3.0-or-later
// How fast the machine under a test is: under valgrind and sanitizers everything takes many times its time,
// and a test that counts on speed counts less.
#pragma once

#include <cstdlib>

namespace postern {

/// Set by whoever runs the tests under such a tool.
inline bool slow_machine() { return std::getenv("POSTERN_TEST_SLOW") != nullptr; }

}  // namespace postern
