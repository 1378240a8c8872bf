// SPDX-License-Identifier: GPL-3.0-or-later
// Strict where leniency has bitten others: CR LF only, no folding, one Host, no body that would be mistaken
// for a next request.
#include "proxy/manage/probe_request.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace postern::proxy {
namespace {

constexpr std::string_view line_end = "\r\n";
constexpr std::string_view head_end = "\r\n\r\n";

bool alnum(char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }
/// RFC 9110, 5.6.2.
bool token(std::string_view s) {
  constexpr std::string_view others = "!#$%&'*+-.^_`|~";
  return !s.empty() &&
         std::ranges::all_of(s, [&](char c) { return alnum(c) || others.find(c) != std::string_view::npos; });
}
/// No control character but tab may stand in a field.
bool field_text(std::string_view s) {
  return std::ranges::none_of(
      s, [](char c) { return (static_cast<unsigned char>(c) < ' ' && c != '\t') || c == '\x7f'; });
}

bool same_word(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; };
  return std::ranges::equal(a, b, {}, lower, lower);
}

std::string_view trimmed(std::string_view s) {
  constexpr std::string_view blank = " \t";
  const size_t first = s.find_first_not_of(blank);
  if (first == std::string_view::npos) return {};
  return s.substr(first, s.find_last_not_of(blank) - first + 1);
}

/// Is `word` a member of the comma list?
bool lists(std::string_view list, std::string_view word) {
  for (;;) {
    const size_t comma = list.find(',');
    if (same_word(trimmed(list.substr(0, comma)), word)) return true;
    if (comma == std::string_view::npos) return false;
    list.remove_prefix(comma + 1);
  }
}

/// "/path?query" or "http://host/path?query" to "/path"; empty: neither.
std::string_view path_of(std::string_view target) {
  constexpr std::string_view scheme = "http://";
  if (target.size() > scheme.size() && same_word(target.substr(0, scheme.size()), scheme)) {
    target.remove_prefix(scheme.size());
    const size_t slash = target.find('/');
    target = slash == std::string_view::npos ? std::string_view("/") : target.substr(slash);
  }
  if (!target.starts_with('/')) return {};
  return target.substr(0, target.find('?'));
}

/// What the fields say that matters here.
struct Fields {
  int hosts = 0;
  bool body = false;
  bool close = false;
  bool keep = false;
};

bool read_field(std::string_view line, Fields& fields) {
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos || !token(line.substr(0, colon)))
    return false;  // folding ends here, too
  const std::string_view name = line.substr(0, colon);
  const std::string_view value = trimmed(line.substr(colon + 1));
  if (!field_text(value)) return false;
  if (same_word(name, "host")) ++fields.hosts;
  if (same_word(name, "content-length")) fields.body |= value != "0";
  if (same_word(name, "transfer-encoding")) fields.body = true;
  if (same_word(name, "connection")) {
    fields.close |= lists(value, "close");
    fields.keep |= lists(value, "keep-alive");
  }
  return true;
}

bool read_request_line(std::string_view line, ProbeRequest& request, bool& http11) {
  const size_t first = line.find(' ');
  const size_t second = first == std::string_view::npos ? first : line.find(' ', first + 1);
  if (second == std::string_view::npos) return false;
  const std::string_view method = line.substr(0, first);
  const std::string_view target = line.substr(first + 1, second - first - 1);
  const std::string_view version = line.substr(second + 1);
  http11 = version == "HTTP/1.1";
  if (!token(method) || !(http11 || version == "HTTP/1.0")) return false;
  if (!std::ranges::all_of(target, [](char c) { return c > ' ' && c < '\x7f'; })) return false;
  request.method = method == "GET"    ? ProbeMethod::get
                   : method == "HEAD" ? ProbeMethod::head
                                      : ProbeMethod::other;
  request.path = path_of(target);
  return !request.path.empty();
}

ProbeRequest refused(ProbeVerdict verdict) {
  ProbeRequest request;
  request.verdict = verdict;
  return request;
}

std::string_view reason_of(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 431:
      return "Request Header Fields Too Large";
    case 503:
      return "Service Unavailable";
    default:
      return "Internal Server Error";
  }
}

}  // namespace

ProbeRequest parse_probe_request(std::string_view bytes) {
  // Who begins with something else (TLS, say) need not be waited for.
  if (!bytes.empty() && !token(bytes.substr(0, 1))) return refused(ProbeVerdict::malformed);
  const std::string_view window = bytes.substr(0, probe_head_max);
  const size_t end = window.find(head_end);
  if (end == std::string_view::npos)
    return refused(window.size() < probe_head_max ? ProbeVerdict::more : ProbeVerdict::too_large);

  ProbeRequest request;
  request.verdict = ProbeVerdict::complete;
  request.consumed = end + head_end.size();
  std::string_view head = window.substr(0, end);
  bool http11 = false;
  Fields fields;
  for (bool first = true; !head.empty() || first; first = false) {
    const size_t stop = head.find(line_end);
    const std::string_view line = head.substr(0, stop);
    head.remove_prefix(stop == std::string_view::npos ? head.size() : stop + line_end.size());
    if (!(first ? read_request_line(line, request, http11) : read_field(line, fields)))
      return refused(ProbeVerdict::malformed);
  }
  if (http11 ? fields.hosts != 1 : fields.hosts > 1) return refused(ProbeVerdict::malformed);
  request.keep_alive = !fields.body && !fields.close && (http11 || fields.keep);
  return request;
}

std::string write_probe_answer(const ProbeAnswer& answer, ProbeMethod method, bool keep_alive) {
  std::string out;
  fmt::format_to(std::back_inserter(out), "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n",
                 answer.status, reason_of(answer.status), answer.type, answer.body.size());
  if (answer.status == 405) out += "Allow: GET, HEAD\r\n";
  out += "Cache-Control: no-store\r\n";
  out += answer.headers;
  out += keep_alive ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n";
  if (method != ProbeMethod::head) out += answer.body;
  return out;
}

}  // namespace postern::proxy
