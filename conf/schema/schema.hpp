// SPDX-License-Identifier: GPL-3.0-or-later
// One row a key. From the rows of a struct come reading with types and limits, defaults, unknown and missing
// keys, the reference and the JSON Schema; a codec a type does the work.
#pragma once

#include <array>
#include <concepts>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "conf/scalars.hpp"
#include "conf/schema/document.hpp"
#include "conf/schema/reader.hpp"
#include "conf/text.hpp"

namespace postern::conf {

/// How a T is read and described. read(): false if a problem was added.
template <class T>
struct Codec;

/// A key whose value differs between two configurations.
struct Change {
  std::string key;  // its path
  Applies applies;
};

/// One key of the table that becomes an S. A row without a key stands for all rows of a part of S.
template <class S>
struct Row {
  std::string_view key;
  std::string_view help;
  Limits limits;
  bool (*read)(Reader&, const Limits&, const Node&, const std::string& path, S&) = nullptr;
  void (*read_part)(TableReader&, S&) = nullptr;
  void (*describe)(const Row&, const S& defaults, std::vector<KeyDoc>& out) = nullptr;
  /// Adds the key if its value differs. Only of structs that can be compared.
  void (*compare)(const Row&, const S&, const S&, const std::string& path,
                  std::vector<Change>& out) = nullptr;
};

/// Rows<S>::all(): the keys of S. Specialised for every struct that is a table of the file.
template <class S>
struct Rows;

template <class S>
concept Section = requires {
  Rows<S>::all();
};

template <Section S>
void read_rows(TableReader& table, S& out) {
  for (const Row<S>& row : Rows<S>::all()) {
    if (row.key.empty()) {
      row.read_part(table, out);
    } else if (const Node* node = table.take(row.key, row.limits.alias); node != nullptr) {
      row.read(table.reader(), row.limits, *node, table.path_of(row.key), out);
    } else if (row.limits.required) {
      table.missing(row.key);
    }
  }
}

/// Reads a table onto what `out` already holds: keys that are absent leave it as it was.
template <Section S>
bool read_table(Reader& reader, const Node& node, const std::string& path, S& out) {
  if (!TableReader::is_table(reader, node, path)) return false;
  TableReader table(reader, node, path);
  read_rows(table, out);
  table.report_unknown();
  return true;
}

template <Section S>
void describe_rows(const S& defaults, std::vector<KeyDoc>& out) {
  for (const Row<S>& row : Rows<S>::all()) row.describe(row, defaults, out);
}

template <Section S>
void compare_rows(const S& a, const S& b, const std::string& path, std::vector<Change>& out) {
  for (const Row<S>& row : Rows<S>::all()) row.compare(row, a, b, path, out);
}

/// What the row of that key says.
template <Section S>
Applies applies(std::string_view key) {
  for (const Row<S>& row : Rows<S>::all())
    if (row.key == key) return row.limits.applies;
  return Applies::restart;  // no such key
}

// --- making rows ----------------------------------------------------------------------------------

template <class>
struct MemberOf;
template <class S, class T>
struct MemberOf<T S::*> {
  using Struct = S;
  using Type = T;
};
template <auto member>
using StructOf = typename MemberOf<decltype(member)>::Struct;
template <auto member>
using TypeOf = typename MemberOf<decltype(member)>::Type;

/// S is named where the member belongs to a base of it.
template <auto member, class S = StructOf<member>>
constexpr Row<S> key(std::string_view name, std::string_view help, Limits limits = {}) {
  using C = Codec<TypeOf<member>>;
  Row<S> row{name, help, limits};
  row.read = [](Reader& reader, const Limits& given, const Node& node, const std::string& path, S& out) {
    return C::read(reader, given, node, path, out.*member);
  };
  row.describe = [](const Row<S>& self, const S& defaults, std::vector<KeyDoc>& out) {
    KeyDoc doc{std::string(self.key),
               std::string(self.limits.alias),
               std::string(self.help),
               {},
               self.limits.required,
               C::type(self.limits),
               std::string(conf::name(self.limits.applies))};
    if (!doc.required) doc.default_text = C::text(defaults.*member, self.limits);
    out.push_back(std::move(doc));
  };
  if constexpr (std::equality_comparable<S>)
    row.compare = [](const Row<S>& self, const S& a, const S& b, const std::string& path,
                     std::vector<Change>& out) {
      if (a.*member == b.*member) return;
      out.push_back({path + '.' + std::string(self.key), self.limits.applies});
    };
  return row;
}

/// The keys of a member struct belong to the table itself.
template <auto member>
constexpr Row<StructOf<member>> part() {
  using S = StructOf<member>;
  Row<S> row;
  row.read_part = [](TableReader& table, S& out) { read_rows(table, out.*member); };
  row.describe = [](const Row<S>&, const S& defaults, std::vector<KeyDoc>& out) {
    describe_rows(defaults.*member, out);
  };
  return row;
}

/// How many members an aggregate has, so that one without a row does not compile.
struct Anything {
  template <class T>
  operator T() const;  // NOLINT: implicit is the point; never defined
};
template <class S, class... Given>
consteval size_t fields() {
  if constexpr (requires { S{Given{}..., Anything{}}; }) {
    return fields<S, Given..., Anything>();
  } else {
    return sizeof...(Given);
  }
}

// --- members that are read later, or by the name of their table ------------------------------------

/// A table kept for later, because what it is read onto is not known yet (defaults of another table).
template <class S>
struct Later {
  const Node* node = nullptr;
  std::string path;

  explicit operator bool() const { return node != nullptr; }
  bool onto(Reader& reader, S& out) const { return node == nullptr || read_table(reader, *node, path, out); }
};

/// Tables whose names the operator chose, in file order.
template <class S>
struct Named {
  struct Item {
    std::string name;
    Place place;
    Later<S> table;
  };
  std::vector<Item> items;
};

}  // namespace postern::conf
