// SPDX-License-Identifier: GPL-3.0-or-later
// What differs between two configurations, key by key, and when each difference takes effect: the rows say
// it.
#pragma once

#include <string>
#include <vector>

#include "conf/config.hpp"
#include "conf/schema/schema.hpp"

namespace postern::conf {

/// In the order of the reference. A table that is in one of them only is one change, "listener.mx (added)".
/// Values are compared as they are in force, whatever spelling and layer they come from.
std::vector<Change> changes(const Config& running, const Config& wanted);

/// The same of the listeners alone; those that run may differ from what any file says.
std::vector<Change> listener_changes(const std::vector<ListenerConf>& running,
                                     const std::vector<ListenerConf>& wanted);
/// And of everything else.
std::vector<Change> other_changes(const Config& running, const Config& wanted);

}  // namespace postern::conf
