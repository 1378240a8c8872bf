// SPDX-License-Identifier: GPL-3.0-or-later
// What single texts must look like.
#include "conf/schema/checks.hpp"

#include <algorithm>
#include <array>

#include "conf/scalars.hpp"
#include "conf/text.hpp"

namespace postern::conf {

std::string check_filled(std::string_view text) { return text.empty() ? "must not be empty" : ""; }

std::string check_line(std::string_view text) {
  const bool bad = std::any_of(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == '\x7f';
  });
  return bad ? "must not contain control characters" : "";
}

std::string check_item(std::string_view text) { return text.empty() ? check_filled(text) : check_line(text); }

std::string check_word(std::string_view text) {
  if (text.find_first_of(" \t") != std::string_view::npos) return "must not contain spaces";
  return check_item(text);
}

std::string check_hostname(std::string_view text) {
  constexpr size_t longest = 255;
  if (text.size() > longest) return "is longer than 255 bytes";
  if (has_control(text) || text.find_first_of(" \"'") != std::string_view::npos) {
    return "must not contain white space, control characters or quotes";
  }
  return {};
}

std::string check_host(std::string_view text) {
  if (text.empty()) return "must not be empty";
  return is_host(text) ? "" : "is neither a host name nor an IP address (without brackets)";
}

std::string check_subject(std::string_view text) {
  constexpr size_t longest = 255;
  if (text.empty() || text == "*.") return "is not a name";
  if (text.size() > longest) return "is longer than 255 bytes";
  return has_control(text) || text.find(' ') != std::string_view::npos
             ? "must not contain white space or control characters"
             : "";
}

std::string check_pem(std::string_view text) {
  if (text.empty()) return "must not be empty";
  return text == "file://" ? "names no file" : "";
}

std::string check_sasl(std::string_view text) {
  constexpr std::array<std::string_view, 4> known = {"plain", "login", "oauthbearer", "xoauth2"};
  const bool found = std::find(known.begin(), known.end(), ascii_lower(text)) != known.end();
  return found ? "" : "is not a known mechanism; must be one of PLAIN, LOGIN, OAUTHBEARER, XOAUTH2";
}

std::string check_min_version(std::string_view text) {
  return text == "1.2" || text == "1.3" ? "" : "is not supported; must be \"1.2\" or \"1.3\"";
}

}  // namespace postern::conf
