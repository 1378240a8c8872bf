// SPDX-License-Identifier: GPL-3.0-or-later
// Which messages are credentials, and whom they name.
#include "protocols/login.hpp"

#include <doctest/doctest.h>

#include "protocols/base64.hpp"
#include "protocols/token.hpp"

using namespace postern::protocols;
using namespace std::string_literals;
using postern::conf::Secret;

namespace {

std::string url_encoded(std::string_view bytes) {
  std::string text = base64(bytes);
  text.erase(std::min(text.find('='), text.size()));
  for (char& c : text) c = c == '+' ? '-' : c == '/' ? '_' : c;
  return text;
}
std::string jwt(std::string_view claims) { return "e30." + url_encoded(claims) + ".sig"; }

}  // namespace

TEST_CASE("a PLAIN message has two NULs, a user, a password, and is UTF-8") {
  struct Row {
    std::string message, authzid, authcid, password;
  };
  const Row good[] = {
      {"\0alice\0secret"s, "", "alice", "secret"},
      {"bob\0alice\0secret"s, "bob", "alice", "secret"},
      {"\0jos\xc3\xa9\0p\xc3\xa4ss \r\n"s, "", "jos\xc3\xa9", "p\xc3\xa4ss \r\n"},
  };
  for (const Row& row : good) {
    const auto parts = split_plain(row.message);
    REQUIRE(parts);
    CHECK(parts->authzid == row.authzid);
    CHECK(parts->authcid == row.authcid);
    CHECK(parts->password == row.password);
  }
  for (const std::string& bad : {""s, "alice"s, "\0alice"s, "\0\0secret"s, "\0alice\0"s, "\0alice\0sec\0ret"s,
                                 "\0alice\0secret\0"s, "\0\0\0"s, "\0al\xffice\0x"s, "\0alice\0\xc0\x80"s,
                                 "\xed\xa0\x80\0alice\0x"s, "\0alice\0\xf4\x90\x80\x80"s})
    CHECK_FALSE(split_plain(bad));
  CHECK(make_plain("alice", "secret").reveal() == "\0alice\0secret"s);
}

TEST_CASE("an OAuth message of either form has a token and may name a user") {
  struct Row {
    std::string message, user, token;  // no token: malformed
  };
  const Row rows[] = {
      {"n,a=carol@example.com,\x01"
       "auth=Bearer tok 1\x01\x01",
       "carol@example.com", "tok 1"},
      {"n,,\x01"
       "auth=Bearer t\x01\x01",
       "", "t"},
      {"y,,\x01port=1\x01"
       "AUTH=bearer t\x01\x01",
       "", "t"},
      {"y,a=x=2Cy=3Dz=2cq,\x01"
       "auth=Bearer t\x01\x01",
       "x,y=z,q", "t"},
      {"n,a=one,\x01user=two\x01"
       "auth=Bearer t\x01\x01",
       "one", "t"},
      {"n,,a=late\x01"
       "auth=Bearer t\x01\x01",
       "", "t"},
      {"user=dave@example.com\x01"
       "auth=Bearer tok-2\x01\x01",
       "dave@example.com", "tok-2"},
      {"auth=Bearer t\x01User=dave\x01\x01", "dave", "t"},
      {"user=\x01user=dave\x01"
       "auth=Bearer t\x01\x01",
       "", "t"},
      {"user=a\x01"
       "auth=Basic x\x01"
       "auth=Bearer t\x01"
       "auth=Bearer u\x01\x01",
       "a", "t"},
      {"auth=Bearer t", "", "t"},
      {"auth=Bearer \x01"
       "auth=Bearer u\x01\x01",
       "", ""},
      {"user=a\x01"
       "auth=Bearert\x01\x01",
       "", ""},
      {"user=a\x01"
       "auth=Basic x\x01\x01",
       "", ""},
      {"user=a\xff\x01"
       "auth=Bearer t\x01\x01",
       "", ""},
      {"n,a=b,", "", ""},
      {"", "", ""},
      {"\x01\x01", "", ""},
      {"=\x01==\x01", "", ""},
  };
  for (const Row& row : rows) {
    CAPTURE(row.message);
    const auto parts = split_oauth(row.message);
    REQUIRE(parts.has_value() == !row.token.empty());
    if (!parts) continue;
    CHECK(parts->user == row.user);
    CHECK(parts->token == row.token);
  }
}

