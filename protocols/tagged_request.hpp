// SPDX-License-Identifier: GPL-3.0-or-later
// The grammar of requests that IMAP and ManageSieve share: `[tag SP] command [SP arguments]`, with literals
// (protocols.md 2.2, limits 1.3). Input is consumed as it comes, so a literal never stands there whole; what
// arguments held is wiped; memory is bounded whatever comes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "protocols/input.hpp"

namespace postern::protocols {

/// ASTRING characters except `+`, and not too many: fit to be repeated to either side.
bool is_tag(std::string_view text);

class TaggedRequestParser {
 public:
  static constexpr size_t longest_request = 65536;  // all arguments together; and each of them
  static constexpr size_t longest_tag = 128;
  static constexpr size_t longest_command = 15;
  static constexpr size_t most_digits = 15;            // of a literal's length
  static constexpr size_t most_arguments = 128;        // kept; more are counted and dropped
  static constexpr size_t most_skipped = 1024 * 1024;  // of refused literals that come unasked

  enum class Event : uint8_t {
    more,      // nothing whole yet; all input is consumed
    request,   // tag(), command(), argument(): until the next call
    go_ahead,  // a client waits for leave to send literal_size() bytes; then call again
    error,     // error(), and tag() if a valid one was read; what is left of the line skips itself
    lost,      // after an error: too much is on its way to be skipped. Close
  };

  enum class Kind : uint8_t { atom, quoted, literal, open, close };  // the last two are parentheses
  struct Argument {
    Kind kind = Kind::atom;
    std::string_view value;
    [[nodiscard]] bool is_string() const { return kind < Kind::open; }
  };

  /// `tagged`: IMAP; without: ManageSieve.
  explicit TaggedRequestParser(bool tagged) : tagged_(tagged) {}

  Event next(Input& in);
  /// Only between requests: what comes next is one line of arguments alone, the answer to a challenge. An
  /// empty line is a request without arguments then.
  void expect_answer();
  /// Forgets everything, also what was to be skipped.
  void reset();

  [[nodiscard]] std::string_view tag() const { return tag_; }
  [[nodiscard]] std::string_view command() const { return command_; }  // as sent, UID in front left out
  /// Those kept: most_arguments at most.
  [[nodiscard]] size_t argument_count() const { return pieces_.size(); }
  [[nodiscard]] Argument argument(size_t index) const;
  [[nodiscard]] std::string_view error() const { return error_; }
  [[nodiscard]] size_t literal_size() const { return literal_left_; }
  [[nodiscard]] size_t held() const { return bytes_.capacity() + pieces_.capacity() * sizeof(Piece); }

 private:
  enum class State : uint8_t {
    start,  // white space before a tag or command
    tag,
    before_command,
    command,
    gap,    // between arguments
    tilde,  // an atom, or in front of a literal
    atom,
    quoted,
    escaped,
    literal_length,
    literal_plus,
    literal_end,  // CR LF behind the brace
    literal_data,
    skip_line,
    skip_data,
    lost,
  };
  struct Piece {
    Kind kind;
    uint32_t begin, size;
  };
  /// What the end of a skipped line looks like: `{`, digits, `+`, `}` announce data to be skipped as well.
  enum class Tail : uint8_t { none, open, digits, plus, closed };
  /// How many bytes of the text are done with. Where an event comes with 0, the next state looks at them
  /// again.
  struct Outcome {
    Event event = Event::more;
    size_t used = 0;
  };

  void forget();
  Outcome step(std::string_view text);
  Outcome head(std::string_view text);
  Outcome between(std::string_view text);
  Outcome atom(std::string_view text);
  Outcome quoted(std::string_view text);
  Outcome length(char c);
  Outcome announced(bool unasked);
  Outcome data(std::string_view text);
  Outcome skip_line(std::string_view text);
  Outcome bare_cr();
  Outcome bad(char c, std::string_view place);
  Outcome fail(std::string_view text);
  void keep(std::string_view bytes);
  Outcome finish(Kind kind, size_t used);

  const bool tagged_;
  bool finished_ = false;  // what was reported is forgotten by the next call
  bool cr_ = false;        // the byte before was a CR, which only a LF may follow
  State state_ = State::start;
  Tail tail_ = Tail::none;
  bool unasked_ = false;  // the literal waits for no leave
  uint64_t number_ = 0;   // of a literal
  size_t digits_ = 0;
  size_t literal_left_ = 0;
  size_t skipped_ = 0;
  size_t total_ = 0;    // bytes of all arguments that are complete
  size_t current_ = 0;  // of the one that is not
  std::string tag_, command_, error_;
  Input bytes_;  // of the arguments kept
  std::vector<Piece> pieces_;
};

}  // namespace postern::protocols
