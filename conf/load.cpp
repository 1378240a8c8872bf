// SPDX-License-Identifier: GPL-3.0-or-later
// From a path to a Config: text, tree, File, layers, rules. Every step adds its problems; none stops the
// next.
#include "conf/load.hpp"

#include <fmt/format.h>

#include <exception>

#include "conf/build/draft.hpp"
#include "conf/files.hpp"
#include "conf/notation/node.hpp"
#include "conf/rules/rules.hpp"
#include "conf/text.hpp"
#include "conf/utf8.hpp"

namespace postern::conf {
namespace {

constexpr size_t largest_file = 64u << 20;

bool is_yaml(std::string_view name) {
  return name.ends_with(".yaml") || name.ends_with(".yml") || name.ends_with(".json");
}

/// server.strict_keys decides what the very first unknown key is, so it is looked for before anything is
/// read.
bool wants_strict_keys(const Node& root) {
  for (const Entry& table : root.entries) {
    if (table.key != "server") continue;
    for (const Entry& entry : table.value.entries) {
      if (entry.key != "strict_keys" && entry.key != "strict-keys") continue;
      const Node& value = entry.value;
      return value.kind == Node::Kind::boolean ? value.boolean : value.text != "false";
    }
  }
  return true;
}

void read_draft(Draft& draft, const Node& root) {
  File& file = draft.file;
  if (root.kind != Node::Kind::table) {
    draft.reader.wrong_type("", "a table", root);
    return;
  }
  TableReader table(draft.reader, root, "");
  read_rows(table, file);
  table.report_unknown();

  build_server(draft);
  build_certificates(draft);
  TlsTable server_layer;
  build_tls(draft, server_layer);
  build_listeners(draft, server_layer);
  build_destinations(draft);
  build_rest(draft);

  check_routing(draft);
  check_mapping(draft);
  check_stores(draft);
  check_http(draft);
  check_admin(draft);
  if (draft.options.refuse_unsupported) refuse_unsupported(draft);
}

Loaded load_tree(Loaded loaded, const Tree& tree, const Environment& environment,
                 const LoadOptions& options) {
  if (!tree) {
    loaded.problems.add_at(loaded.config.file, tree.error().place, "", tree.error().text);
    return loaded;
  }
  loaded.problems.locate("", {1, 1});
  Reader reader{loaded.problems, wants_strict_keys(*tree)};
  Draft draft{reader, environment, options};
  draft.config.file = loaded.config.file;
  read_draft(draft, *tree);
  loaded.config = std::move(draft.config);
  loaded.parsed = true;
  loaded.problems.sort();
  return loaded;
}

}  // namespace

Loaded load(const std::string& path, const Environment& environment, const LoadOptions& options) {
  auto text = read_file(path, largest_file);
  if (!text) {
    Loaded loaded{{}, Problems(path)};
    loaded.config.file = path;
    loaded.problems.add("", text.error().text);
    return loaded;
  }
  Loaded loaded = load_text(path, *text, environment, options);
  wipe(*text);  // keys and tokens may stand in it
  return loaded;
}

Loaded load_text(const std::string& name, std::string_view text, const Environment& environment,
                 const LoadOptions& options) {
  Loaded loaded{{}, Problems(name)};
  loaded.config.file = name;
  try {
    if (!is_utf8(text)) {
      loaded.problems.add("", "is not UTF-8 text");
      return loaded;
    }
    const Tree tree = is_yaml(name) ? parse_yaml(text) : parse_toml(text);
    return load_tree(std::move(loaded), tree, environment, options);
  } catch (const std::exception& problem) {  // memory, and what libraries may still throw
    Loaded failed{{}, Problems(name)};
    failed.config.file = name;
    failed.problems.add("", fmt::format("cannot be loaded: {}", problem.what()));
    return failed;
  }
}

}  // namespace postern::conf
