// SPDX-License-Identifier: GPL-3.0-or-later
// Every rejection R-1 to R-70 as a row: the base document, a change, and the place, key and words that must
// come out.
#include <algorithm>

#include "test/unit/conf/fixture.hpp"
#include "test/unit/conf/rejection_rows.hpp"

namespace postern::conf {
namespace {

int line_of(std::string_view document, std::string_view marker) {
  const size_t at = document.find(marker);
  REQUIRE(at != std::string_view::npos);
  return 1 +
         static_cast<int>(std::count(document.begin(), document.begin() + static_cast<ptrdiff_t>(at), '\n'));
}

}  // namespace

TEST_CASE("the base document of the rejections is accepted") {
  const Folder folder;
  folder.write("M", "");
  const Loaded loaded =
      load_text("test.toml", replaced(std::string(base_document), "@", folder.path()), {}, everything);
  CHECK(lines_of(loaded) == "");
}

TEST_CASE("scenario 272: every rejection names its key, its place and the offending value") {
  const Folder folder;
  folder.write("M", "");
  for (const Rejection& row : rejection_rows) {
    std::string document(base_document);
    if (!row.from.empty()) {
      REQUIRE(document.find(row.from) != std::string::npos);
      document.replace(document.find(row.from), row.from.size(), row.to);
    }
    document += row.more;
    CAPTURE(row.rule);
    CAPTURE(document);
    const Loaded loaded = load_text("test.toml", replaced(document, "@", folder.path()), {}, everything);
    CAPTURE(lines_of(loaded));
    CHECK_FALSE(loaded.ok());
    const Problem* problem = find_problem(loaded, row.key);
    REQUIRE(problem != nullptr);
    CHECK(problem->text.find(row.text) != std::string::npos);
    CHECK(problem->file == "test.toml");
    CHECK(problem->place.column > 0);
    if (row.rule == "R-2") {
      CHECK(problem->place.line == 18);
    } else {
      // What a change adds stands behind the base document, so the last match is the one meant.
      const std::string_view text = document;
      const bool added = !row.more.empty() && row.more.find(row.marker) != std::string_view::npos;
      const size_t from = added ? text.size() - row.more.size() : 0;
      const int before = line_of(text, text.substr(from)) - 1;
      CHECK(problem->place.line ==
            (row.marker.empty() ? 1 : before + line_of(text.substr(from), row.marker)));
    }
    // One mistake, one message.
    CHECK(loaded.problems.errors() == 1);
  }
}

TEST_CASE("a file that is missing is reported as a whole") {
  const Loaded loaded = load("nope.toml", {});
  CHECK(lines_of(loaded) == "nope.toml: cannot be read: No such file or directory\n");
}

TEST_CASE("a folder is not a configuration") {
  const Folder folder;
  CHECK(lines_of(load(folder.path(), {})) == folder.path() + ": cannot be read: it is a directory\n");
}

TEST_CASE("broken syntax is one problem with its place") {
  struct {
    std::string name;
    std::string_view text;
  } const rows[] = {{"x.toml", "[server"},
                    {"x.toml", "a = \n"},
                    {"x.yaml", "a: [1, 2"},
                    {"x.json", "{\"a\": "},
                    {"x.yaml", "\ta: b"}};
  for (const auto& row : rows) {
    const Loaded loaded = load_text(row.name, row.text, {}, no_files);
    CAPTURE(row.text);
    REQUIRE(loaded.problems.all().size() == 1);
    CHECK(loaded.problems.all()[0].place.line >= 1);
    CHECK(loaded.problems.all()[0].line().starts_with(row.name + ":1:"));
  }
}

TEST_CASE("text that is not UTF-8 is refused") {
  CHECK(lines_of(load_toml("a = \"\xff\"")) == "test.toml: is not UTF-8 text\n");
}

}  // namespace postern::conf
