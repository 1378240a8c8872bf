// SPDX-License-Identifier: GPL-3.0-or-later
// The tree both notations are turned into: values that know where they stand. Reading never knows which
// notation it was, but that a YAML scalar has no type of its own.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "conf/problem.hpp"

namespace postern::conf {

struct Entry;

struct Node {
  enum class Kind : uint8_t {
    null,     // YAML only: a key with nothing behind it
    scalar,   // YAML only: text that becomes what the key wants
    string,   // the rest of the scalars are TOML's
    integer,  // in `integer`
    boolean,  // in `boolean`
    other,    // real numbers, dates: nothing of ours wants one; `text` says which
    list,
    table,
  };

  Kind kind = Kind::null;
  bool boolean = false;
  int64_t integer = 0;
  Place place;
  std::string text;
  std::vector<Node> items;     // of a list
  std::vector<Entry> entries;  // of a table, in file order, keys differ
};

struct Entry {
  std::string key;
  Place place;  // of the key
  Node value;
};

/// Why a text is not even a tree.
struct SyntaxError {
  Place place;
  std::string text;
};

using Tree = tl::expected<Node, SyntaxError>;

/// Both bound what hostile text can cost: depth, aliases, memory in proportion to the text. Never throw.
Tree parse_toml(std::string_view text);
Tree parse_yaml(std::string_view text);

inline constexpr size_t deepest_nesting = 64;  // levels of tables and lists; the configuration needs seven

}  // namespace postern::conf
