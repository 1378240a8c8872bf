// SPDX-License-Identifier: GPL-3.0-or-later
// XCLIENT and ID with anything a client may have said: one line, decodable to what went in, nothing beside
// it. Input: lines; the first is a HELO name, the second an announcement, then ID fields and values in turn.
#include "protocols/forwarding.hpp"

#include <algorithm>
#include <vector>

#include "protocols/text.hpp"
#include "test/fuzz/require.hpp"

using namespace postern;
using namespace postern::protocols;
using fuzz::require;

namespace {

std::string_view take(std::string_view& text, char separator) {
  const size_t end = std::min(text.find(separator), text.size());
  const std::string_view part = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return part;
}

std::string from_xtext(std::string_view text) {
  std::string out;
  const auto digit = [](char c) {
    require((c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'), "no upper-case hex");
    return c <= '9' ? c - '0' : c - 'A' + 10;
  };
  for (size_t i = 0; i < text.size(); ++i) {
    require(text[i] > ' ' && text[i] <= '~' && text[i] != '=', "a byte out of place");
    if (text[i] != '+') {
      out += text[i];
      continue;
    }
    require(i + 2 < text.size(), "half an escape");
    out += static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2]));
    i += 2;
  }
  return out;
}

/// The line without CR LF, which it has at its end and nowhere else.
std::string_view one_line(std::string_view line) {
  require(line.ends_with("\r\n"), "no end");
  line.remove_suffix(2);
  require(std::ranges::none_of(line, is_control), "a control inside");
  return line;
}

void xclient(const ClientFacts& facts, std::string_view helo, std::string_view announced) {
  const std::string written = xclient_filtered(facts, helo, announced);
  if (written.empty()) return;
  require(written.size() < 512, "too long");
  std::string_view line = one_line(written);
  require(take(line, ' ') == "XCLIENT" && !line.empty(), "no XCLIENT");
  constexpr std::string_view names[] = {
      "ADDR", "PORT", "DESTADDR", "DESTPORT", "SESSION", "TTL", "CLIENT-TRANSPORT", "HELO", "PROTO"};
  size_t next = 0;
  while (!line.empty()) {
    std::string_view value = take(line, ' ');
    const std::string_view name = take(value, '=');
    while (next < std::size(names) && names[next] != name) ++next;
    require(next++ < std::size(names), "a name twice, unknown or out of order");
    bool asked = false;
    for (std::string_view rest = announced; !rest.empty();) asked |= same_word(take(rest, ' '), name);
    require(asked, "not announced");
    const std::string meant = from_xtext(value);
    if (name == "HELO") require(meant == helo, "another name");
    if (name == "TTL") require(meant == "6", "another TTL");
  }
}

/// `"text"` with its escapes; what follows stays in `line`.
std::string quoted(std::string_view& line) {
  require(line.starts_with('"'), "no quote");
  std::string out;
  size_t i = 1;
  for (; i < line.size() && line[i] != '"'; ++i) {
    if (line[i] == '\\') ++i;
    require(i < line.size(), "half an escape");
    out += line[i];
  }
  require(i < line.size(), "no end of quote");
  line.remove_prefix(i + 1);
  return out;
}

void id(const ClientFacts* facts, const std::vector<std::pair<std::string, std::string>>& own) {
  const std::string written = imap_id(facts, own);
  if (written.empty()) return require(!facts, "nothing to say");
  std::string_view line = one_line(written);
  constexpr std::string_view head = "F1 ID (";
  require(line.starts_with(head) && line.ends_with(')'), "no ID");
  line = line.substr(head.size(), line.size() - head.size() - 1);
  size_t count = 0, from = 0;
  while (!line.empty()) {
    if (count != 0) require(take(line, ' ').empty(), "no space");
    const std::string field = quoted(line);
    require(take(line, ' ').empty(), "no space");
    const std::string value = quoted(line);
    if (++count <= 7 && facts) {
      require(field.starts_with("x-"), "not ours");
      continue;
    }
    require(!starts_with_word(field, "x-"), "not the client's to say");
    while (from < own.size() && own[from] != std::pair(field, value)) ++from;
    require(from++ < own.size(), "nobody said this");
  }
  require(count <= 30, "too many");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text = fuzz::text_of(data, size);
  const ClientFacts facts{*conf::SocketAddress::parse("[2001:db8::5]:40000"),
                          *conf::SocketAddress::parse("192.0.2.10:587"), 7, "P12ab", true};
  const std::string_view helo = take(text, '\n'), announced = take(text, '\n');
  xclient(facts, helo, announced);
  xclient(facts, helo, "ADDR PORT DESTADDR DESTPORT SESSION TTL CLIENT-TRANSPORT HELO PROTO");
  std::vector<std::pair<std::string, std::string>> own;
  while (!text.empty()) {
    const std::string field(take(text, '\n'));
    own.emplace_back(field, take(text, '\n'));
  }
  id(&facts, own);
  id(nullptr, own);
  return 0;
}
