// SPDX-License-Identifier: GPL-3.0-or-later
// The request grammar: every form, every complaint, however the bytes arrive.
#include "protocols/tagged_request.hpp"

#include <doctest/doctest.h>
#include <fmt/core.h>

#include <algorithm>
#include <string>
#include <vector>

using namespace postern::protocols;
using Event = TaggedRequestParser::Event;

namespace {

std::string written(const TaggedRequestParser& parser) {
  std::string line = fmt::format("[{}] {}", parser.tag(), parser.command());
  for (size_t i = 0; i < parser.argument_count(); ++i) {
    const auto argument = parser.argument(i);
    switch (argument.kind) {
      case TaggedRequestParser::Kind::atom:
        line += fmt::format(" {}", argument.value);
        break;
      case TaggedRequestParser::Kind::quoted:
        line += fmt::format(" \"{}\"", argument.value);
        break;
      case TaggedRequestParser::Kind::literal:
        line += fmt::format(" {{{}}}", argument.value);
        break;
      case TaggedRequestParser::Kind::open:
        line += " (";
        break;
      case TaggedRequestParser::Kind::close:
        line += " )";
        break;
    }
  }
  return line + "\n";
}

/// What the parser reports, as text; the input in pieces of `each` behind one of `first`.
std::string parse(bool tagged, std::string_view text, size_t first, size_t each) {
  TaggedRequestParser parser(tagged);
  Input in;
  std::string log;
  for (size_t at = 0; at < text.size();) {
    const size_t size = std::min(at == 0 && first != 0 ? first : each, text.size() - at);
    in.append(text.substr(at, size));
    at += size;
    for (Event event; (event = parser.next(in)) != Event::more;) {
      if (event == Event::lost) return log + "lost\n";
      if (event == Event::request) log += written(parser);
      if (event == Event::go_ahead) log += fmt::format("go ahead {}\n", parser.literal_size());
      if (event == Event::error) log += fmt::format("[{}] error: {}\n", parser.tag(), parser.error());
    }
    CHECK(in.empty());
  }
  return log;
}

std::string parse(bool tagged, std::string_view text) {
  std::string whole = parse(tagged, text, 0, text.size());
  CHECK(parse(tagged, text, 1, 1) == whole);
  if (text.size() <= 2000)
    for (size_t cut = 1; cut < text.size(); ++cut) CHECK(parse(tagged, text, cut, text.size()) == whole);
  return whole;
}

struct Row {
  std::string_view sent, understood;
};

}  // namespace

TEST_CASE("a request with a tag is taken apart whatever its arguments are") {
  for (const Row& row : std::initializer_list<Row>{
           {"a NOOP\r\n", "[a] NOOP\n"},
           {"a noop\n", "[a] noop\n"},
           {"\r\n \t a  NOOP \t \r\n", "[a] NOOP\n"},
           {"x7.Q] AUTHENTICATE PLAIN AGE=\r\n", "[x7.Q]] AUTHENTICATE PLAIN AGE=\n"},
           {"a UID UID fetch 1\r\n", "[a] fetch 1\n"},
           {"a LOGIN \"a b\" \"\"\r\n", "[a] LOGIN \"a b\" \"\"\n"},
           {"a LOGIN \"q\\\"\\\\\\x\"z\r\n", "[a] LOGIN \"q\"\\\\x\" z\n"},
           {"a LOGIN x\"y x{5}\r\n", "[a] LOGIN x\"y x{5}\n"},
           {"a ID (\"name\" NIL(()))\r\n", "[a] ID ( \"name\" NIL ( ( ) ) )\n"},
           {"a LOGIN {3+}\r\na\r\n {0+}\r\n\r\n", "[a] LOGIN {a\r\n} {}\n"},
           {"a LOGIN ~{1+}\nx{1+}\r\ny\n", "[a] LOGIN {x} {y}\n"},
           {"a X ~ ~x ~~{5} ~\r\n", "[a] X ~ ~x ~~{5} ~\n"},
           {"a LOGIN {2}\r\nhi {0}\r\n\r\n", "go ahead 2\ngo ahead 0\n[a] LOGIN {hi} {}\n"},
           {"a LOGIN p\xc3\xa4ss \"\xc3\xa4\"\r\n", "[a] LOGIN p\xc3\xa4ss \"\xc3\xa4\"\n"},
           {"a A\r\nb B\r\nc", "[a] A\n[b] B\n"},
       }) {
    CAPTURE(row.sent);
    CHECK(parse(true, row.sent) == row.understood);
  }
}

