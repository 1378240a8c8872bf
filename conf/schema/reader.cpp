// SPDX-License-Identifier: GPL-3.0-or-later
// Types are strict in TOML; in YAML a scalar becomes what the key wants (configuration.md 1, rule 5).
#include "conf/schema/reader.hpp"

#include <fmt/format.h>
#include <array>

#include <algorithm>

#include "conf/scalars.hpp"
#include "conf/text.hpp"

namespace postern::conf {
namespace {

std::string description(const Node& node, bool secret) {
  switch (node.kind) {
    case Node::Kind::null:
      return "nothing";
    case Node::Kind::scalar:
      return secret ? "this" : quoted(node.text);
    case Node::Kind::string:
      return secret ? "a string" : "the string " + quoted(node.text);
    case Node::Kind::integer:
      return secret ? "an integer" : fmt::format("the integer {}", node.integer);
    case Node::Kind::boolean:
      return node.boolean ? "the boolean true" : "the boolean false";
    case Node::Kind::other:
      return node.text;
    case Node::Kind::list:
      return "a list";
    case Node::Kind::table:
      break;
  }
  return "a table";
}

bool is_negative(const Node& node) {
  if (node.kind == Node::Kind::integer) return node.integer < 0;
  return node.kind == Node::Kind::scalar && node.text.size() > 1 && node.text[0] == '-' &&
         parse_number(std::string_view(node.text).substr(1), UINT64_MAX).has_value();
}

/// kebab-case of `key`, if it has one.
bool is_kebab_of(std::string_view candidate, std::string_view key) {
  return candidate.size() == key.size() && candidate.find('_') == std::string_view::npos &&
         std::equal(key.begin(), key.end(), candidate.begin(),
                    [](char ours, char theirs) { return theirs == (ours == '_' ? '-' : ours); });
}

bool names(std::string_view candidate, std::string_view key) {
  return !key.empty() && (candidate == key || is_kebab_of(candidate, key));
}

}  // namespace

void Reader::wrong_type(const std::string& path, std::string_view wanted, const Node& found, bool secret) {
  problems.add(path, fmt::format("must be {}, not {}", wanted, description(found, secret)));
}

bool read_text(Reader& reader, const Limits& limits, const Node& node, const std::string& path,
               std::string& out, bool secret) {
  if (node.kind != Node::Kind::string && node.kind != Node::Kind::scalar) {
    reader.wrong_type(path, "a string", node, secret);
    return false;
  }
  std::string fault = node.text.find('\0') != std::string::npos ? "must not contain a NUL" : "";
  if (fault.empty() && limits.check != nullptr) fault = limits.check(node.text);
  if (!fault.empty()) {
    reader.problems.add(path, secret ? fault : quoted(node.text) + " " + fault);
    return false;
  }
  out = node.text;
  return true;
}

bool read_number(Reader& reader, const Limits& limits, const Node& node, const std::string& path,
                 uint64_t& out) {
  if (is_negative(node)) {
    reader.problems.add(path, fmt::format("must not be negative: {}", node.kind == Node::Kind::integer
                                                                          ? std::to_string(node.integer)
                                                                          : quoted(node.text)));
    return false;
  }
  std::optional<uint64_t> value;
  if (node.kind == Node::Kind::integer) value = static_cast<uint64_t>(node.integer);
  if (node.kind == Node::Kind::scalar) value = parse_number(node.text, UINT64_MAX);
  if (!value) {
    reader.wrong_type(path, "an integer", node);
    return false;
  }
  if (*value < limits.min || *value > limits.max) {
    reader.problems.add(
        path, limits.max == UINT64_MAX
                  ? fmt::format("must be at least {}, not {}", limits.min, *value)
                  : fmt::format("must be between {} and {}, not {}", limits.min, limits.max, *value));
    return false;
  }
  out = *value;
  return true;
}

bool read_bool(Reader& reader, const Node& node, const std::string& path, bool& out) {
  if (node.kind == Node::Kind::boolean) {
    out = node.boolean;
  } else if (node.kind == Node::Kind::scalar && (node.text == "true" || node.text == "false")) {
    out = node.text == "true";
  } else {
    reader.wrong_type(path, "true or false", node);
    return false;
  }
  return true;
}

bool read_duration(Reader& reader, const Limits& limits, const Node& node, const std::string& path,
                   Duration& out) {
  if (node.kind != Node::Kind::string && node.kind != Node::Kind::scalar) {
    reader.wrong_type(path, "a duration such as \"30s\"", node);
    return false;
  }
  const auto value = parse_duration(node.text);
  if (!value) {
    reader.problems.add(path, value.error().text);
    return false;
  }
  const auto count = static_cast<uint64_t>(value->count());
  if (count < limits.min) {
    reader.problems.add(path, fmt::format("must be greater than zero, not {}", quoted(node.text)));
    return false;
  }
  if (count > limits.max) {
    const Duration most(static_cast<int64_t>(limits.max));
    reader.problems.add(path,
                        fmt::format("must be at most {}, not {}", duration_text(most), quoted(node.text)));
    return false;
  }
  out = *value;
  return true;
}

bool read_size(Reader& reader, const Limits& limits, const Node& node, const std::string& path, Size& out) {
  if (node.kind != Node::Kind::string && node.kind != Node::Kind::scalar) {
    reader.wrong_type(path, "a size such as \"64MiB\"", node);
    return false;
  }
  const auto value = parse_size(node.text);
  if (!value) {
    reader.problems.add(path, value.error().text);
    return false;
  }
  if (value->bytes < limits.min) {
    reader.problems.add(
        path, fmt::format("must be at least {}, not {}", size_text({limits.min}), quoted(node.text)));
    return false;
  }
  out = *value;
  return true;
}

TableReader::TableReader(Reader& reader, const Node& node, std::string path)
    : reader_(reader), node_(node), path_(std::move(path)), taken_(node.entries.size()) {}

bool TableReader::is_table(Reader& reader, const Node& node, const std::string& path) {
  if (node.kind == Node::Kind::table || node.kind == Node::Kind::null) return true;
  reader.wrong_type(path, "a table", node);
  return false;
}

std::string TableReader::path_of(std::string_view key) const { return join_key(path_, key); }

const Node* TableReader::take(std::string_view key, std::string_view alias) {
  known_.push_back(key);
  const Entry* found = nullptr;
  for (size_t i = 0; i < node_.entries.size(); ++i) {
    const Entry& entry = node_.entries[i];
    if (!names(entry.key, key) && !names(entry.key, alias)) continue;
    taken_[i] = true;
    if (found == nullptr) {
      found = &entry;
      reader_.problems.locate(path_of(key), entry.place);
      continue;
    }
    const std::string path = path_of(entry.key);
    reader_.problems.locate(path, entry.place);
    reader_.problems.add(path, fmt::format("there is {} as well; they are the same key", quoted(found->key)));
  }
  return found == nullptr ? nullptr : &found->value;
}

void TableReader::forbid(std::string_view key, std::string_view why) {
  if (take(key) != nullptr) reader_.problems.add(path_of(key), std::string(why));
  known_.pop_back();
}

void TableReader::missing(std::string_view key) { reader_.problems.add(path_of(key), "is missing"); }

void TableReader::report_unknown() {
  for (size_t i = 0; i < node_.entries.size(); ++i) {
    if (taken_[i]) continue;
    const Entry& entry = node_.entries[i];
    const std::string path = path_of(entry.key);
    reader_.problems.locate(path, entry.place);
    std::string snake = entry.key;
    std::replace(snake.begin(), snake.end(), '-', '_');
    const std::string_view close = nearest(snake, known_);
    std::string text = "unknown key";
    if (!close.empty()) text += "; did you mean " + path_of(close) + "?";
    if (reader_.strict) {
      reader_.problems.add(path, std::move(text));
    } else {
      reader_.problems.warn(path, text + (close.empty() ? " (ignored)" : " It is ignored."));
    }
  }
}

std::string_view name(Applies applies) {
  constexpr std::array<std::string_view, 3> names = {"at once", "new connections", "restart"};
  return names[static_cast<size_t>(applies)];
}

}  // namespace postern::conf
