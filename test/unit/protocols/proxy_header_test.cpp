// SPDX-License-Identifier: GPL-3.0-or-later
// The PROXY header's tables: what is a header, what is none, and how early that is known.
#include "protocols/proxy_header.hpp"

#include <doctest/doctest.h>

#include <vector>

#include "test/unit/protocols/hex.hpp"

using namespace postern;
using namespace postern::protocols;
using test::bytes;
using test::hex;

namespace {

const std::string sig = hex("0D0A0D0A 000D0A51 5549540A");
const std::string v4_block = hex("CB007109 C6336407 9CBB03E1");
const std::string v6_block =
    hex("20010DB8 00000000 00000000 00000009 20010DB8 00000000 00000000 00000001 04D203E1");

ProxyParse parse(std::string_view text) { return parse_proxy_header(bytes(text)); }

std::string show(const ProxyParse& p) {
  switch (p.verdict) {
    case ProxyVerdict::more:
      return "more";
    case ProxyVerdict::absent:
      return "absent";
    case ProxyVerdict::malformed:
      return "malformed";
    case ProxyVerdict::complete:
      break;
  }
  if (p.header.local) return "local";
  return p.header.source.text() + " > " + p.header.destination.text();
}

struct Case {
  std::string header;
  std::string result;
};

const std::vector<Case>& whole_headers() {
  static const std::vector<Case> cases = {
      // Scenario 139 and the shapes of forwarding.md 1.3.
      {"PROXY TCP4 203.0.113.9 198.51.100.7 40123 993\r\n", "203.0.113.9:40123 > 198.51.100.7:993"},
      {"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", "0.0.0.0:0 > 255.255.255.255:65535"},
      {"PROXY TCP6 2001:db8::9 2001:db8::1 1234 993\r\n", "[2001:db8::9]:1234 > [2001:db8::1]:993"},
      {"PROXY TCP6 2001:DB8:0:0:0:0:0:9 :: 1 2\r\n", "[2001:db8::9]:1 > [::]:2"},
      {"PROXY TCP6 ::ffff:203.0.113.9 2001:db8::1 1 2\r\n", "203.0.113.9:1 > [2001:db8::1]:2"},
      {"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 "
       "65535\r\n",
       "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535 > [ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"},
      // Scenario 143.
      {"PROXY UNKNOWN\r\n", "local"},
      {"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", "local"},
      {"PROXY UNKNOWN" + std::string(107 - 15, 'x') + "\r\n", "local"},
      // Scenarios 140 to 142.
      {sig + hex("2111000C") + v4_block, "203.0.113.9:40123 > 198.51.100.7:993"},
      {sig + hex("2112000C") + v4_block, "203.0.113.9:40123 > 198.51.100.7:993"},
      {sig + hex("21210024") + v6_block, "[2001:db8::9]:1234 > [2001:db8::1]:993"},
      {sig + hex("21220024") + v6_block, "[2001:db8::9]:1234 > [2001:db8::1]:993"},
      {sig + hex("21210024 00000000 00000000 0000FFFF CB007109 00000000 00000000 0000FFFF C6336407 9CBB03E1"),
       "203.0.113.9:40123 > 198.51.100.7:993"},
      // Scenario 165: each address is normalised on its own.
      {sig + hex("21210024 00000000 00000000 0000FFFF CB007109 20010DB8 00000000 00000000 00000001 04D203E1"),
       "203.0.113.9:1234 > [2001:db8::1]:993"},
      // LOCAL, unspecified and Unix: whatever is attached is skipped.
      {sig + hex("20000000"), "local"},
      {sig + hex("2011000C") + v4_block, "local"},
      {sig + hex("2099000501020304FF"), "local"},
      {sig + hex("21000000"), "local"},
      {sig + hex("21000005 FFFFFFFFFF"), "local"},
      {sig + hex("213100D8") + std::string(216, 'u'), "local"},
      {sig + hex("213200DC") + std::string(216, '\0') + hex("04000155"), "local"},
      // The largest.
      {sig + hex("20000FF0") + std::string(4080, 'x'), "local"},
      {sig + hex("21110FF0") + v4_block + hex("040FE1") + std::string(4065, '\0'),
       "203.0.113.9:40123 > 198.51.100.7:993"},
  };
  return cases;
}

}  // namespace

TEST_CASE("a whole header is complete at its last byte, and every prefix of it asks for more") {
  for (const auto& row : whole_headers()) {
    const auto& header = row.header;
    const auto& result = row.result;
    CAPTURE(header);
    const ProxyParse p = parse(header);
    REQUIRE(p.verdict == ProxyVerdict::complete);
    CHECK(show(p) == result);
    CHECK(p.consumed == header.size());
    CHECK(p.header.version == (header[0] == 'P' ? 1 : 2));
    for (size_t n = 0; n < header.size(); ++n) {
      CAPTURE(n);
      CHECK(parse(std::string_view(header).substr(0, n)).verdict == ProxyVerdict::more);
    }
  }
}

