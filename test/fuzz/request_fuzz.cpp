// SPDX-License-Identifier: GPL-3.0-or-later
// The request grammar under any bytes: the same requests however they arrive, all input consumed, nothing
// beyond the limits, no complaint that could break a line, and what was read reads the same when sent as
// literals. Input: settings, the place of a cut, then what is sent.
#include "protocols/tagged_request.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <string>

#include "protocols/text.hpp"
#include "test/fuzz/require.hpp"

using namespace postern::protocols;
using postern::fuzz::require;
using Event = TaggedRequestParser::Event;

namespace {

bool one_line(std::string_view text) { return std::ranges::none_of(text, is_control); }

std::string written(const TaggedRequestParser& parser) {
  std::string line = fmt::format("{} {}", parser.tag(), parser.command());
  for (size_t i = 0; i < parser.argument_count(); ++i) {
    const auto argument = parser.argument(i);
    if (argument.is_string())
      line += fmt::format(" {{{}+}}\r\n{}", argument.value.size(), argument.value);
    else
      line += argument.kind == TaggedRequestParser::Kind::open ? " (" : " )";
  }
  return line + "\r\n";
}

void check_request(const TaggedRequestParser& parser, bool tagged) {
  require(tagged ? is_tag(parser.tag()) : parser.tag().empty(), "no tag, or one too many");
  require(parser.command().size() <= TaggedRequestParser::longest_command, "a long command");
  require(parser.argument_count() <= TaggedRequestParser::most_arguments, "more arguments than are kept");
  size_t total = 0;
  for (size_t i = 0; i < parser.argument_count(); ++i) total += parser.argument(i).value.size();
  require(total <= TaggedRequestParser::longest_request, "a long request");
}

/// What was read, written with literals alone, is the same request.
void check_again(const TaggedRequestParser& parser, bool tagged) {
  if (parser.command().empty()) return;  // the answer to a challenge
  const std::string line = written(parser);
  TaggedRequestParser again(tagged);
  Input in;
  in.append(line);
  // A command UID would be taken for a prefix, but it is never read as one either.
  require(again.next(in) == Event::request, "written, but not readable");
  require(written(again) == line, "written, but read as something else");
}

std::string run(uint8_t settings, std::string_view text, size_t first, size_t each) {
  const bool tagged = (settings & 1) != 0, answers = (settings & 2) != 0;
  TaggedRequestParser parser(tagged);
  Input in;
  std::string log;
  for (size_t at = 0; at < text.size();) {
    const size_t size = std::min(at == 0 && first != 0 ? first : each, text.size() - at);
    in.append(text.substr(at, size));
    at += size;
    for (Event event; (event = parser.next(in)) != Event::more;) {
      if (event == Event::lost) return log + "lost";
      if (event == Event::request) {
        if (!parser.command().empty()) check_request(parser, tagged);
        check_again(parser, tagged);
        log += written(parser);
        if (answers && same_word(parser.command(), "X")) parser.expect_answer();
      } else if (event == Event::go_ahead) {
        require(parser.literal_size() <= TaggedRequestParser::longest_request, "leave to send too much");
        log += fmt::format("go ahead {}\n", parser.literal_size());
      } else {
        require(parser.tag().empty() || is_tag(parser.tag()), "a complaint with half a tag");
        require(!parser.error().empty() && one_line(parser.error()), "no complaint, or a broken one");
        require(parser.argument_count() == 0 && parser.command().empty(), "half a request");
        log += fmt::format("{} error {}\n", parser.tag(), parser.error());
      }
    }
    require(in.empty(), "input left");
  }
  return log;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 3) return 0;
  const std::string_view text = postern::fuzz::text_of(data + 2, size - 2);
  const std::string whole = run(data[0], text, 0, text.size());
  require(whole == run(data[0], text, 1, 1), "other requests byte by byte");
  require(whole == run(data[0], text, data[1], text.size()), "other requests for a cut");
  require(whole == run(data[0], text, data[1], 3), "other requests in pieces");
  return 0;
}
