// SPDX-License-Identifier: GPL-3.0-or-later
// The generated documents are the ones in deploy/, and know exactly the keys the reader knows.
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "conf/schema/describe.hpp"
#include "test/unit/conf/fixture.hpp"

namespace postern::conf {
namespace {

std::string deployed(const std::string& name) {
  std::ifstream file(std::string(POSTERN_SOURCE_ROOT) + "/deploy/" + name);
  REQUIRE(file.good());
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE("deploy/reference.md is what `postern reference` prints") {
  CHECK(deployed("reference.md") == reference_markdown());
}

TEST_CASE("deploy/schema.json is what `postern schema` prints") {
  CHECK(deployed("schema.json") == json_schema());
}

TEST_CASE("the reference names every table and the defaults of the documentation") {
  const std::string text = reference_markdown();
  for (const char* part :
       {"## `[server]`", "## `[tls.certificate.<name>]`", "## `[listener.<name>]`", "## `[[http.route]]`",
        "## `[destination.<name>.protocol.<protocol>]`", "## `[mapping]`, required",
        "| `max_connections` | integer, at least 1 | `8192` |", "| `port` | integer 1..65535 | required |",
        "| `strict_keys` | bool | `true` |", "Also `private_key`.", "| an eighth of `max_connections` |",
        "| from `proxy_protocol` |"}) {
    CAPTURE(part);
    CHECK(text.find(part) != std::string::npos);
  }
  CHECK(text.find("retry_failed_logins") == std::string::npos);
}

TEST_CASE("the reference has every key of the schema that is a value") {
  const std::string text = reference_markdown();
  const auto schema = nlohmann::json::parse(json_schema());
  for (const char* protocol : {"imap", "pop3", "managesieve", "submission"}) {
    const std::string title = std::string("## `[capabilities.") + protocol + "]`";
    const size_t begin = text.find(title);
    CAPTURE(title);
    REQUIRE(begin != std::string::npos);
    const std::string section = text.substr(begin, text.find("\n## ", begin) - begin);
    const auto& keys =
        schema.at("properties").at("capabilities").at("properties").at(protocol).at("properties");
    for (const auto& item : keys.items()) {
      const std::string& key = item.key();
      CAPTURE(key);
      if (key.find('-') == std::string::npos) CHECK(section.find("| `" + key + "` |") != std::string::npos);
    }
  }
}

TEST_CASE("every key of the schema is known to the reader, in both spellings") {
  // A document that has every key of a table with a value of no possible type: each must be reported as a
  // value of the wrong type, none as unknown.
  const auto schema = nlohmann::json::parse(json_schema());
  const auto& server = schema.at("properties").at("server").at("properties");
  std::string text;
  size_t keys = 0;
  for (const auto& [key, value] : server.items()) {
    const bool kebab = key.find('-') != std::string::npos;
    if (kebab) continue;
    text += key + " = 1979-05-27T07:32:00Z\n";
    ++keys;
  }
  const Loaded loaded = load_toml("[server]\n" + text);
  size_t wrong = 0;
  for (const Problem& problem : loaded.problems.all()) {
    CHECK(problem.text.find("unknown") == std::string::npos);
    if (problem.key.starts_with("server.")) ++wrong;
  }
  CHECK(keys > 20);
  CHECK(wrong == keys);
  CHECK(server.contains("max-connections"));
  CHECK(schema.at("required") == nlohmann::json::array({"routing", "mapping"}));
}

}  // namespace postern::conf
