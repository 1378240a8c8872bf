// SPDX-License-Identifier: GPL-3.0-or-later
// Which part of a login routes it, and which never may.
#include <doctest/doctest.h>

#include <vector>

#include "protocols/identity.hpp"

using namespace postern::protocols;

TEST_CASE("a login is cut at the earliest master-user separator") {
  struct Row {
    const char* login;
    std::vector<std::string> separators;
    const char* identifier;
  };
  const Row rows[] = {
      {"alice@example.com", {"%"}, "alice@example.com"},
      {"alice@example.com%root", {"%"}, "alice@example.com"},
      {"alice*root%x", {"%", "*"}, "alice"},
      {"alice%root*x", {"%", "*"}, "alice"},
      {"alice::master", {"::"}, "alice"},
      {"alice%root", {}, "alice%root"},
      {"alice%root", {""}, "alice%root"},
      {"%root", {"%"}, ""},
      {"", {"%"}, ""},
  };
  for (const Row& row : rows) {
    CAPTURE(row.login);
    CHECK(cut_master_user(row.login, row.separators) == row.identifier);
  }
}

TEST_CASE("identifiers with controls, spaces or quotes, or beyond 320 bytes, are refused") {
  for (const char* good : {"alice", "alice@example.com", "jos\xc3\xa9@example.com", "a+b@example.com", "#x"})
    CHECK(acceptable_identifier(good));
  for (const std::string& bad : {std::string(), std::string("a b"), std::string("a\tb"), std::string("a\nb"),
                                 std::string("a\"b"), std::string("a\x7f"), std::string("a\0b", 3)})
    CHECK_FALSE(acceptable_identifier(bad));
  CHECK(acceptable_identifier(std::string(320, 'x')));
  CHECK_FALSE(acceptable_identifier(std::string(321, 'x')));
}
