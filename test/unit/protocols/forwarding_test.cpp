// SPDX-License-Identifier: GPL-3.0-or-later
// XCLIENT and ID to the byte, and no byte of a client out of place.
#include "protocols/forwarding.hpp"

#include <doctest/doctest.h>

#include <vector>

using namespace postern;
using namespace postern::protocols;

namespace {

ClientFacts facts(const char* peer = "203.0.113.5:40000", const char* local = "192.0.2.10:587") {
  return {*conf::SocketAddress::parse(peer), *conf::SocketAddress::parse(local), 7, "P12ab", false};
}
const std::string every = "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT SESSION TTL CLIENT-TRANSPORT";

}  // namespace

TEST_CASE("XCLIENT for POP3 and ManageSieve says everything, in order") {
  CHECK(xclient_all(facts()) ==
        "XCLIENT ADDR=203.0.113.5 PORT=40000 DESTADDR=192.0.2.10 DESTPORT=587 SESSION=P12ab TTL=6 "
        "CLIENT-TRANSPORT=insecure\r\n");
  ClientFacts six = facts("[2001:db8::1]:1", "[::1]:2");
  six.encrypted = true;
  six.ttl = 0;
  CHECK(
      xclient_all(six) ==
      "XCLIENT ADDR=2001:db8::1 PORT=1 DESTADDR=::1 DESTPORT=2 SESSION=P12ab TTL=0 CLIENT-TRANSPORT=TLS\r\n");
}

TEST_CASE("XCLIENT for submission says what was asked for, and a name only if it is one") {
  struct Row {
    std::string helo, announced, line;
  };
  const std::string ends = "ADDR=203.0.113.5 PORT=40000 DESTADDR=192.0.2.10 DESTPORT=587";
  const Row rows[] = {
      {"client.example", "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT",
       "XCLIENT " + ends + " HELO=client.example PROTO=ESMTP\r\n"},
      {"c", every,
       "XCLIENT " + ends + " SESSION=P12ab TTL=6 CLIENT-TRANSPORT=insecure HELO=c PROTO=ESMTP\r\n"},
      {"a\"b", "HELO PROTO", "XCLIENT PROTO=ESMTP\r\n"},
      {"a b", "HELO PROTO", "XCLIENT PROTO=ESMTP\r\n"},
      {"a\r\nb", "HELO PROTO", "XCLIENT PROTO=ESMTP\r\n"},
      {"", "HELO PROTO", "XCLIENT PROTO=ESMTP\r\n"},
      {"x+y=z", "helo  proto", "XCLIENT HELO=x+2By+3Dz PROTO=ESMTP\r\n"},
      {"m\xc3\xbcller", "HELO", "XCLIENT HELO=m+C3+BCller\r\n"},
      {"c", "NAME LOGIN", ""},
      {"c", "", ""},
      {"c", "ADDRESS XPORT HEL", ""},
      {"c", "ttl", "XCLIENT TTL=6\r\n"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.helo);
    CAPTURE(row.announced);
    CHECK(xclient_filtered(facts(), row.helo, row.announced) == row.line);
  }
  CHECK(xclient_filtered(facts("[::1]:1", "[2001:db8::1]:2"), "", "ADDR DESTADDR") ==
        "XCLIENT ADDR=IPV6:::1 DESTADDR=IPV6:2001:db8::1\r\n");
}

TEST_CASE("an XCLIENT line stays below 512 bytes, if need be without the name") {
  // "XCLIENT HELO=" and CR LF are 15 bytes.
  CHECK(xclient_filtered(facts(), std::string(496, 'a'), "HELO").size() == 511);
  CHECK(xclient_filtered(facts(), std::string(497, 'a'), "HELO").empty());
  CHECK(xclient_filtered(facts(), std::string(166, '+'), every).find(" HELO=") == std::string::npos);
  CHECK(xclient_filtered(facts(), std::string(166, '+'), every).ends_with("insecure PROTO=ESMTP\r\n"));
}

TEST_CASE("ID says what is known, and of the client's own words only harmless ones") {
  using Own = std::vector<std::pair<std::string, std::string>>;
  ClientFacts known = facts();
  known.encrypted = true;
  const std::string forwarded =
      "\"x-originating-ip\" \"203.0.113.5\" \"x-originating-port\" \"40000\" \"x-connected-ip\" "
      "\"192.0.2.10\" "
      "\"x-connected-port\" \"587\" \"x-proxy-ttl\" \"6\" \"x-session-id\" \"P12ab\" \"x-client-transport\" "
      "\"TLS\"";
  CHECK(imap_id(&known, {}) == "F1 ID (" + forwarded + ")\r\n");
  CHECK(imap_id(nullptr, {}).empty());
  const Own own = {{"name", "a \"b\" \\c"},
                   {"X-Originating-IP", "6.6.6.6"},
                   {"", "x"},
                   {"version", "1\r\nF2 NOOP"},
                   {"os", "m\xc3\xbc"},
                   {std::string(31, 'n'), "x"},
                   {"long", std::string(1025, 'x')},
                   {"a\"b", ""}};
  const std::string harmless = R"("name" "a \"b\" \\c" "a\"b" "")";
  CHECK(imap_id(nullptr, own) == "F1 ID (" + harmless + ")\r\n");
  CHECK(imap_id(&known, own) == "F1 ID (" + forwarded + " " + harmless + ")\r\n");
  const std::string many = imap_id(&known, Own(100, {"a", "b"}));
  CHECK(many == "F1 ID (" + forwarded + [] {
    std::string all;
    for (int i = 7; i < 30; ++i) all += " \"a\" \"b\"";
    return all;
  }() + ")\r\n");
}