TEST_CASE("what follows a header belongs to the stream") {
  for (const auto& row : whole_headers()) {
    const auto& header = row.header;
    const auto& result = row.result;
    for (const std::string& behind : {std::string("a NOOP\r\n"), header, std::string("\n"), hex("160301")}) {
      const ProxyParse p = parse(header + behind);
      CAPTURE(header);
      CHECK(show(p) == result);
      CHECK(p.consumed == header.size());
    }
  }
}

TEST_CASE("an unacceptable header is malformed with a reason, and known at the first byte that settles it") {
  struct Row {
    std::string input;
    size_t settled;  // so many bytes decide; one less still asks for more
  };
  const std::string v1 = "PROXY TCP4 ";
  const std::vector<Row> rows = {
      // Scenarios 151 to 154 and 159.
      {"PROXY TCP4 1.2.3.400 5.6.7.8 1 2\r\n", 20},
      {"PROXY TCP4 1.2.3.4 5.6.7.8 99999 2\r\n", 32},
      {"PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n", 13},
      {"PROXY TCP4 1.2.3.4\r\n", 19},
      {"PROXY TCP9 x\r\n", 10},
      // Fields.
      {v1 + "1.2.3.4 5.6.7.8 1\r\n", v1.size() + 18},
      {v1 + "1.2.3.4 5.6.7.8 1 \r\n", v1.size() + 19},
      {v1 + "1.2.3.4 5.6.7.8 1 2 \r\n", v1.size() + 20},
      {v1 + "1.2.3.4  5.6.7.8 1 2\r\n", v1.size() + 9},
      {v1 + " 1.2.3.4 5.6.7.8 1 2\r\n", v1.size() + 1},
      {v1 + "1.2.3.4\t5.6.7.8 1 2\r\n", v1.size() + 8},
      {v1 + "1.2.3 5.6.7.8 1 2\r\n", v1.size() + 6},
      {v1 + "1.2.3. 5.6.7.8 1 2\r\n", v1.size() + 7},
      {v1 + "1..3.4 5.6.7.8 1 2\r\n", v1.size() + 3},
      {v1 + "1.2.3.4.5 5.6.7.8 1 2\r\n", v1.size() + 8},
      {v1 + "1.2.3.04 5.6.7.8 1 2\r\n", v1.size() + 8},
      {v1 + "::1 ::1 1 2\r\n", v1.size() + 1},
      {v1 + "1.2.3.4 5.6.7.8 01 2\r\n", v1.size() + 18},
      {v1 + "1.2.3.4 5.6.7.8 1 65536\r\n", v1.size() + 23},
      {v1 + "1.2.3.4 5.6.7.8 +1 2\r\n", v1.size() + 17},
      {v1 + "1.2.3.4 5.6.7.8 -1 2\r\n", v1.size() + 17},
      {v1 + "1.2.3.4 5.6.7.8 0x1 2\r\n", v1.size() + 18},
      {v1 + std::string("1.2.3.4 5.6.7.8 1\0 2\r\n", 22), v1.size() + 18},
      {"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", 19},
      {"PROXY TCP6 1::2::3 ::1 1 2\r\n", 19},
      {"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", 19},
      {"PROXY TCP6 [::1] [::1] 1 2\r\n", 12},
      // Keywords and spaces.
      {"PROXY TCP5 ", 10},
      {"PROXY TCP4\r\n", 11},
      {"PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n", 7},
      {"PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n", 7},
      {"PROXY \r\n", 7},
      {"PROXY UNKNOWx\r\n", 13},
      {"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n", 8},
      // Line ends and length.
      {v1 + "1.2.3.4 5.6.7.8 1 2\n", v1.size() + 20},
      {v1 + "1.2.3.4 5.6.7.8 1 2\rx", v1.size() + 21},
      {"PROXY UNKNOWN\n", 14},
      {"PROXY UNKNOWN \rx\r\n", 16},
      {"PROXY UNKNOWN" + std::string(108 - 15, 'x') + "\r\n", 106},
      {"PROXY UNKNOWN" + std::string(200, 'x'), 106},
      // Scenario 155: version 3, command 7, short address blocks, 60 000 bytes.
      {sig + hex("3111000C") + v4_block, 13},
      {sig + hex("2711000C") + v4_block, 13},
      {sig + hex("21110004") + v4_block, 16},
      {sig + hex("2121000C") + v4_block, 16},
      {sig + hex("2111EA60") + v4_block, 15},
      {sig + hex("20000FF1"), 16},
      {sig + hex("21001000"), 15},
      {sig + hex("213100D7"), 16},
      {sig + hex("2113000C") + v4_block, 14},
      {sig + hex("2110000C") + v4_block, 14},
      {sig + hex("2141000C") + v4_block, 14},
      {sig + hex("2101000C") + v4_block, 14},
      {sig + hex("0111000C") + v4_block, 13},
  };
  for (const auto& row : rows) {
    const auto& input = row.input;
    const auto& settled = row.settled;
    CAPTURE(input);
    const ProxyParse p = parse(input);
    REQUIRE(p.verdict == ProxyVerdict::malformed);
    CHECK(p.reason[0] != '\0');
    CHECK(p.consumed == 0);
    REQUIRE(settled <= input.size());
    for (size_t n = 0; n <= input.size(); ++n) {
      CAPTURE(n);
      const auto expected = n < settled ? ProxyVerdict::more : ProxyVerdict::malformed;
      CHECK(parse(std::string_view(input).substr(0, n)).verdict == expected);
    }
  }
}

