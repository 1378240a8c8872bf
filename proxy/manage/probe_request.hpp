// SPDX-License-Identifier: GPL-3.0-or-later
// The little HTTP/1.1 that probes and scrapers speak: one request head in, one answer's bytes out. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace postern::proxy {

inline constexpr size_t probe_head_max = size_t{16} << 10;

enum class ProbeVerdict : uint8_t {
  more,       // the beginning of a head
  malformed,  // answer 400 and close
  too_large,  // no end within probe_head_max: answer 431 and close
  complete,
};

enum class ProbeMethod : uint8_t { get, head, other };

struct ProbeRequest {
  ProbeVerdict verdict = ProbeVerdict::more;
  size_t consumed = 0;  // complete: the head with its empty line
  ProbeMethod method = ProbeMethod::other;
  std::string_view path;    // without query; points into the input
  bool keep_alive = false;  // false also when a body follows, which is not read
};

/// A function of the bytes so far: callers keep the input and call again with more.
ProbeRequest parse_probe_request(std::string_view bytes);

struct ProbeAnswer {
  int status = 200;
  std::string body;
  std::string_view type = "text/plain; charset=utf-8";
  std::string_view headers = {};  // more of them, each with its line end
};

/// Status line, head and, but for HEAD, the body.
std::string write_probe_answer(const ProbeAnswer& answer, ProbeMethod method, bool keep_alive);

}  // namespace postern::proxy
