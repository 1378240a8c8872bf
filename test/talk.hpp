// SPDX-License-Identifier: GPL-3.0-or-later
// Whole conversations with a dialogue or a replay, written down as text: the same bytes must give the same
// text however they arrive. For unit tests and fuzz targets alike.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "protocols/base64.hpp"
#include "protocols/dialogue.hpp"
#include "protocols/replay.hpp"
#include "protocols/sasl.hpp"

namespace postern::test {

/// Where a stage is cut: its length of pieces, after a first one of its own. {0, 0}: not at all.
struct Pieces {
  size_t first = 0, each = 0;
  [[nodiscard]] size_t next(size_t from, size_t size) const {
    const size_t step = from == 0 && first != 0 ? first : each != 0 ? each : size;
    return std::min(size, from + step);
  }
};
constexpr Pieces at_once{}, byte_by_byte{1, 1};

/// What one side says until TLS starts. What a client says behind that is lost, and a backend's fault.
using Stages = std::vector<std::string>;

/// What becomes of each login a dialogue hands over. Beyond the last: the conversation ends there.
struct Answer {
  std::string_view said;  // empty: no backend could be asked
  bool hide = false;
};

inline std::string_view text(protocols::Parting parting) {
  constexpr std::array<std::string_view, 6> names = {"none",   "quit",        "failures",
                                                     "errors", "line length", "commands"};
  return names[static_cast<size_t>(parting)];
}
inline std::string_view text(protocols::ReplayFault fault) {
  constexpr std::array<std::string_view, 6> names = {"none",       "greeting",  "starttls",
                                                     "forwarding", "plaintext", "protocol"};
  return names[static_cast<size_t>(fault)];
}

/// `<route METHOD MECHANISM user message>`, the message in base64.
inline std::string text(const protocols::Login& login) {
  std::string line = "<route ";
  line += login.method;
  line += ' ';
  line += protocols::row(login.mechanism).name;
  line += ' ' + login.user + ' ' + protocols::base64(login.message.reveal());
  if (login.utf8) line += " utf8";
  return line + ">\n";
}

/// Everything the dialogue says, and in angle brackets what it wants. The input that is left comes last.
inline std::string converse(protocols::Dialogue& dialogue, const Stages& stages, Pieces pieces = {},
                            const std::vector<Answer>& answers = {},
                            const std::function<void(const protocols::Login&)>& look = {}) {
  using protocols::Want;
  protocols::Input in;
  std::string log;
  size_t answered = 0;
  dialogue.greet(log);
  for (const std::string& stage : stages) {
    bool tls = false;
    for (size_t at = 0; at < stage.size() && !tls;) {
      const size_t end = pieces.next(at, stage.size());
      in.append(std::string_view(stage).substr(at, end - at));
      at = end;
      for (bool again = true; again && !tls;) {
        again = false;
        std::string out;
        protocols::Step step = dialogue.advance(in, out);
        if (step.want == Want::route) {
          log += out;
          out.clear();
          const protocols::Login login = dialogue.take_login();
          log += text(login);
          if (look) look(login);
          if (answered == answers.size()) {
            in.append(std::string_view(stage).substr(at));
            return log + "<left " + std::string(in.view()) + ">\n";
          }
          const Answer& answer = answers[answered++];
          if (answer.said.empty()) {
            dialogue.unavailable(log);
            return log + "<unavailable>\n";
          }
          step = dialogue.rejected(answer.said, answer.hide, out);
          again = step.want == Want::input;
        }
        log += out;
        if (step.want == Want::pause) again = true;
        if (step.want == Want::close) return log + "<close " + std::string(text(step.parting)) + ">\n";
        tls = step.want == Want::start_tls;
      }
    }
    if (!tls) continue;
    in.clear();
    log += "<tls>\n";
    dialogue.tls_started(log);
  }
  return log;
}

/// Everything the replay says to a backend whose stages are these, and in angle brackets what it wants.
inline std::string converse(protocols::Replay& replay, const Stages& stages, Pieces pieces = {}) {
  using protocols::ReplayWant;
  protocols::Input in;
  std::string log;
  for (const std::string& stage : stages) {
    bool tls = false;
    for (size_t at = 0; at < stage.size() && !tls;) {
      const size_t end = pieces.next(at, stage.size());
      in.append(std::string_view(stage).substr(at, end - at));
      at = end;
      for (bool again = true; again;) {
        const size_t asked = log.size();
        protocols::ReplayStep step = replay.advance(in, log);
        again = log.size() != asked;  // what is left is for the question
        if (step.want == ReplayWant::start_tls) {
          // More in clear than the go-ahead: the caller hangs up, whether it had arrived by then or not.
          if (at != stage.size()) return log + "<failed starttls>\n";
          log += "<tls>\n";
          tls = true;
          step = replay.tls_started(log);
        }
        if (step.want == ReplayWant::ready) {
          log += "<ready>\n";
          step = replay.authenticate(log);
          again = true;
        }
        switch (step.want) {
          case ReplayWant::failed:
            return log + "<failed " + std::string(text(step.fault)) + ">\n";
          case ReplayWant::accepted:
            in.append(std::string_view(stage).substr(at));
            return log + "<accepted>\n" + std::string(replay.said()) + "<left " + std::string(in.view()) +
                   ">\n";
          case ReplayWant::rejected:
            return log + "<rejected>\n" + std::string(replay.said());
          default:
            break;
        }
      }
    }
  }
  return log;
}

/// One log for every way to cut the stages in two, byte by byte, and at once; else what differed.
inline std::string however_split(const Stages& stages, const std::function<std::string(Pieces)>& run) {
  const std::string whole = run(at_once);
  if (const std::string log = run(byte_by_byte); log != whole)
    return "byte by byte:\n" + log + "at once:\n" + whole;
  size_t longest = 0;
  for (const std::string& stage : stages) longest = std::max(longest, stage.size());
  for (size_t cut = 1; cut < longest; ++cut)
    if (const std::string log = run({cut, 0}); log != whole)
      return "cut at " + std::to_string(cut) + ":\n" + log + "at once:\n" + whole;
  return whole;
}

}  // namespace postern::test