TEST_CASE("no header is known to be absent at the first foreign byte") {
  struct Row {
    std::string input;
    size_t settled;
  };
  const std::vector<Row> rows = {{"a NOOP\r\n", 1},
                                 {"EHLO x\r\n", 1},
                                 {hex("160301 0200"), 1},
                                 {"\n", 1},
                                 {"P", 99},
                                 {"PASS x\r\n", 2},
                                 {"PROXY", 99},
                                 {"PROXY\r\n", 6},
                                 {"PROXYTCP4 1.2.3.4", 6},
                                 {"proxy TCP4 ", 1},
                                 {"\r\n\r\nQUIT\r\n", 5},
                                 {hex("0D0A0D0A 000D0A51 5549540B"), 12},
                                 {hex("0D0A0D0A 000D0A"), 99}};
  for (const auto& row : rows) {
    const auto& input = row.input;
    const auto& settled = row.settled;
    CAPTURE(input);
    for (size_t n = 0; n <= input.size(); ++n) {
      CAPTURE(n);
      const auto expected = n < settled ? ProxyVerdict::more : ProxyVerdict::absent;
      CHECK(parse(std::string_view(input).substr(0, n)).verdict == expected);
    }
  }
}

TEST_CASE("every byte in every place of a version 1 header either keeps it a header or is refused for good") {
  const std::string header = "PROXY TCP6 2001:db8::9 ::1 1234 993\r\n";
  for (size_t at = 6; at < header.size(); ++at) {
    for (int value = 0; value < 256; ++value) {
      std::string changed = header;
      changed[at] = static_cast<char>(value);
      ProxyVerdict before = ProxyVerdict::more;
      for (size_t n = 6; n <= changed.size(); ++n) {
        const ProxyVerdict now = parse(std::string_view(changed).substr(0, n)).verdict;
        if (before != ProxyVerdict::more) REQUIRE(now == before);
        REQUIRE(now != ProxyVerdict::absent);
        before = now;
      }
    }
  }
}

TEST_CASE("an outbound header is version 2 in the families' own form, or UNKNOWN when they differ") {
  struct Row {
    const char* source;
    const char* destination;
    bool map_v4;
    std::string expected;
  };
  const std::vector<Row> rows = {
      {"203.0.113.9:40123", "198.51.100.7:993", false, sig + hex("2111000C") + v4_block},
      {"203.0.113.9:40123", "198.51.100.7:993", true, sig + hex("2111000C") + v4_block},
      {"[2001:db8::9]:1234", "[2001:db8::1]:993", false, sig + hex("21210024") + v6_block},
      {"[::ffff:203.0.113.9]:40123", "[::ffff:198.51.100.7]:993", false, sig + hex("2111000C") + v4_block},
      {"203.0.113.9:1234", "[2001:db8::1]:993", false, "PROXY UNKNOWN\r\n"},
      {"[2001:db8::9]:1234", "198.51.100.7:993", false, "PROXY UNKNOWN\r\n"},
      {"203.0.113.9:1234", "[2001:db8::1]:993", true,
       sig +
           hex("21210024 00000000 00000000 0000FFFF CB007109 20010DB8 00000000 00000000 00000001 04D203E1")},
      {"[2001:db8::9]:1234", "198.51.100.7:993", true,
       sig +
           hex("21210024 20010DB8 00000000 00000000 00000009 00000000 00000000 0000FFFF C6336407 04D203E1")},
  };
  for (const auto& row : rows) {
    CAPTURE(row.source);
    ProxyOut out;
    out.source = conf::SocketAddress::parse(row.source).value();
    out.destination = conf::SocketAddress::parse(row.destination).value();
    out.map_v4 = row.map_v4;
    const std::string header = write_proxy_header(out);
    CHECK(header == row.expected);
    const ProxyParse p = parse(header);
    REQUIRE(p.verdict == ProxyVerdict::complete);
    CHECK(p.consumed == header.size());
    if (!p.header.local) {
      CHECK(p.header.source == out.source);
      CHECK(p.header.destination == out.destination);
    }
  }
}

TEST_CASE("a connection of our own speaks for nobody") {
  const std::string header = local_proxy_header();
  CHECK(header == sig + hex("20000000"));
  const ProxyParse p = parse(header);
  REQUIRE(p.verdict == ProxyVerdict::complete);
  CHECK(p.consumed == header.size());
  CHECK(p.header.local);
}
