// SPDX-License-Identifier: GPL-3.0-or-later
// Encoders. Every value is either ours (addresses, numbers, the session id) or goes through xtext() or
// quoted().
#include "protocols/forwarding.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>

#include "protocols/text.hpp"

namespace postern::protocols {
namespace {

constexpr size_t longest_xclient = 511;  // below 512 with CR LF
// RFC 2971, 3.3
constexpr size_t most_id_fields = 30, longest_id_field = 30, longest_id_value = 1024;

std::string_view transport(const ClientFacts& facts) { return facts.encrypted ? "TLS" : "insecure"; }
uint32_t next_ttl(const ClientFacts& facts) { return facts.ttl == 0 ? 0 : facts.ttl - 1; }

/// RFC 3461: printable ASCII but `+` and `=`; all else in hexadecimal.
std::string xtext(std::string_view value) {
  std::string out;
  for (const char c : value) {
    if (c > ' ' && c <= '~' && c != '+' && c != '=')
      out += c;
    else
      out += fmt::format("+{:02X}", static_cast<unsigned char>(c));
  }
  return out;
}

std::string smtp_address(const conf::Ip& ip) { return (ip.is_v4() ? "" : "IPV6:") + ip.text(); }

bool announces(std::string_view announced, std::string_view attribute) {
  while (!announced.empty()) {
    const size_t space = std::min(announced.find(' '), announced.size());
    if (same_word(announced.substr(0, space), attribute)) return true;
    announced.remove_prefix(std::min(space + 1, announced.size()));
  }
  return false;
}

bool fit_for_helo(std::string_view helo) {
  return !helo.empty() &&
         std::ranges::none_of(helo, [](char c) { return is_control(c) || c == ' ' || c == '"'; });
}

void add_quoted(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  out += '"';
}

bool plain_text(std::string_view text) {
  return std::ranges::none_of(text,
                              [](char c) { return is_control(c) || static_cast<unsigned char>(c) > 0x7e; });
}

/// Everything that begins with "x-" is said by proxies about clients, never by clients about themselves.
bool fit_for_id(std::string_view field, std::string_view value) {
  return !field.empty() && field.size() <= longest_id_field && value.size() <= longest_id_value &&
         !starts_with_word(field, "x-") && plain_text(field) && plain_text(value);
}

}  // namespace

std::string xclient_all(const ClientFacts& facts) {
  return fmt::format(
      "XCLIENT ADDR={} PORT={} DESTADDR={} DESTPORT={} SESSION={} TTL={} CLIENT-TRANSPORT={}\r\n",
      facts.peer.ip.text(), facts.peer.port, facts.local.ip.text(), facts.local.port, facts.session,
      next_ttl(facts), transport(facts));
}

std::string xclient_filtered(const ClientFacts& facts, std::string_view helo, std::string_view announced) {
  using Attribute = std::pair<std::string_view, std::string>;
  const std::array<Attribute, 9> attributes = {{
      {"ADDR", smtp_address(facts.peer.ip)},
      {"PORT", fmt::format("{}", facts.peer.port)},
      {"DESTADDR", smtp_address(facts.local.ip)},
      {"DESTPORT", fmt::format("{}", facts.local.port)},
      {"SESSION", std::string(facts.session)},
      {"TTL", fmt::format("{}", next_ttl(facts))},
      {"CLIENT-TRANSPORT", std::string(transport(facts))},
      {"HELO", fit_for_helo(helo) ? std::string(helo) : std::string()},
      {"PROTO", "ESMTP"},
  }};
  const auto write = [&](bool with_helo) {
    std::string line;
    for (const auto& [name, value] : attributes)
      if (!value.empty() && (with_helo || name != "HELO") && announces(announced, name))
        line += fmt::format(" {}={}", name, xtext(value));
    return line.empty() ? line : "XCLIENT" + line + "\r\n";
  };
  std::string line = write(true);
  return line.size() <= longest_xclient ? line : write(false);
}

std::string imap_id(const ClientFacts* facts, std::span<const std::pair<std::string, std::string>> own) {
  std::string fields;
  size_t count = 0;
  const auto add = [&](std::string_view field, std::string_view value) {
    if (count++ != 0) fields += ' ';
    add_quoted(fields, field);
    fields += ' ';
    add_quoted(fields, value);
  };
  if (facts) {
    add("x-originating-ip", facts->peer.ip.text());
    add("x-originating-port", fmt::format("{}", facts->peer.port));
    add("x-connected-ip", facts->local.ip.text());
    add("x-connected-port", fmt::format("{}", facts->local.port));
    add("x-proxy-ttl", fmt::format("{}", next_ttl(*facts)));
    add("x-session-id", facts->session);
    add("x-client-transport", transport(*facts));
  }
  for (const auto& [field, value] : own)
    if (count < most_id_fields && fit_for_id(field, value)) add(field, value);
  return count == 0 ? std::string() : "F1 ID (" + fields + ")\r\n";
}

}  // namespace postern::protocols
