// SPDX-License-Identifier: GPL-3.0-or-later
// Known answers on disk under any bytes: what is taken for a file can be written again, byte for byte but for
// spelling, and leads nowhere but to declared destinations. Any body gets the right end, too, so that what
// lies behind the checksum is reached.
#include <fmt/format.h>

#include <set>
#include <string>

#include "protocols/identity.hpp"
#include "protocols/proxy_tlv.hpp"
#include "proxy/routing/answers_file.hpp"
#include "test/fuzz/require.hpp"

using namespace postern;
using namespace postern::proxy;
using fuzz::require;

namespace {

void try_text(std::string_view text) {
  const auto file = parse_answers(text);
  if (!file) return require(!file.error().text.empty(), "refused without a word");
  const std::string again = format_answers(*file);
  const auto second = parse_answers(again);
  require(second.has_value(), "not understood when written again");
  require(format_answers(*second) == again, "written in two ways");
  require(second->lines.size() == file->lines.size(), "lines lost");

  conf::Config config;
  config.mapping.cache_max_entries = 64;
  config.destinations.emplace_back().name = "new";
  RouteCache cache(config.mapping);
  cache.keep_stale(std::chrono::hours(24));
  constexpr uint64_t now = 5'000'000;
  const size_t restored = restore_answers(*file, config, cache, now, 1'700'000'000'000);
  require(restored == cache.entries() && restored <= 64, "restored and not there");
  for (const AnswersFile::Line& line : file->lines) {
    require(protocols::acceptable_identifier(line.identifier), "a name nobody could log in with");
    if (const auto kept = cache.look(line.identifier, now))
      require(*kept->destination == "new" && kept->from_disk, "another destination");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = fuzz::text_of(data, size);
  try_text(text);
  std::string body(text.substr(0, text.rfind("end ")));
  if (!body.ends_with('\n')) body += '\n';
  size_t lines = 0, at = 0;
  for (const char c : body) lines += c == '\n';
  lines -= 1;
  for (std::string_view rest = body; (at = rest.find("\ndestination ")) != std::string_view::npos;
       rest.remove_prefix(at + 1))
    lines -= lines > 0;
  const uint32_t sum = protocols::crc32c({reinterpret_cast<const uint8_t*>(body.data()), body.size()});
  try_text(body + fmt::format("end {} {:08x}\n", lines, sum));
  return 0;
}