TEST_CASE("a token names whom its first claim with an @ names, or nobody") {
  struct Row {
    std::string token, claim, name;
  };
  const std::string deep(100'000, '[');
  const Row rows[] = {
      {jwt(R"({"email":"a@x","sub":"s@x"})"), "", "a@x"},
      {jwt(R"({"sub":"s@x","email":"a@x"})"), "", "a@x"},
      {jwt(R"({"sub":"s@x","email":"a@x"})"), "sub", "s@x"},
      {jwt(R"({"email":"a@x","mail":"m@x"})"), "mail", "m@x"},
      {jwt(R"({"email":"plain","preferred_username":"p@x"})"), "mail", "p@x"},
      {jwt(R"({"upn":"u@x","unique_name":"n@x"})"), "", "u@x"},
      {jwt(R"({"unique_name":"n@x","sub":"s@x"})"), "", "n@x"},
      {jwt(R"({"email":["a@x"],"sub":{"email":"b@x"},"upn":5})"), "", ""},
      {jwt(R"({"email":"a@x","email":"b@x"})"), "", "b@x"},
      {jwt(R"({"email":"a@x","email":7})"), "", ""},
      {jwt(R"({"email":"a@x","x":{"email":"b@x"}})"), "", "a@x"},
      {jwt(R"({"email":"\u0061@x"})"), "", "a@x"},
      {jwt(R"([{"email":"a@x"}])"), "", ""},
      {jwt(R"(["email","a@x"])"), "", ""},
      {jwt(R"("a@x")"), "", ""},
      {jwt(R"({"email":"a@x"} x)"), "", ""},
      {jwt(R"({"email":"a@x")"), "", ""},
      {jwt("{\"email\":\"a@\xff\"}"), "", ""},
      {jwt(R"({"email":"a@x","n":1e999})"), "", ""},
      {jwt(R"({"x":)" + deep), "", ""},
      {jwt(R"({"email":"a@x","x":)" + std::string(31, '[') + std::string(31, ']') + "}"), "", "a@x"},
      {jwt(R"({"email":"a@x","x":)" + std::string(32, '[') + std::string(32, ']') + "}"), "", ""},
      {"e30." + url_encoded(R"({"email":"a@x"})"), "", "a@x"},
      {"e30.eyJl!bWFpbCI6.x", "", ""},
      {"nodots", "", ""},
      {"..", "", ""},
      {"", "", ""},
      {"sw1.id." + url_encoded("bob@example.com"), "", "bob@example.com"},
      {"sw1.id.Ym9i", "", "bob"},
      {"sw1..Ym9i", "", "bob"},
      {"sw1.Ym9i", "", ""},
      {"sw1.id.Ym9i.x", "", ""},
      {"sw1.id.Ym 9i", "", ""},
      {"sw1.id._w", "", ""},
      {"sw1." + url_encoded(R"({"email":"a@x"})") + ".s", "", ""},
  };
  for (const Row& row : rows) {
    CAPTURE(row.token.substr(0, 80));
    CHECK(token_identifier(row.token, row.claim) == row.name);
  }
}

TEST_CASE("a login is routed by its user, its token, or its user after all") {
  struct Row {
    Mechanism mechanism;
    std::string user, message, name;
  };
  const std::string token = "auth=Bearer " + jwt(R"({"email":"a@x"})") + "\x01\x01";
  const Row rows[] = {
      {Mechanism::plain, "alice", "\0alice\0x"s, "alice"},
      {Mechanism::oauthbearer, "dave@y", "n,a=dave@y,\x01" + token, "dave@y"},
      {Mechanism::xoauth2, "dave", "user=dave\x01" + token, "a@x"},
      {Mechanism::xoauth2, "", token, "a@x"},
      {Mechanism::xoauth2, "dave",
       "user=dave\x01"
       "auth=Bearer opaque\x01\x01",
       "dave"},
      {Mechanism::xoauth2, "", "auth=Bearer opaque\x01\x01", ""},
  };
  for (const Row& row : rows) {
    Login login;
    login.mechanism = row.mechanism;
    login.user = row.user;
    login.message = Secret(row.message);
    CHECK(routing_name(login, "") == row.name);
  }
}
