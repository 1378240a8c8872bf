// SPDX-License-Identifier: GPL-3.0-or-later
// Known answers on disk (mapping.snapshot), so that a restart while the store is down serves whom it served
// before. A damaged file is as good as none.
//
//   postern answers 1 FINGERPRINT WRITTEN        what was asked, by what rules; Unix time in milliseconds
//   destination NAME                             numbered from 0
//   NUMBER EXPIRES IDENTIFIER                    end of the answer's life, as above
//   end COUNT CHECKSUM                           CRC-32C of everything before this line
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "conf/config.hpp"
#include "conf/result.hpp"
#include "proxy/routing/route_cache.hpp"

namespace postern::proxy {

/// The same for configurations under which an answer means the same: store, query, normalisation. Passwords
/// are no part of it.
uint64_t answers_fingerprint(const conf::MappingConf& mapping);

struct AnswersFile {
  struct Line {
    std::string_view identifier;
    uint32_t destination = 0;
    int64_t expires = 0;
  };
  uint64_t fingerprint = 0;
  int64_t written = 0;
  std::vector<std::string_view> destinations;
  std::vector<Line> lines;  // the views are into the text
};

/// All of it or why not.
conf::Result<AnswersFile> parse_answers(std::string_view text);
std::string format_answers(const AnswersFile& file);

/// What the cache knows, for the file. Takes each lock of the cache for a moment.
std::string answers_of(const RouteCache& cache, uint64_t fingerprint, uint64_t now_ms, int64_t wall_ms);
/// Puts the lines into the cache that are of use: of a declared destination, and not too old. Says how many.
size_t restore_answers(const AnswersFile& file, const conf::Config& config, RouteCache& cache,
                       uint64_t now_ms, int64_t wall_ms);

/// A temporary file beside `path`, mode 0600, on disk before it is renamed; what was there before stays whole
/// otherwise.
conf::Result<void> write_answers(const std::string& path, std::string_view text);
/// The text of a regular file that only we, or root, can have written; empty if there is none.
conf::Result<std::string> read_answers(const std::string& path);

}  // namespace postern::proxy
