// SPDX-License-Identifier: GPL-3.0-or-later
// Lines come out of the input as they went in, whatever the pieces, and in time that grows with their size.
#include "protocols/input.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <string>
#include <vector>

using namespace postern::protocols;

namespace {

/// All lines of `text` given in pieces of `piece` bytes, then what is left.
std::vector<std::string> lines_of(std::string_view text, size_t piece, size_t longest = 8) {
  Input in;
  std::vector<std::string> lines;
  while (!text.empty()) {
    in.append(text.substr(0, piece));
    text.remove_prefix(std::min(piece, text.size()));
    while (const auto line = in.line(longest)) lines.emplace_back(*line);
    if (in.overlong()) return lines.emplace_back("<overlong>"), lines;
  }
  lines.emplace_back("<left " + std::string(in.view()) + ">");
  return lines;
}

}  // namespace

TEST_CASE("a line ends with LF or CR LF and may be so long") {
  struct Row {
    std::string_view text;
    std::vector<std::string> lines;
  };
  const Row rows[] = {
      {"a\r\nb\nc", {"a", "b", "<left c>"}},
      {"\r\n\n\r\n", {"", "", "", "<left >"}},
      {"a\rb\r\r\n", {"a\rb\r", "<left >"}},
      {"12345678\r\n12345678\n", {"12345678", "12345678", "<left >"}},
      {"12345678\r", {"<left 12345678\r>"}},
      {"a\n123456789\r\n", {"a", "<overlong>"}},
      {"123456789\n", {"<overlong>"}},
      {"1234567890", {"<overlong>"}},
      {std::string_view("a\0b\n", 4), {std::string("a\0b", 3), "<left >"}},
  };
  for (const Row& row : rows)
    for (size_t piece = 1; piece <= row.text.size(); ++piece) {
      CAPTURE(row.text);
      CAPTURE(piece);
      CHECK(lines_of(row.text, piece) == row.lines);
    }
}

TEST_CASE("input is consumed byte by byte or by lines, and moves with what it holds") {
  Input in;
  CHECK(in.empty());
  CHECK_FALSE(in.line(10));
  in.append("abc\r\ndef\r\nghi");
  in.consume(1);
  CHECK(in.line(10) == "bc");
  CHECK(in.size() == 8);
  in.consume(4);
  CHECK(in.view() == "\nghi");
  Input other(std::move(in));
  CHECK(other.line(10) == "");
  CHECK_FALSE(other.line(10));
  in = std::move(other);
  in.append("\n");
  CHECK(in.line(10) == "ghi");
  in.append("x");
  in.consume(100);
  CHECK(in.empty());
  in.append(std::string(Input::limit, 'x'));
  CHECK(in.full());
  in.clear();
  CHECK(in.empty());
  CHECK_FALSE(in.full());
  in.append("y\n");
  CHECK(in.line(10) == "y");
}

TEST_CASE("lines and single bytes cost the same however many there are") {
  // Quadratic work would need minutes here.
  const auto start = std::chrono::steady_clock::now();
  Input in;
  const std::string empty_lines(1 << 20, '\n');
  in.append(empty_lines);
  size_t lines = 0;
  while (in.line(10)) ++lines;
  CHECK(lines == empty_lines.size());
  for (size_t i = 0; i < 2'000'000; ++i) {
    in.append("x");
    if (in.line(8'000'000)) FAIL("a line of nothing");
  }
  CHECK(in.size() == 2'000'000);
  // A window that slides: something always stays behind.
  Input window;
  window.append(std::string(1000, 'x'));
  for (size_t i = 0; i < 2'000'000; ++i) {
    window.append("y");
    window.consume(1);
  }
  CHECK(window.view() == std::string(1000, 'y'));
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(20));
}
