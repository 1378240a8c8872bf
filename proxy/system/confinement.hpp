// SPDX-License-Identifier: GPL-3.0-or-later
// What the process gives up before it meets a stranger: the way to new privileges, root, the right to bind
// low ports, and the system calls it has no use for. What is given up never comes back.
#pragma once

#include <cstdint>
#include <string>

#include "conf/result.hpp"

namespace postern::proxy {

struct Confinement {
  enum class Calls : uint8_t { all, logged, filtered };
  std::string user;  ///< NAME[:GROUP], numbers or names; empty: whoever started it
  Calls calls = Calls::all;
};

/// Before anything is read: becomes the user, so that what it cannot read is missed at the start and not at
/// the first renewal. Of root's privileges only binding low ports is left.
conf::Result<void> assume_user(const Confinement& wanted);

/// When everything is bound, and before there are threads: with a user to be, the low ports go as well; then
/// the filter comes.
conf::Result<void> seal(const Confinement& wanted);

}  // namespace postern::proxy
