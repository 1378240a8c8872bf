// SPDX-License-Identifier: GPL-3.0-or-later
#include "protocols/refusal.hpp"

#include <doctest/doctest.h>

#include <span>
#include <string_view>

using namespace postern;
using conf::Protocol;

namespace {

struct Row {
  Protocol protocol;
  std::string_view said;
  bool answer;
};

void judge(bool (*question)(Protocol, std::string_view), std::span<const Row> rows) {
  for (const Row& row : rows) {
    CAPTURE(row.said);
    CHECK(question(row.protocol, row.said) == row.answer);
  }
}

}  // namespace

TEST_CASE("a refusal is temporary where the protocol says so, and nowhere else") {
  const Row rows[] = {
      {Protocol::imap, "a NO [UNAVAILABLE] later\r\n", true},
      {Protocol::imap, "* OK x\r\na NO [inuse] busy\r\n", true},
      {Protocol::imap, "a NO [LIMIT too many]\r\n", true},
      {Protocol::imap, "a NO [AUTHENTICATIONFAILED] wrong\r\n", false},
      {Protocol::imap, "* NO [UNAVAILABLE] other\r\na NO wrong\r\n", false},
      {Protocol::imap, "a NO text [UNAVAILABLE]\r\n", false},
      {Protocol::imap, "a BAD\r\n", false},
      {Protocol::imap, "", false},
      {Protocol::pop3, "-ERR [SYS/TEMP] later\r\n", true},
      {Protocol::pop3, "-ERR [IN-USE]\r\n", true},
      {Protocol::pop3, "-ERR [AUTH] wrong\r\n", false},
      {Protocol::pop3, "-ERR\r\n", false},
      {Protocol::submission, "454 4.7.0 later\r\n", true},
      {Protocol::submission, "421-a\r\n421 b\r\n", true},
      {Protocol::submission, "535 5.7.8 4\r\n", false},
      {Protocol::managesieve, "NO (TRYLATER) \"busy\"\r\n", true},
      {Protocol::managesieve, "BYE \"too busy\"\r\n", true},
      {Protocol::managesieve, "NO (TRYLATER) {4}\r\nbusy\r\n", true},
      {Protocol::managesieve, "NO {3}\r\nBYE\r\n", false},
      {Protocol::managesieve, "NO \"expired\"\r\n", false},
      {Protocol::smtp, "454 x\r\n", false},
  };
  judge(protocols::is_temporary, rows);
}

TEST_CASE("a goodbye is one to whoever reads it") {
  const Row rows[] = {
      {Protocol::imap, "* BYE too many\r\na NO no\r\n", true},
      {Protocol::imap, "* OK [X] note\r\n* bye\r\na NO no\r\n", true},
      {Protocol::imap, "* OK BYE\r\na NO * BYE\r\n", false},
      {Protocol::pop3, "-ERR bye\r\n", false},
      {Protocol::submission, "421 4.7.0 later\r\n", true},
      {Protocol::submission, "421-a\r\n421 b\r\n", true},
      {Protocol::submission, "454 421\r\n", false},
      {Protocol::managesieve, "BYE\r\n", true},
      {Protocol::managesieve, "BYE (TRYLATER) {3}\r\nNO!\r\n", true},
      {Protocol::managesieve, "NO {3}\r\nBYE\r\n", false},
      {Protocol::managesieve, "", false},
  };
  judge(protocols::is_goodbye, rows);
}

TEST_CASE("only lines that answer nothing may stand there before the question") {
  const Row rows[] = {
      {Protocol::imap, "", false},
      {Protocol::imap, "* OK [X] note\r\n* CAPA", false},
      {Protocol::imap, "a OK in\r\n", true},
      {Protocol::imap, "* OK\r\na", true},
      {Protocol::imap, "+ \r\n", true},
      {Protocol::imap, "\r\n", true},
      {Protocol::pop3, "", false},
      {Protocol::pop3, "+", true},
      {Protocol::submission, "235 in\r\n", true},
      {Protocol::managesieve, "\"X\"\r\n", true},
      {Protocol::managesieve, "\r\n", false},
      {Protocol::managesieve, "\r\nOK\r\n", true},
      {Protocol::pop3, "\r\n", true},
  };
  judge(protocols::is_premature, rows);
}
