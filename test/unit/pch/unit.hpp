// SPDX-License-Identifier: GPL-3.0-or-later
// Compiled once a test program: see conf/pch/everywhere.hpp.

#include <doctest/doctest.h>

#include "conf/pch/everywhere.hpp"
