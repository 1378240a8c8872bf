// SPDX-License-Identifier: GPL-3.0-or-later
// Both versions of the PROXY header, judged as early as the bytes allow: once malformed or absent, no
// further byte can change it.
#include "protocols/proxy_header.hpp"

#include <algorithm>
#include <array>

#include "protocols/proxy_tlv.hpp"

namespace postern::protocols {
namespace {

using Bytes = std::span<const uint8_t>;

constexpr std::string_view signature_v1 = "PROXY ";
constexpr std::string_view signature_v2("\r\n\r\n\0\r\nQUIT\n", 12);
constexpr size_t head_v2 = 16;  // signature, version and command, family, length

// Byte 13.
constexpr uint8_t command_local = 0x20;
constexpr uint8_t command_proxy = 0x21;

// Byte 14 and how many bytes of addresses follow.
struct Family {
  uint8_t code;
  uint8_t address_bytes;  // of one address; 0: none that Postern could use
  size_t block;
};
constexpr std::array<Family, 7> families = {{{0x00, 0, 0},
                                             {0x11, 4, 12},
                                             {0x12, 4, 12},
                                             {0x21, 16, 36},
                                             {0x22, 16, 36},
                                             {0x31, 0, 216},
                                             {0x32, 0, 216}}};
constexpr uint8_t family_v4 = 0x11;
constexpr uint8_t family_v6 = 0x21;

ProxyParse more() { return {}; }
ProxyParse malformed(const char* reason) {
  ProxyParse p;
  p.verdict = ProxyVerdict::malformed;
  p.reason = reason;
  return p;
}

// --- version 1 ------------------------------------------------------------------------------------

bool digit(char c) { return c >= '0' && c <= '9'; }

/// A decimal number without leading zero, up to `max`; an empty text is the beginning of one.
bool number_begun(std::string_view s, unsigned max) {
  unsigned value = 0;
  for (const char c : s) {
    if (!digit(c)) return false;
    value = value * 10 + static_cast<unsigned>(c - '0');
    if (value > max) return false;
  }
  return s.size() < 2 || s[0] != '0';
}

/// Could `s` be the beginning of a dotted quad?
bool v4_begun(std::string_view s) {
  for (int part = 0; part < 4; ++part) {
    const size_t dot = s.find('.');
    if (!number_begun(s.substr(0, dot), 255)) return false;
    if (dot == std::string_view::npos) return true;
    if (dot == 0) return false;
    s.remove_prefix(dot + 1);
  }
  return false;  // a fourth dot
}

/// Could `s` be the beginning of an IPv6 address? Coarse; conf::Ip has the last word when the field ends.
bool v6_begun(std::string_view s) {
  constexpr size_t longest = 45;  // eight groups, the last two as a dotted quad
  return s.size() <= longest && s.find_first_not_of("0123456789abcdefABCDEF:.") == std::string_view::npos;
}

/// The address fields of `TCP4` and `TCP6`, in order: source, destination, source port, destination port.
class FieldReader {
 public:
  FieldReader(ProxyHeader& header, bool v4) : header_(header), v4_(v4) {}

  [[nodiscard]] bool begun(int field, std::string_view s) const {
    if (field >= 2) return number_begun(s, 65535);
    return v4_ ? v4_begun(s) : v6_begun(s);
  }
  [[nodiscard]] bool ended(int field, std::string_view s) {
    if (s.empty() || !begun(field, s)) return false;
    conf::SocketAddress& address = field % 2 == 0 ? header_.source : header_.destination;
    if (field >= 2) {
      unsigned port = 0;
      for (const char c : s) port = port * 10 + static_cast<unsigned>(c - '0');
      address.port = static_cast<uint16_t>(port);
      return true;
    }
    if (!v4_ && s.find(':') == std::string_view::npos) return false;
    auto ip = conf::Ip::parse(s);
    if (!ip) return false;
    address.ip = *ip;
    return true;
  }