TEST_CASE("a request without a tag is the same behind its first word") {
  for (const Row& row : std::initializer_list<Row>{
           {"NOOP\r\n", "[] NOOP\n"},
           {"  UID x\r\n", "[] UID x\n"},
           {"AUTHENTICATE \"PLAIN\" {4+}\r\nAGE=\r\n", "[] AUTHENTICATE \"PLAIN\" {AGE=}\n"},
           {"NO{OP\r\nNOOP\r\n", "[] error: Invalid character '{' in command name.\n[] NOOP\n"},
           {"(\r\n", "[] error: Invalid character '(' in command name.\n"},
       }) {
    CAPTURE(row.sent);
    CHECK(parse(false, row.sent) == row.understood);
  }
}

TEST_CASE("what cannot be understood is answered once, and with the tag if there was one") {
  const std::string tag128(128, 't');
  const std::string long_tag = tag128 + "t NOOP\r\n";
  const std::string fits = tag128 + " ABCDEFGHIJKLMNO\r\n", fits_read = "[" + tag128 + "] ABCDEFGHIJKLMNO\n";
  for (const Row& row : std::initializer_list<Row>{
           {fits, fits_read},
           {"lonely\r\n", "[lonely] error: Missing command after tag \"lonely\", found CRLF instead.\n"},
           {"a  \n", "[a] error: Missing command after tag \"a\", found CRLF instead.\n"},
           {"a UID\r\n", "[a] error: Missing command after tag \"a\", found CRLF instead.\n"},
           {long_tag, "[] error: Tag exceeds maximum length of 128 characters.\n"},
           {"+x\r\n", "[] error: Tag is not a valid UTF-8 string.\n"},
           {"x\xff NOOP\r\n", "[] error: Tag is not a valid UTF-8 string.\n"},
           {"x\ry NOOP\r\n", "[] error: Tag is not a valid UTF-8 string.\n"},
           {"a ABCDEFGHIJKLMNOP\r\n", "[a] error: Command exceeds maximum length of 15 characters.\n"},
           {"a NO!OP x y z\r\n", "[a] error: Invalid character '!' in command name.\n"},
           {"a NO\r \r\n", "[a] error: Invalid character '0x0d' in command name.\n"},
           {"a B\\\r\n", "[a] error: Invalid character '0x5c' in command name.\n"},
           {{"a X y\0z\r\n", 9}, "[a] error: Invalid character '0x00' in argument.\n"},
           {{"a X \"y\0z\"\r\n", 11}, "[a] error: Invalid character '0x00' in argument.\n"},
           {"a X y\rz\r\n", "[a] error: Invalid character '0x0d' in argument.\n"},
           {"a X \"y\rz\"\r\n", "[a] error: Invalid character '0x0d' in argument.\n"},
           {"a X \"open\r\n", "[a] error: Unterminated quoted argument.\n"},
           {"a X \"open\\\r\n", "[a] error: Unterminated quoted argument.\n"},
           {"a X {}\r\n", "[a] error: Invalid empty literal.\n"},
           {"a X {+}\r\n", "[a] error: Invalid non-sync literal.\n"},
           {"a X {1+2}\r\n", "[a] error: Invalid literal.\n"},
           {"a X {abc}\r\n", "[a] error: Invalid character 'a' in literal.\n"},
           {"a X {5\r\n", "[a] error: Invalid character '0x0a' in literal.\n"},
           {"a X {1234567890123456}\r\n", "[a] error: Literal size exceeds maximum of 15 digits.\n"},
           {"a X {123456789012345}\r\n", "[a] error: Literal size is not a valid number.\n"},
           {"a X {200000}\r\n", "[a] error: Literal exceeds the maximum request size of 65536 bytes.\n"},
           {"a X {30} junk\r\n", "[a] error: Expected CRLF after literal, found an invalid char.\n"},
           {"a X {30}\rjunk\r\n", "[a] error: Expected CRLF after literal, found an invalid char.\n"},
       }) {
    CAPTURE(row.sent);
    CHECK(parse(true, row.sent) == row.understood);
    // Nothing of the line is taken for the next one.
    const std::string then = std::string(row.sent) + "z NOOP\r\n";
    CHECK(parse(true, then) == std::string(row.understood) + "[z] NOOP\n");
  }
}

