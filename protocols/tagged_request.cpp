// SPDX-License-Identifier: GPL-3.0-or-later
// One function a place in the grammar. Each looks at what is there, takes what it understands and says how
// much that was; nothing looks back.
#include "protocols/tagged_request.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <limits>

#include "protocols/text.hpp"

namespace postern::protocols {
namespace {

constexpr bool is_blank(char c) { return c == ' ' || c == '\t'; }
constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }
constexpr bool is_alnum(char c) { return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
/// ASTRING-CHAR of RFC 9051 except `+`.
constexpr bool is_tag_char(char c) {
  return c > ' ' && c <= '~' && std::string_view("(){%*\"\\+").find(c) == std::string_view::npos;
}

/// As a complaint may repeat it: nothing that could end a line or a quoted string.
std::string shown(char c) {
  return is_control(c) || c > '~' || c < 0 || c == '\\' ? fmt::format("0x{:02x}", static_cast<uint8_t>(c))
                                                        : std::string(1, c);
}

}  // namespace

bool is_tag(std::string_view text) {
  return !text.empty() && text.size() <= TaggedRequestParser::longest_tag &&
         std::ranges::all_of(text, is_tag_char);
}

TaggedRequestParser::Argument TaggedRequestParser::argument(size_t index) const {
  const Piece& piece = pieces_[index];
  return {piece.kind, bytes_.view().substr(piece.begin, piece.size)};
}

void TaggedRequestParser::forget() {
  finished_ = false;
  tag_.clear();
  command_.clear();
  error_.clear();
  bytes_.clear();
  pieces_.clear();
  total_ = current_ = 0;
}

void TaggedRequestParser::reset() {
  forget();
  state_ = State::start;
  tail_ = Tail::none;
  cr_ = false;
}

void TaggedRequestParser::expect_answer() {
  reset();
  state_ = State::gap;
}

TaggedRequestParser::Event TaggedRequestParser::next(Input& in) {
  if (state_ == State::lost) return Event::lost;
  if (finished_) forget();
  const std::string_view text = in.view();
  size_t used = 0;
  Outcome outcome;
  while (used < text.size() && outcome.event == Event::more) {
    outcome = step(text.substr(used));
    used += outcome.used;
  }
  in.consume(used);
  return outcome.event;
}

TaggedRequestParser::Outcome TaggedRequestParser::step(std::string_view text) {
  const char c = text.front();
  switch (state_) {
    case State::literal_data:
      return data(text);
    case State::skip_data: {
      const size_t count = std::min(literal_left_, text.size());
      literal_left_ -= count;
      if (literal_left_ == 0) state_ = State::skip_line;
      return {Event::more, count};
    }
    case State::skip_line:
      return skip_line(text);
    case State::lost:
      return {Event::lost, 0};
    case State::start:
      if (is_blank(c) || c == '\r' || c == '\n') return {Event::more, 1};
      skipped_ = 0;
      state_ = tagged_ ? State::tag : State::command;
      return {};
    default:
      break;
  }
  // Everywhere else a CR belongs to the end of the line, or it is wrong.
  if (cr_ && c != '\n') return bare_cr();
  cr_ = c == '\r';
  if (cr_) return {Event::more, 1};
  switch (state_) {
    case State::gap:
    case State::tilde:
      return between(text);
    case State::atom:
      return atom(text);
    case State::quoted:
    case State::escaped:
      return quoted(text);
    case State::literal_length:
    case State::literal_plus:
    case State::literal_end:
      return length(c);
    default:
      return head(text);
  }
}

/// Tag and command, byte by byte: they are short.
TaggedRequestParser::Outcome TaggedRequestParser::head(std::string_view text) {
  const char c = text.front();
  if (state_ == State::tag) {
    if (is_blank(c) || c == '\n') {
      state_ = State::before_command;
      return {};
    }
    if (!is_tag_char(c)) {
      tag_.clear();
      return fail("Tag is not a valid UTF-8 string.");
    }
    if (tag_.size() == longest_tag) {
      tag_.clear();
      return fail("Tag exceeds maximum length of 128 characters.");
    }
    tag_ += c;
    return {Event::more, 1};
  }
  if (state_ == State::before_command) {
    if (is_blank(c)) return {Event::more, 1};
    if (c == '\n') return fail(fmt::format("Missing command after tag \"{}\", found CRLF instead.", tag_));
    state_ = State::command;
    return {};
  }
  if (is_alnum(c)) {
    if (command_.size() == longest_command) return fail("Command exceeds maximum length of 15 characters.");
    command_ += c;
    return {Event::more, 1};
  }
  if (command_.empty() || !(is_blank(c) || c == '\n')) return bad(c, "command name");
  state_ = State::gap;
  if (tagged_ && same_word(command_, "UID")) {
    command_.clear();
    state_ = State::before_command;
  }
  return {};
}

TaggedRequestParser::Outcome TaggedRequestParser::between(std::string_view text) {
  const char c = text.front();
  if (state_ == State::tilde && c != '{') {
    keep("~");
    state_ = State::atom;
    return {};
  }
  switch (c) {
    case ' ':
    case '\t':
      return {Event::more, 1};
    case '\n':
      state_ = State::start;
      finished_ = true;
      return {Event::request, 1};
    case '(':
      return finish(Kind::open, 1);
    case ')':
      return finish(Kind::close, 1);
    case '"':
      state_ = State::quoted;
      return {Event::more, 1};
    case '~':
      state_ = State::tilde;
      return {Event::more, 1};
    case '{':
      state_ = State::literal_length;
      number_ = digits_ = 0;
      return {Event::more, 1};
    default:
      state_ = State::atom;
      return {};
  }
}

TaggedRequestParser::Outcome TaggedRequestParser::atom(std::string_view text) {
  const auto* const end =
      std::ranges::find_if(text, [](char c) { return is_blank(c) || is_control(c) || c == '(' || c == ')'; });
  const auto count = static_cast<size_t>(end - text.begin());
  if (current_ + count > longest_request) return fail("Argument exceeds maximum length of 65536 bytes.");
  keep(text.substr(0, count));
  if (end == text.end() || *end == '\r') return {Event::more, count};
  if (is_control(*end) && !is_blank(*end) && *end != '\n') return bad(*end, "argument");
  return finish(Kind::atom, count);
}

TaggedRequestParser::Outcome TaggedRequestParser::quoted(std::string_view text) {
  const char c = text.front();
  if (c == '\n') return fail("Unterminated quoted argument.");
  if (c == '\0') return bad(c, "argument");
  size_t count = 1;
  if (state_ == State::escaped) {
    // Before anything but a quote or itself a backslash stands for itself.
    state_ = State::quoted;
    if (c != '"' && c != '\\') keep("\\");
  } else {
    if (c == '\\') {
      state_ = State::escaped;
      return {Event::more, 1};
    }
    if (c == '"') return finish(Kind::quoted, 1);
    count = std::min(text.find_first_of(std::string_view("\"\\\r\n\0", 5)), text.size());
  }
  if (current_ + count > longest_request) return fail("Quoted argument too long.");
  keep(text.substr(0, count));
  return {Event::more, count};
}

/// `{n}` and `{n+}` behind the opening brace, CR LF included.
TaggedRequestParser::Outcome TaggedRequestParser::length(char c) {
  if (state_ == State::literal_end) {
    if (c != '\n') return fail("Expected CRLF after literal, found an invalid char.");
    literal_left_ = static_cast<size_t>(number_);
    state_ = State::literal_data;
    return {unasked_ ? Event::more : Event::go_ahead, 1};
  }
  const bool plus = state_ == State::literal_plus;
  if (c == '}') return digits_ == 0 ? fail("Invalid empty literal.") : announced(plus);
  if (is_digit(c) && !plus) {
    if (digits_++ == most_digits) {
      tail_ = Tail::digits;
      return fail("Literal size exceeds maximum of 15 digits.");
    }
    number_ = number_ * 10 + static_cast<uint64_t>(c - '0');
    return {Event::more, 1};
  }
  if (is_digit(c) || (c == '+' && plus)) return fail("Invalid literal.");
  if (c != '+') return bad(c, "literal");
  if (digits_ == 0) return fail("Invalid non-sync literal.");
  state_ = State::literal_plus;
  return {Event::more, 1};
}

/// The brace is closed: is there room for what it announces?
TaggedRequestParser::Outcome TaggedRequestParser::announced(bool unasked) {
  const bool number = number_ <= std::numeric_limits<uint32_t>::max();
  if (number && total_ + number_ <= longest_request) {
    unasked_ = unasked;
    state_ = State::literal_end;
    return {Event::more, 1};
  }
  Outcome outcome = fail(number ? "Literal exceeds the maximum request size of 65536 bytes."
                                : "Literal size is not a valid number.");
  if (unasked) {
    tail_ = Tail::closed;
    outcome.used = 1;
  }
  return outcome;
}

TaggedRequestParser::Outcome TaggedRequestParser::data(std::string_view text) {
  const size_t count = std::min(literal_left_, text.size());
  keep(text.substr(0, count));
  literal_left_ -= count;
  return literal_left_ == 0 ? finish(Kind::literal, count) : Outcome{Event::more, count};
}

/// To the LF; and what a literal at the end of the line announces is no command either.
TaggedRequestParser::Outcome TaggedRequestParser::skip_line(std::string_view text) {
  size_t used = 0;
  while (used < text.size()) {
    const char c = text[used++];
    if (c == '\r') continue;
    if (c == '\n') {
      const bool announced = tail_ == Tail::closed;
      tail_ = Tail::none;
      if (!announced) {
        state_ = State::start;
        return {Event::more, used};
      }
      if (number_ > most_skipped - skipped_) {
        state_ = State::lost;
        return {Event::lost, used};
      }
      literal_left_ = static_cast<size_t>(number_);
      skipped_ += literal_left_;
      if (literal_left_ != 0) state_ = State::skip_data;
      return {Event::more, used};
    }
    if (c == '{') {
      tail_ = Tail::open;
      number_ = 0;
    } else if (is_digit(c) && (tail_ == Tail::open || tail_ == Tail::digits)) {
      tail_ = Tail::digits;
      // Too much is too much, however much it is.
      number_ = std::min<uint64_t>(number_ * 10 + static_cast<uint64_t>(c - '0'), most_skipped + 1);
    } else if (c == '+' && tail_ == Tail::digits) {
      tail_ = Tail::plus;
    } else {
      tail_ = c == '}' && tail_ == Tail::plus ? Tail::closed : Tail::none;
    }
  }
  return {Event::more, used};
}

TaggedRequestParser::Outcome TaggedRequestParser::bare_cr() {
  switch (state_) {
    case State::tag:
      tag_.clear();
      return fail("Tag is not a valid UTF-8 string.");
    case State::before_command:
    case State::command:
      return bad('\r', "command name");
    case State::literal_length:
    case State::literal_plus:
      return bad('\r', "literal");
    case State::literal_end:
      return fail("Expected CRLF after literal, found an invalid char.");
    default:
      return bad('\r', "argument");
  }
}

TaggedRequestParser::Outcome TaggedRequestParser::bad(char c, std::string_view place) {
  return fail(fmt::format("Invalid character '{}' in {}.", shown(c), place));
}

/// The offending byte stays: it may end the line that is now skipped.
TaggedRequestParser::Outcome TaggedRequestParser::fail(std::string_view text) {
  const std::string tag = tag_;
  forget();
  tag_ = tag;
  error_ = text;
  finished_ = true;
  cr_ = false;
  state_ = State::skip_line;
  return {Event::error, 0};
}

void TaggedRequestParser::keep(std::string_view bytes) {
  if (pieces_.size() < most_arguments) bytes_.append(bytes);
  current_ += bytes.size();
}

/// An argument is whole. Parentheses and empty strings weigh a byte, so that no request is endless.
TaggedRequestParser::Outcome TaggedRequestParser::finish(Kind kind, size_t used) {
  total_ += std::max<size_t>(current_, 1);
  if (total_ > longest_request) return fail("Request exceeds maximum limit of 65536 bytes.");
  if (pieces_.size() < most_arguments)
    pieces_.push_back(
        {kind, static_cast<uint32_t>(bytes_.size() - current_), static_cast<uint32_t>(current_)});
  current_ = 0;
  state_ = State::gap;
  return {Event::more, used};
}

}  // namespace postern::protocols
