// SPDX-License-Identifier: GPL-3.0-or-later
// Result<T>: a value, or the reason there is none. Never thrown, never ignored.
#pragma once

#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace postern::conf {

struct Error {
  std::string text;  // one clause, lower case, no full stop: it stands behind "key.path: "
};

template <class T>
using Result = tl::expected<T, Error>;

inline tl::unexpected<Error> error(std::string text) { return tl::unexpected<Error>(Error{std::move(text)}); }

}  // namespace postern::conf
