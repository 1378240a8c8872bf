// SPDX-License-Identifier: GPL-3.0-or-later
#include "protocols/refusal.hpp"

#include <doctest/doctest.h>

using namespace postern;
using conf::Protocol;

TEST_CASE("a refusal is temporary where the protocol says so, and nowhere else") {
  struct Row {
    Protocol protocol;
    std::string_view said;
    bool temporary;
  };
  for (const Row& row : {
           Row{Protocol::imap, "a NO [UNAVAILABLE] later\r\n", true},
           Row{Protocol::imap, "* OK x\r\na NO [inuse] busy\r\n", true},
           Row{Protocol::imap, "a NO [LIMIT too many]\r\n", true},
           Row{Protocol::imap, "a NO [AUTHENTICATIONFAILED] wrong\r\n", false},
           Row{Protocol::imap, "* NO [UNAVAILABLE] other\r\na NO wrong\r\n", false},
           Row{Protocol::imap, "a NO text [UNAVAILABLE]\r\n", false},
           Row{Protocol::imap, "a BAD\r\n", false},
           Row{Protocol::imap, "", false},
           Row{Protocol::pop3, "-ERR [SYS/TEMP] later\r\n", true},
           Row{Protocol::pop3, "-ERR [IN-USE]\r\n", true},
           Row{Protocol::pop3, "-ERR [AUTH] wrong\r\n", false},
           Row{Protocol::pop3, "-ERR\r\n", false},
           Row{Protocol::submission, "454 4.7.0 later\r\n", true},
           Row{Protocol::submission, "421-a\r\n421 b\r\n", true},
           Row{Protocol::submission, "535 5.7.8 4\r\n", false},
           Row{Protocol::managesieve, "NO (TRYLATER) \"busy\"\r\n", true},
           Row{Protocol::managesieve, "BYE \"too busy\"\r\n", true},
           Row{Protocol::managesieve, "NO (TRYLATER) {4}\r\nbusy\r\n", true},
           Row{Protocol::managesieve, "NO {3}\r\nBYE\r\n", false},
           Row{Protocol::managesieve, "NO \"expired\"\r\n", false},
           Row{Protocol::smtp, "454 x\r\n", false},
       }) {
    CAPTURE(row.said);
    CHECK(protocols::is_temporary(row.protocol, row.said) == row.temporary);
  }
}

TEST_CASE("a goodbye is one to whoever reads it") {
  struct Row {
    Protocol protocol;
    std::string_view said;
    bool goodbye;
  };
  for (const Row& row : {
           Row{Protocol::imap, "* BYE too many\r\na NO no\r\n", true},
           Row{Protocol::imap, "* OK [X] note\r\n* bye\r\na NO no\r\n", true},
           Row{Protocol::imap, "* OK BYE\r\na NO * BYE\r\n", false},
           Row{Protocol::pop3, "-ERR bye\r\n", false},
           Row{Protocol::submission, "421 4.7.0 later\r\n", true},
           Row{Protocol::submission, "421-a\r\n421 b\r\n", true},
           Row{Protocol::submission, "454 421\r\n", false},
           Row{Protocol::managesieve, "BYE\r\n", true},
           Row{Protocol::managesieve, "BYE (TRYLATER) {3}\r\nNO!\r\n", true},
           Row{Protocol::managesieve, "NO {3}\r\nBYE\r\n", false},
           Row{Protocol::managesieve, "", false},
       }) {
    CAPTURE(row.said);
    CHECK(protocols::is_goodbye(row.protocol, row.said) == row.goodbye);
  }
}

TEST_CASE("only lines that answer nothing may stand there before the question") {
  struct Row {
    Protocol protocol;
    std::string_view said;
    bool premature;
  };
  for (const Row& row : {
           Row{Protocol::imap, "", false},
           Row{Protocol::imap, "* OK [X] note\r\n* CAPA", false},
           Row{Protocol::imap, "a OK in\r\n", true},
           Row{Protocol::imap, "* OK\r\na", true},
           Row{Protocol::imap, "+ \r\n", true},
           Row{Protocol::imap, "\r\n", true},
           Row{Protocol::pop3, "", false},
           Row{Protocol::pop3, "+", true},
           Row{Protocol::submission, "235 in\r\n", true},
           Row{Protocol::managesieve, "\"X\"\r\n", true},
           Row{Protocol::managesieve, "\r\n", false},
           Row{Protocol::managesieve, "\r\nOK\r\n", true},
           Row{Protocol::pop3, "\r\n", true},
       }) {
    CAPTURE(row.said);
    CHECK(protocols::is_premature(row.protocol, row.said) == row.premature);
  }
}
