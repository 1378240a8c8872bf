// SPDX-License-Identifier: GPL-3.0-or-later
// A conversation as test/transcripts/README.md writes it down, read into steps.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "conf/result.hpp"

namespace postern::test {

enum class Act : uint8_t {
  client_says,
  client_hears,   // S:
  backend_hears,  // P:
  backend_says,
  client_tls,
  backend_tls,
  client_ended,   // S<eof>: by Postern
  backend_left,   // P<eof>: by Postern
  backend_ended,  // B<eof>: by the backend
};

struct ScriptStep {
  Act act;
  std::string bytes;  // of a whole segment where somebody speaks; of one line where somebody hears
  int line = 0;
};

struct Transcript {
  std::string protocol, listener = "plain", leg = "plain";
  std::vector<std::pair<std::string, std::string>> settings;  // key, TOML; without a value: taken away
  std::vector<std::string> mappings;
  std::string greeting;  // of the backend
  std::vector<ScriptStep> steps;
};

conf::Result<Transcript> read_transcript(std::string_view text);

/// The configuration a transcript stands for, in TOML.
std::string configuration(const Transcript& transcript);

/// Whether `heard` is what `wanted` says, its <cport>, <lport> and <hex> filled in.
bool matches(std::string_view wanted, std::string_view heard);

}  // namespace postern::test
