// SPDX-License-Identifier: GPL-3.0-or-later
// One codec a type: how a value is read from a node, what kind it is for people and schemas, how its default
// is written.
#pragma once

#include <algorithm>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "conf/names.hpp"
#include "conf/schema/schema.hpp"

namespace postern::conf {

template <>
struct Codec<bool> {
  static bool read(Reader& reader, const Limits&, const Node& node, const std::string& path, bool& out) {
    return read_bool(reader, node, path, out);
  }
  static TypeDoc type(const Limits&) { return {TypeDoc::Shape::boolean, "bool"}; }
  static std::string text(bool value, const Limits&) { return value ? "true" : "false"; }
};

template <class T>
requires std::is_unsigned_v<T>
struct Codec<T> {
  static Limits fitted(Limits limits) {
    limits.max = std::min<uint64_t>(limits.max, std::numeric_limits<T>::max());
    return limits;
  }
  static bool read(Reader& reader, const Limits& limits, const Node& node, const std::string& path, T& out) {
    uint64_t value = 0;
    if (!read_number(reader, fitted(limits), node, path, value)) return false;
    out = static_cast<T>(value);
    return true;
  }
  static TypeDoc type(const Limits& limits) {
    const uint64_t max = fitted(limits).max;
    TypeDoc doc(TypeDoc::Shape::integer, "integer");
    doc.min = limits.min;
    doc.max = max == UINT64_MAX ? 0 : max;
    return doc;
  }
  static std::string text(T value, const Limits&) { return std::to_string(value); }
};

template <>
struct Codec<Duration> {
  static bool read(Reader& reader, const Limits& limits, const Node& node, const std::string& path,
                   Duration& out) {
    return read_duration(reader, limits, node, path, out);
  }
  static TypeDoc type(const Limits&) {
    TypeDoc doc(TypeDoc::Shape::text, "duration");
    doc.pattern = R"(^\s*[0-9]+\s*(ms|s|m|h|d)\s*$)";
    return doc;
  }
  static std::string text(Duration value, const Limits&) { return duration_text(value); }
};

template <>
struct Codec<Size> {
  static bool read(Reader& reader, const Limits& limits, const Node& node, const std::string& path,
                   Size& out) {
    return read_size(reader, limits, node, path, out);
  }
  static TypeDoc type(const Limits&) {
    TypeDoc doc(TypeDoc::Shape::text, "size");
    doc.pattern = R"(^\s*[0-9]+\s*(B|KiB|MiB|GiB)\s*$)";
    return doc;
  }
  static std::string text(Size value, const Limits&) { return size_text(value); }
};

template <>
struct Codec<std::string> {
  static bool read(Reader& reader, const Limits& limits, const Node& node, const std::string& path,
                   std::string& out) {
    return read_text(reader, limits, node, path, out);
  }
  static TypeDoc type(const Limits&) { return {TypeDoc::Shape::text, "string"}; }
  static std::string text(const std::string& value, const Limits& limits) {
    return value.empty() ? std::string(limits.unset) : conf::quoted(value);
  }
};

template <>
struct Codec<Secret> {
  static bool read(Reader& reader, const Limits& limits, const Node& node, const std::string& path,
                   Secret& out) {
    std::string value;
    if (!read_text(reader, limits, node, path, value, true)) return false;
    out = Secret(std::move(value));
    return true;
  }
  static TypeDoc type(const Limits&) { return {TypeDoc::Shape::text, "string"}; }
  static std::string text(const Secret&, const Limits& limits) { return std::string(limits.unset); }
};

/// A value that is written as text and has a parser; `parse` gives a Result<T>.
template <class T, class Traits>
struct ParsedCodec {
  static bool read(Reader& reader, const Limits& limits, const Node& node, const std::string& path, T& out) {
    std::string value;
    if (!read_text(reader, limits, node, path, value)) return false;
    auto parsed = Traits::parse(value);
    if (!parsed) {
      reader.problems.add(path, std::move(parsed.error().text));
      return false;
    }
    out = std::move(*parsed);
    return true;
  }
  static TypeDoc type(const Limits&) { return {TypeDoc::Shape::text, std::string(Traits::name)}; }
  static std::string text(const T&, const Limits& limits) { return std::string(limits.unset); }
};

template <class T>
struct AddressTraits {
  static constexpr std::string_view name = std::is_same_v<T, Ip>     ? "IP address"
                                           : std::is_same_v<T, Cidr> ? "cidr"
                                                                     : "sockaddr";
  static Result<T> parse(std::string_view text) { return T::parse(text); }
};
template <>
struct Codec<Ip> : ParsedCodec<Ip, AddressTraits<Ip>> {};
template <>
struct Codec<Cidr> : ParsedCodec<Cidr, AddressTraits<Cidr>> {};
template <>
struct Codec<SocketAddress> : ParsedCodec<SocketAddress, AddressTraits<SocketAddress>> {};

/// The sentence for a word that is none of the known ones.
std::string word_fault(std::string_view found, std::span<const std::string_view> known);

template <class E>
requires std::is_enum_v<E>
struct Codec<E> {
  static std::vector<std::string_view> known() {
    std::vector<std::string_view> out;
    for (const auto& word : words<E>()) out.push_back(word.text);
    return out;
  }
  static bool read(Reader& reader, const Limits& limits, const Node& node, const std::string& path, E& out) {
    std::string value;
    if (!read_text(reader, limits, node, path, value)) return false;
    const auto found = word_value<E>(value);
    if (!found) {
      reader.problems.add(path, word_fault(value, known()));
      return false;
    }
    out = *found;
    return true;
  }
  static TypeDoc type(const Limits&) {
    TypeDoc doc(TypeDoc::Shape::text, "enum");
    for (const auto word : known()) doc.words.emplace_back(word);
    return doc;
  }
  static std::string text(E value, const Limits&) { return conf::quoted(word_text(value)); }
};

/// Suites, groups and versions: several spellings each, any case.
template <class E, std::optional<E> (*lookup)(std::string_view)>
struct FoldedCodec {
  static bool read(Reader& reader, const Limits& limits, const Node& node, const std::string& path, E& out) {
    std::string value;
    if (!read_text(reader, limits, node, path, value)) return false;
    const auto found = lookup(value);
    if (!found) {
      reader.problems.add(path, word_fault(value, documented_names<E>()));
      return false;
    }
    out = *found;
    return true;
  }
  static TypeDoc type(const Limits&) {
    TypeDoc doc(TypeDoc::Shape::text, "string");
    for (const auto word : documented_names<E>()) doc.known.emplace_back(word);
    return doc;
  }
  static std::string text(E value, const Limits&) {
    return conf::quoted(documented_names<E>()[static_cast<size_t>(value)]);
  }
};
template <>
struct Codec<Suite> : FoldedCodec<Suite, suite_by_name> {};
template <>
struct Codec<Group> : FoldedCodec<Group, group_by_name> {};
template <>
struct Codec<TlsVersion> : FoldedCodec<TlsVersion, version_by_name> {};

template <class T>
struct Codec<std::optional<T>> {
  static bool read(Reader& reader, const Limits& limits, const Node& node, const std::string& path,
                   std::optional<T>& out) {
    T value{};
    if (!Codec<T>::read(reader, limits, node, path, value)) return false;
    out = std::move(value);
    return true;
  }
  static TypeDoc type(const Limits& limits) { return Codec<T>::type(limits); }
  static std::string text(const std::optional<T>& value, const Limits& limits) {
    return value ? Codec<T>::text(*value, limits) : std::string(limits.unset);
  }
};

template <class T>
struct Codec<std::vector<T>> {
  static bool read(Reader& reader, const Limits& limits, const Node& node, const std::string& path,
                   std::vector<T>& out) {
    const bool lone = limits.single && node.kind != Node::Kind::list && node.kind != Node::Kind::null;
    if (!lone && node.kind != Node::Kind::list) {
      reader.wrong_type(path, "a list", node);
      return false;
    }
    const std::span<const Node> items = lone ? std::span(&node, 1) : std::span<const Node>(node.items);
    std::vector<T> values;
    bool sound = true;
    for (size_t i = 0; i < items.size(); ++i) {
      const std::string item_path = lone ? path : join_index(path, i);
      if (!lone) reader.problems.locate(item_path, items[i].place);
      T value{};
      if (Codec<T>::read(reader, limits, items[i], item_path, value)) {
        values.push_back(std::move(value));
      } else {
        sound = false;
      }
    }
    if (items.empty() && limits.filled) {
      reader.problems.add(path, "must not be empty");
      sound = false;
    }
    out = std::move(values);
    return sound;
  }
  static TypeDoc type(const Limits& limits) {
    TypeDoc item = Codec<T>::type(limits);
    TypeDoc list(TypeDoc::Shape::list, "list of " + item.name);
    list.min = limits.filled ? 1 : 0;
    list.inner.push_back(std::move(item));
    if (!limits.single) return list;
    TypeDoc choice(TypeDoc::Shape::choice, list.inner[0].name + ", or " + list.name);
    choice.inner = {list.inner[0], list};
    return choice;
  }
  static std::string text(const std::vector<T>& value, const Limits& limits) {
    if (value.empty()) return "empty";
    std::string out;
    for (const T& item : value) out += (out.empty() ? "" : ", ") + Codec<T>::text(item, limits);
    return "[" + out + "]";
  }
};

template <Section S>
TypeDoc table_type() {
  TypeDoc doc(TypeDoc::Shape::table, "table");
  describe_rows(S{}, doc.keys);
  return doc;
}

template <Section S>
struct Codec<S> {
  static bool read(Reader& reader, const Limits&, const Node& node, const std::string& path, S& out) {
    return read_table(reader, node, path, out);
  }
  static TypeDoc type(const Limits&) { return table_type<S>(); }
  static std::string text(const S&, const Limits&) { return {}; }
};

template <class S>
struct Codec<Later<S>> {
  static bool read(Reader& reader, const Limits&, const Node& node, const std::string& path, Later<S>& out) {
    if (!TableReader::is_table(reader, node, path)) return false;
    out = {&node, path};
    return true;
  }
  static TypeDoc type(const Limits&) { return table_type<S>(); }
  static std::string text(const Later<S>&, const Limits&) { return {}; }
};

template <class S>
struct Codec<Named<S>> {
  static bool read(Reader& reader, const Limits&, const Node& node, const std::string& path, Named<S>& out) {
    if (!TableReader::is_table(reader, node, path)) return false;
    bool sound = true;
    for (const Entry& entry : node.entries) {
      const std::string item_path = join_key(path, entry.key);
      reader.problems.locate(item_path, entry.place);
      if (entry.key.empty()) {
        reader.problems.add(item_path, "a name must not be empty");
        sound = false;
      } else if (TableReader::is_table(reader, entry.value, item_path)) {
        out.items.push_back({entry.key, entry.place, {&entry.value, item_path}});
      } else {
        sound = false;
      }
    }
    return sound;
  }
  static TypeDoc type(const Limits&) {
    TypeDoc doc(TypeDoc::Shape::named, "tables");
    doc.inner.push_back(table_type<S>());
    return doc;
  }
  static std::string text(const Named<S>&, const Limits&) { return {}; }
};

}  // namespace postern::conf