 private:
  ProxyHeader& header_;
  bool v4_;
};

constexpr std::array<const char*, 4> field_wrong = {"invalid source address", "invalid destination address",
                                                    "invalid source port", "invalid destination port"};

/// `body` is what stands between "PROXY " and CR, or what has arrived of it. Null: fine so far.
const char* read_body(std::string_view body, bool ended, ProxyHeader& header) {
  constexpr std::string_view unknown = "UNKNOWN";
  constexpr std::string_view tcp4 = "TCP4 ";
  constexpr std::string_view tcp6 = "TCP6 ";
  if (body.starts_with(unknown)) {
    header.local = true;
    return nullptr;
  }
  if (body.size() < tcp4.size() || !(body.starts_with(tcp4) || body.starts_with(tcp6))) {
    const bool begun = unknown.starts_with(body) || tcp4.starts_with(body) || tcp6.starts_with(body);
    return begun && !ended ? nullptr : "unknown protocol";
  }
  FieldReader reader(header, body.starts_with(tcp4));
  body.remove_prefix(tcp4.size());
  for (int field = 0; field < 4; ++field) {
    const size_t space = field < 3 ? body.find(' ') : std::string_view::npos;
    const bool whole = space != std::string_view::npos || (ended && field == 3);
    const std::string_view text = body.substr(0, space);
    if (!(whole ? reader.ended(field, text) : reader.begun(field, text)))
      return field_wrong[static_cast<size_t>(field)];
    if (!whole) return ended ? "fields missing" : nullptr;
    if (field < 3) body.remove_prefix(space + 1);
  }
  return nullptr;
}

ProxyParse parse_v1(std::string_view in) {
  const std::string_view line = in.substr(0, proxy_v1_max);
  const size_t end = line.find_first_of("\r\n", signature_v1.size());
  const bool ended = end != std::string_view::npos;
  // CR is the last but one byte at the latest.
  if (ended ? end + 2 > proxy_v1_max : line.size() + 2 > proxy_v1_max) return malformed("line too long");
  if (ended && line[end] == '\n') return malformed("LF without CR");
  ProxyParse p;
  p.header.version = 1;
  const size_t stop = ended ? end : line.size();
  if (const char* wrong =
          read_body(line.substr(signature_v1.size(), stop - signature_v1.size()), ended, p.header))
    return malformed(wrong);
  if (!ended || end + 1 == in.size()) return more();
  if (in[end + 1] != '\n') return malformed("CR without LF");
  p.verdict = ProxyVerdict::complete;
  p.consumed = end + 2;
  return p;
}

// --- version 2 ------------------------------------------------------------------------------------

conf::Ip read_ip(Bytes b) { return b.size() == 4 ? conf::Ip::v4(b.first<4>()) : conf::Ip::v6(b.first<16>()); }
uint16_t read16(Bytes b) { return static_cast<uint16_t>(b[0] << 8 | b[1]); }

void take_addresses(Bytes block, size_t size, ProxyHeader& header) {
  header.source = {read_ip(block.first(size)), read16(block.subspan(2 * size))};
  header.destination = {read_ip(block.subspan(size, size)), read16(block.subspan(2 * size + 2))};
}

ProxyParse parse_v2(Bytes in) {
  const size_t have = in.size();
  if (have <= 12) return more();
  const uint8_t command = in[12];
  if (command >> 4 != 2) return malformed("unknown version");
  if (command != command_local && command != command_proxy) return malformed("unknown command");
  if (have <= 13) return more();

  // LOCAL and unspecified carry nothing Postern could read: whatever is attached is skipped.
  Family family = families[0];
  if (command == command_proxy) {
    const auto* known = std::ranges::find(families, in[13], &Family::code);
    if (known == families.end()) return malformed("unknown address family");
    family = *known;
  }
  if (have <= 14) return more();
  if (in[14] > (proxy_v2_max - head_v2) >> 8) return malformed("header too long");
  if (have <= 15) return more();
  const size_t total = head_v2 + read16(in.subspan(14));
  if (total > proxy_v2_max) return malformed("header too long");
  if (total < head_v2 + family.block) return malformed("shorter than its addresses");

  const TlvArea area{in.first(std::min(have, total)), head_v2 + family.block, total};
  if (family.block != 0)
    if (const char* wrong = check_tlvs(area)) return malformed(wrong);
  if (have < total) return more();

  ProxyParse p;
  p.verdict = ProxyVerdict::complete;
  p.consumed = total;
  p.header.local = family.address_bytes == 0;
  if (!p.header.local) take_addresses(in.subspan(head_v2), family.address_bytes, p.header);
  if (family.block != 0) take_tlvs(area, p.header);
  return p;
}

// --- writing --------------------------------------------------------------------------------------

void append_ip(std::string& to, const conf::Ip& ip, bool mapped) {
  if (ip.is_v4() && mapped) to.append("\0\0\0\0\0\0\0\0\0\0\xFF\xFF", 12);
  const auto bytes = ip.bytes();
  to.append(bytes.begin(), bytes.end());
}

void append16(std::string& to, uint16_t n) {
  to += static_cast<char>(n >> 8);
  to += static_cast<char>(n & 0xFF);
}

}  // namespace

ProxyParse parse_proxy_header(std::span<const uint8_t> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  for (const std::string_view signature : {signature_v1, signature_v2}) {
    const size_t common = std::min(signature.size(), text.size());
    if (text.substr(0, common) != signature.substr(0, common)) continue;
    if (common < signature.size()) return more();
    return signature == signature_v1 ? parse_v1(text) : parse_v2(bytes);
  }
  ProxyParse p;
  p.verdict = ProxyVerdict::absent;
  return p;
}

std::string write_proxy_header(const ProxyOut& out) {
  const bool both_v4 = out.source.ip.is_v4() && out.destination.ip.is_v4();
  const bool mixed = out.source.ip.is_v4() != out.destination.ip.is_v4();
  if (mixed && !out.map_v4) return "PROXY UNKNOWN\r\n";

  std::string header(signature_v2);
  header += static_cast<char>(command_proxy);
  header += static_cast<char>(both_v4 ? family_v4 : family_v6);
  append16(header, 0);  // the length, set by append_tlvs
  append_ip(header, out.source.ip, !both_v4);
  append_ip(header, out.destination.ip, !both_v4);
  append16(header, out.source.port);
  append16(header, out.destination.port);
  append_tlvs(header, out);
  return header;
}

std::string local_proxy_header() {
  std::string header(signature_v2);
  header += static_cast<char>(command_local);
  header += '\0';  // no family
  append16(header, 0);
  return header;
}

}  // namespace postern::protocols
