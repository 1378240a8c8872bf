// SPDX-License-Identifier: GPL-3.0-or-later
// The store over an SQLite file: found, absent and failed; read-only; replaced, locked and slow.
#include <sqlite3.h>

#include "test/unit/proxy/stores/sql_world.hpp"

using namespace postern::proxy;
using namespace postern::proxy::test;

namespace {

const std::string query = "SELECT destination FROM accounts WHERE name = ?";

std::string sql(const std::string& path, const std::string& text) {
  sqlite3* database = nullptr;
  REQUIRE(sqlite3_open(path.c_str(), &database) == SQLITE_OK);
  std::string out;
  char* error = nullptr;
  sqlite3_exec(
      database, text.c_str(),
      [](void* to, int, char** values, char**) {
        *static_cast<std::string*>(to) += values[0] ? values[0] : "NULL";
        return 0;
      },
      &out, &error);
  if (error) out = error;
  sqlite3_free(error);
  sqlite3_close(database);
  return out;
}

std::string table(const std::string& path, const std::string& destination) {
  return sql(path,
             "CREATE TABLE accounts (name TEXT PRIMARY KEY, destination); INSERT INTO accounts VALUES "
             "('alice','" +
                 destination + "'),('null',NULL),('empty',''),('blob',x'6e6577'),('number',5)");
}

}  // namespace

TEST_CASE("SQLite: text is found, nothing and NULL are absent, the rest is a failure") {
  const Folder folder;
  const std::string path = folder / "a.db";
  REQUIRE(table(path, "new").empty());
  Asking asking;
  for (const bool prepared : {true, false}) {
    auto settings = sql_settings("sqlite://" + path, query);
    settings.prepared = prepared;
    asking.store = make_sql_store(asking.loop, settings);
    for (int twice = 0; twice < 2; ++twice) {
      const auto answers = asking.find({"alice", "null", "empty", "nobody", "blob", "number"});
      CHECK(text(answers[0]) == "found new");
      CHECK(text(answers[1]) == "absent ");
      CHECK(text(answers[2]) == "absent ");
      CHECK(text(answers[3]) == "absent ");
      CHECK(text(answers[4]) == "failed the value is no text");
      CHECK(text(answers[5]) == "failed the value is no text");
    }
    CHECK(asking.store->state().up);
    CHECK(asking.store->state().connections >= 1);
    CHECK(text(asking.put("bob", "new")) == "failed the store is read-only");
  }
}

TEST_CASE("SQLite: statements that do not fit are told") {
  const Folder folder;
  const std::string path = folder / "a.db";
  REQUIRE(table(path, "new").empty());
  Asking asking;
  const auto ask = [&](const std::string& text_of_query) {
    asking.store = make_sql_store(asking.loop, sql_settings("sqlite://" + path, text_of_query));
    return text(asking.find("alice"));
  };
  CHECK(ask("SELECT destination, name FROM accounts WHERE name = ?") ==
        "failed the query gives 2 columns, and one is asked for");
  CHECK(ask("SELECT destination FROM nowhere WHERE name = ?") ==
        "failed the statement: no such table: nowhere");
  CHECK(ask("SELECT destination FROM accounts") == "failed the statement has 0 parameters, and 1 are given");
  CHECK(ask("SELECT destination FROM accounts WHERE name = ?; DROP TABLE accounts") ==
        "failed there is something behind the statement");
  CHECK(ask("INSERT INTO accounts VALUES (?, 'x') RETURNING destination").starts_with("failed "));
  CHECK(ask("DELETE FROM accounts WHERE name = ?").starts_with("failed "));
  CHECK(sql(path, "SELECT count(*) FROM accounts") == "5");
  CHECK(ask("SELECT destination FROM accounts WHERE name = ? AND 0 < (WITH RECURSIVE n(i) AS (SELECT 1 UNION "
            "ALL "
            "SELECT i + 1 FROM n) SELECT max(i) FROM n)")
            .starts_with("timeout ") == false);
}

TEST_CASE("SQLite: a file that is replaced, missing or no database") {
  const Folder folder;
  const std::string path = folder / "a.db", other = folder / "b.db";
  Asking asking;
  asking.store = make_sql_store(asking.loop, sql_settings("sqlite://" + path, query));
  CHECK(text(asking.find("alice")) == "failed the file cannot be opened: No such file or directory");
  REQUIRE(table(path, "old").empty());
  CHECK(text(asking.find("alice")) == "found old");
  REQUIRE(table(other, "new").empty());
  REQUIRE(::rename(other.c_str(), path.c_str()) == 0);
  for (int i = 0; i < 8; ++i) CHECK(text(asking.find("alice")) == "found new");
  REQUIRE(::unlink(path.c_str()) == 0);
  CHECK(text(asking.find("alice")) == "failed the file cannot be opened: No such file or directory");
  folder.write("a.db", std::string(4096, 'x'));
  CHECK(text(asking.find("alice")).starts_with("failed "));
}

TEST_CASE("SQLite: a lock is waited for within the time of the question") {
  const Folder folder;
  const std::string path = folder / "a.db";
  REQUIRE(table(path, "new").empty());
  sqlite3* other = nullptr;
  REQUIRE(sqlite3_open(path.c_str(), &other) == SQLITE_OK);
  REQUIRE(sqlite3_exec(other, "BEGIN EXCLUSIVE", nullptr, nullptr, nullptr) == SQLITE_OK);
  Asking asking;
  asking.store = make_sql_store(asking.loop, sql_settings("sqlite://" + path, query));
  const uint64_t began = uv_hrtime();
  const auto answer = asking.find("alice", 400);
  CHECK((answer.kind == StoreAnswer::Kind::timeout ||
         text(answer) == "failed the database is locked by another"));
  CHECK((uv_hrtime() - began) / 1'000'000 < 1500);
  REQUIRE(sqlite3_exec(other, "COMMIT", nullptr, nullptr, nullptr) == SQLITE_OK);
  CHECK(text(asking.find("alice", 5000)) == "found new");
  sqlite3_close(other);
}

TEST_CASE("SQLite: every byte of a name is a part of one value") {
  const Folder folder;
  const std::string path = folder / "a.db";
  REQUIRE(sql(path, "CREATE TABLE accounts (name TEXT PRIMARY KEY, destination TEXT)").empty());
  Asking asking;
  auto settings = sql_settings("sqlite://" + path, query, true);
  settings.upsert_query = "INSERT OR REPLACE INTO accounts VALUES (?, ?)";
  asking.store = make_sql_store(asking.loop, settings);
  check_injection(
      asking, [&] { return sql(path, "SELECT count(*) FROM accounts"); }, false);
  CHECK(text(asking.erase("nobody")) == "absent ");
}
