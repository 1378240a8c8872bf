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
