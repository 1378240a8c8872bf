// SPDX-License-Identifier: GPL-3.0-or-later
// A connection to a backend that is ready to be used, handed from a Dial to whoever asked for it.
#pragma once

#include <memory>

#include "conf/address.hpp"
#include "protocols/input.hpp"
#include "proxy/backend/attempt.hpp"
#include "proxy/loop/stream.hpp"

namespace postern::proxy {

struct Leg {
  std::unique_ptr<Stream> stream;
  protocols::Input unread;           // what the backend has said behind its opening
  std::unique_ptr<Attempt> attempt;  // to be told how it goes on; null: it has been, or this is a trial
};

}  // namespace postern::proxy
