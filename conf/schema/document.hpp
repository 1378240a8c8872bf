// SPDX-License-Identifier: GPL-3.0-or-later
// What the rows say about the keys of a table, free of any C++ type: what the reference and the JSON Schema
// are made from.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace postern::conf {

struct KeyDoc;

struct TypeDoc {
  enum class Shape : uint8_t { boolean, integer, text, list, table, named, choice };
  Shape shape = Shape::text;
  std::string name;                // "string", "duration", "list of cidr": for people
  uint64_t min = 0;                // of an integer
  uint64_t max = 0;                // of an integer; 0: none
  std::vector<std::string> words;  // an enumeration's
  std::vector<std::string> known;  // words of a text that has further spellings
  std::string pattern;             // a text's, as ECMA 262
  std::vector<TypeDoc> inner;      // of a list or of named tables: one; of a choice: each
  std::vector<KeyDoc> keys;        // of a table

  // In schema.cpp, where KeyDoc is complete.
  TypeDoc();
  TypeDoc(Shape given, std::string text);
  TypeDoc(const TypeDoc&);
  TypeDoc(TypeDoc&&) noexcept;
  TypeDoc& operator=(const TypeDoc&);
  TypeDoc& operator=(TypeDoc&&) noexcept;
  ~TypeDoc();
};

struct KeyDoc {
  std::string key;
  std::string alias;
  std::string help;
  std::string default_text;  // empty: none
  bool required = false;
  TypeDoc type;
  std::string applies;  // when a change of it takes effect
};

}  // namespace postern::conf
