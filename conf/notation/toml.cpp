// SPDX-License-Identifier: GPL-3.0-or-later
// TOML text to Node: the only file that sees toml++.
#include <toml++/toml.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "conf/notation/node.hpp"

namespace postern::conf {
namespace {

Place place_of(const toml::source_region& region) {
  return {static_cast<int>(region.begin.line), static_cast<int>(region.begin.column)};
}

/// toml++ bounds the depth of values but not of dotted keys, and walks tables recursively: a line of a
/// hundred thousand dots would exhaust the stack. This finds such a line before toml++ sees it.
class DottedKeys {
 public:
  /// The line that has too many dots outside strings and comments, or 0.
  static int too_deep(std::string_view text) {
    DottedKeys scan(text);
    return scan.run();
  }

 private:
  static constexpr int most_dots = 48;  // a line; no key of ours has more than five
  explicit DottedKeys(std::string_view text) : rest_(text) {}

  int run() {
    int dots = 0;
    while (!rest_.empty()) {
      const char c = rest_.front();
      if (c == '"' || c == '\'') {
        skip_string(c);
        continue;
      }
      rest_.remove_prefix(1);
      if (c == '#') rest_.remove_prefix(std::min(rest_.find('\n'), rest_.size()));
      if (c == '\n') {
        ++line_;
        dots = 0;
      }
      if (c == '.' && ++dots > most_dots) return line_;
    }
    return 0;
  }

  void skip_string(char quote) {
    const bool multi_line = rest_.size() >= 3 && rest_[1] == quote && rest_[2] == quote;
    rest_.remove_prefix(multi_line ? 3 : 1);
    while (!rest_.empty()) {
      const char c = rest_.front();
      if (c == '\n' && !multi_line) return;  // toml++ will complain
      if (c == '\n') ++line_;
      if (c == '\\' && quote == '"') {
        // An escaped line end still counts as a line, so leave it to the next turn.
        rest_.remove_prefix(rest_.size() > 1 && rest_[1] != '\n' ? 2 : 1);
        continue;
      }
      if (c == quote && (!multi_line || (rest_.size() >= 3 && rest_[1] == quote && rest_[2] == quote))) {
        rest_.remove_prefix(multi_line ? 3 : 1);
        return;
      }
      rest_.remove_prefix(1);
    }
  }

  std::string_view rest_;
  int line_ = 1;
};

class Converter {
 public:
  Node convert(const toml::node& from, size_t depth) {
    Node out;
    out.place = place_of(from.source());
    if (depth > deepest_nesting) {
      if (too_deep_.line == 0) too_deep_ = out.place;
      return out;
    }
    if (const auto* table = from.as_table()) {
      out.kind = Node::Kind::table;
      convert_table(*table, depth, out);
    } else if (const auto* list = from.as_array()) {
      out.kind = Node::Kind::list;
      out.items.reserve(list->size());
      for (const auto& item : *list) out.items.push_back(convert(item, depth + 1));
    } else if (const auto* text = from.as_string()) {
      out.kind = Node::Kind::string;
      out.text = text->get();
    } else if (const auto* integer = from.as_integer()) {
      out.kind = Node::Kind::integer;
      out.integer = integer->get();
    } else if (const auto* boolean = from.as_boolean()) {
      out.kind = Node::Kind::boolean;
      out.boolean = boolean->get();
    } else {
      out.kind = Node::Kind::other;
      out.text = from.is_floating_point() ? "a real number" : "a date or time";
    }
    return out;
  }

  [[nodiscard]] Place too_deep() const { return too_deep_; }

 private:
  void convert_table(const toml::table& table, size_t depth, Node& out) {
    out.entries.reserve(table.size());
    for (const auto& [key, value] : table) {
      out.entries.push_back(Entry{std::string(key.str()), place_of(key.source()), convert(value, depth + 1)});
    }
    // toml++ keeps tables sorted by key; the order of the file decides which certificate comes first.
    std::stable_sort(out.entries.begin(), out.entries.end(), [](const Entry& a, const Entry& b) {
      return std::pair(a.place.line, a.place.column) < std::pair(b.place.line, b.place.column);
    });
  }

  Place too_deep_;
};

}  // namespace

Tree parse_toml(std::string_view text) {
  if (const int line = DottedKeys::too_deep(text); line != 0) {
    return tl::unexpected(SyntaxError{{line, 1}, "a key has too many parts"});
  }
  try {
    const toml::table table = toml::parse(text);
    Converter converter;
    Node root = converter.convert(table, 0);
    if (converter.too_deep().line != 0) {
      return tl::unexpected(SyntaxError{converter.too_deep(), "tables and lists are nested too deeply"});
    }
    return root;
  } catch (const toml::parse_error& problem) {
    return tl::unexpected(SyntaxError{place_of(problem.source()), std::string(problem.description())});
  } catch (const std::exception& problem) {
    return tl::unexpected(SyntaxError{{1, 1}, problem.what()});
  }
}

}  // namespace postern::conf
