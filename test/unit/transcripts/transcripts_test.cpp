// SPDX-License-Identifier: GPL-3.0-or-later
// Every conversation of test/transcripts, between the real dialogues and replays: at once, byte by byte, and
// cut at every place.
#include <doctest/doctest.h>
#include <fmt/core.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "conf/load.hpp"
#include "test/unit/transcripts/stage.hpp"

using namespace postern;
using namespace postern::test;

namespace {

std::string problems_of(const conf::Loaded& loaded) {
  std::string text;
  for (const conf::Problem& problem : loaded.problems.all())
    if (!problem.warning) text += problem.line() + "\n";
  return text;
}

size_t longest_segment(const Transcript& transcript) {
  size_t longest = transcript.greeting.size();
  for (const ScriptStep& step : transcript.steps)
    if (step.act == Act::client_says || step.act == Act::backend_says)
      longest = std::max(longest, step.bytes.size());
  return longest;
}

/// Empty: the file says what happens. `plays` counts the ways it was cut.
std::string play(const std::filesystem::path& path, size_t& plays) {
  std::ifstream file(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  const auto transcript = read_transcript(text);
  if (!transcript) return transcript.error().text;
  const conf::Loaded loaded = conf::load_text("transcript.toml", configuration(*transcript), {},
                                              {.refuse_unsupported = true, .touch_files = false});
  if (!loaded.ok()) return problems_of(loaded);
  const size_t longest = longest_segment(*transcript);
  for (size_t cut = 0; cut <= longest; ++cut) {
    ++plays;
    const Pieces pieces = cut == 0 ? at_once : cut == longest ? byte_by_byte : Pieces{cut, 0};
    Stage stage(loaded.config, transcript->greeting, pieces);
    if (const std::string wrong = stage.play(transcript->steps); !wrong.empty())
      return (cut == 0         ? "at once: "
              : cut == longest ? "byte by byte: "
                               : "cut at " + std::to_string(cut) + ": ") +
             wrong;
  }
  return {};
}

}  // namespace

TEST_CASE("every transcript is what dialogue and replay say to each other") {
  size_t count = 0, plays = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(TRANSCRIPTS)) {
    if (entry.path().extension() != ".txt") continue;
    ++count;
    CAPTURE(entry.path().string());
    CHECK(play(entry.path(), plays) == "");
  }
  CHECK(count > 0);
  fmt::print("{} transcripts, {} plays\n", count, plays);  // test/checks/scenarios.py reads it
}

TEST_CASE("a transcript that is wrong is found out") {
  const auto wrong = [](std::string_view steps) {
    const auto transcript = read_transcript("protocol submission\n" + std::string(steps));
    if (!transcript) return transcript.error().text;
    const conf::Loaded loaded = conf::load_text("transcript.toml", configuration(*transcript), {},
                                                {.refuse_unsupported = true, .touch_files = false});
    REQUIRE(problems_of(loaded) == "");
    return Stage(loaded.config, transcript->greeting, at_once).play(transcript->steps);
  };
  const std::string login = "C: AUTH PLAIN AGEAYg==\nP: EHLO mail.example.com\n";
  CHECK(wrong("C: NOOP\nS: 250 2.0.0 OK\n") == "");
  CHECK(wrong(login + "B: 250 b\nP: AUTH PLAIN AGEAYg==\n") == "");
  for (const std::string& steps :
       {std::string("C: NOOP\n"), std::string("C: NOOP\nS: 250 2.0.0 ok\n"), std::string("C: NOOP\nS: 250\n"),
        std::string("C: NOOP\nC<tls>\nS: 250 2.0.0 OK\n"), std::string("S<eof>\n"), std::string("B: 220 x\n"),
        std::string("C: QUIT\nS: 221 2.0.0 Bye\n"), std::string("D: x\n"), std::string("C: a\\b\n"),
        login + "P<eof>\n", login + "P: NOOP\n", std::string("C: AUTH PLAIN AGEAYg==\n"),
        login + "S: 250 x\n"}) {
    CAPTURE(steps);
    CHECK(wrong(steps) != "");
  }
  CHECK(matches("P<hex> <cport>.", "P1f 40001."));
  CHECK_FALSE(matches("P<hex>", "P"));
  CHECK_FALSE(matches("<cport>", "12a"));
}