TEST_CASE("sizes: the largest request passes, one byte more does not") {
  const std::string full(65536, 'x'), over(65537, 'x');
  const auto complaint = [](std::string_view text) { return fmt::format("[a] error: {}\n[b] NOOP\n", text); };
  const std::string next = "\r\nb NOOP\r\n";
  CHECK(parse(true, "a X " + full + "\r\n") == "[a] X " + full + "\n");
  CHECK(parse(true, "a X \"" + full + "\"\r\n") == "[a] X \"" + full + "\"\n");
  CHECK(parse(true, "a X {65536+}\r\n" + full + "\r\n") == "[a] X {" + full + "}\n");
  CHECK(parse(true, "a X " + over + next) == complaint("Argument exceeds maximum length of 65536 bytes."));
  CHECK(parse(true, "a X \"" + over + "\"" + next) == complaint("Quoted argument too long."));
  CHECK(parse(true, "a X {65537+}\r\n" + over + next) ==
        complaint("Literal exceeds the maximum request size of 65536 bytes."));
  CHECK(parse(true, "a X y " + full + next) == complaint("Request exceeds maximum limit of 65536 bytes."));
  CHECK(parse(true, "a X y {65536}" + next) ==
        complaint("Literal exceeds the maximum request size of 65536 bytes."));
  CHECK(parse(true, "a X " + std::string(65537, '(') + next) ==
        complaint("Request exceeds maximum limit of 65536 bytes."));
}

TEST_CASE("a refused literal that comes unasked is skipped, and the rest of its request with it") {
  const std::string mebibyte(1024 * 1024, '\n');
  const std::string refused = "[a] error: Literal exceeds the maximum request size of 65536 bytes.\n";
  const auto all_at_once = [](const std::string& text) { return parse(true, text, 0, text.size()); };
  CHECK(parse(true, "a X {70000+}\r\n" + std::string(70000, '\n') +
                        " y {6+}\r\nb NO\r\n{0+}\r\n\r\nc NOOP\r\n") == refused + "[c] NOOP\n");
  CHECK(all_at_once("a X {1048576+}\r\n" + mebibyte + "\r\nc NOOP\r\n") == refused + "[c] NOOP\n");
  CHECK(all_at_once("a X {1048576+}\r\n" + mebibyte + " {1+}\r\nc NOOP\r\n") == refused + "lost\n");
  CHECK(parse(true, "a X {1048577+}\r\nc NOOP\r\n") == refused + "lost\n");
  CHECK(parse(true, "a X {1048577+} \r\nc NOOP\r\n") == refused + "[c] NOOP\n");
  CHECK(parse(true, "a X {9999999999+}\r\nc NOOP\r\n") ==
        "[a] error: Literal size is not a valid number.\nlost\n");
  CHECK(parse(true, "a X {99999999999999999999+}\r\nc NOOP\r\n") ==
        "[a] error: Literal size exceeds maximum of 15 digits.\nlost\n");
  CHECK(parse(true, "a N! {9+}\r\nb NOOP\r\n\r\nc NOOP\r\n") ==
        "[a] error: Invalid character '!' in command name.\n[c] NOOP\n");
}

TEST_CASE("of many arguments the first are kept") {
  std::string sent = "a ID ", understood = "[a] ID";
  for (size_t i = 0; i < 1000; ++i) {
    sent += i % 2 == 0 ? "(" : "x{3 ";
    if (i < TaggedRequestParser::most_arguments) understood += i % 2 == 0 ? " (" : " x{3";
  }
  CHECK(parse(true, sent + "{2+}\r\nhi\r\n") == understood + "\n");
}

TEST_CASE("an answer to a challenge is one line of arguments alone") {
  for (const Row& row : std::initializer_list<Row>{
           {"AGE=\r\n", "[]  AGE=\n"},
           {"\"AGE=\"\r\n", "[]  \"AGE=\"\n"},
           {"{4+}\r\nAGE=\r\n", "[]  {AGE=}\n"},
           {"\r\n", "[] \n"},
           {"*\n", "[]  *\n"},
       }) {
    TaggedRequestParser parser(false);
    Input in;
    in.append("X\r\n");
    REQUIRE(parser.next(in) == Event::request);
    parser.expect_answer();
    in.append(row.sent);
    in.append("NOOP\r\n");
    REQUIRE(parser.next(in) == Event::request);
    CHECK(written(parser) == row.understood);
    REQUIRE(parser.next(in) == Event::request);
    CHECK(written(parser) == "[] NOOP\n");
  }
}

TEST_CASE("what is forgotten stays forgotten") {
  TaggedRequestParser parser(true);
  Input in;
  in.append("a LOGIN {50}\r\nsecret");
  REQUIRE(parser.next(in) == Event::go_ahead);
  REQUIRE(parser.next(in) == Event::more);
  parser.reset();
  in.append("b NOOP\r\n");
  REQUIRE(parser.next(in) == Event::request);
  CHECK(written(parser) == "[b] NOOP\n");
}
