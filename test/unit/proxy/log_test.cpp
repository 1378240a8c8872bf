// SPDX-License-Identifier: GPL-3.0-or-later
// What a record looks like, and that the writer keeps its promises with readers of every kind.
#include "proxy/log.hpp"
