// SPDX-License-Identifier: GPL-3.0-or-later
// TLVs: walked by one function, so that checking and taking cannot disagree about where one ends.
#include "protocols/proxy_tlv.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace postern::protocols {
namespace {

enum Type : uint8_t {
  type_alpn = 0x01,
  type_authority = 0x02,
  type_crc32c = 0x03,
  type_unique_id = 0x05,
  type_ssl = 0x20,
  type_ssl_version = 0x21,
  type_ssl_cn = 0x22,
  type_ssl_cipher = 0x23,
  type_ssl_sig_alg = 0x24,
  type_ssl_key_alg = 0x25,
  type_ssl_group = 0x26,
  type_ssl_sig_scheme = 0x27,  // 0x28, a whole client certificate, is skipped like every unknown kind
};
constexpr size_t tlv_head = 3;  // type, length in two bytes
constexpr size_t ssl_head = 5;  // client, verify
constexpr size_t unique_id_max = 128;
constexpr size_t text_max = 255;  // of what we write: DNS and ALPN names are not longer
constexpr size_t length_at = 14;  // of the header's length field

constexpr std::array<uint32_t, 256> crc_table = [] {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t c = i;
    for (int bit = 0; bit < 8; ++bit) c = (c & 1) ? 0x82F63B78u ^ (c >> 1) : c >> 1;
    table[i] = c;
  }
  return table;
}();

uint32_t read32(std::span<const uint8_t> b) {
  return uint32_t{b[0]} << 24 | uint32_t{b[1]} << 16 | uint32_t{b[2]} << 8 | uint32_t{b[3]};
}

struct Tlv {
  uint8_t type = 0;
  size_t announced = 0;            // its length field
  std::span<const uint8_t> value;  // shorter than announced while bytes are missing
  size_t at = 0;                   // where the value begins
};

/// Calls `each(tlv)` for TLVs in [at, total), of which `bytes` has arrived; stops at its first complaint.
template <class Each>
const char* walk(std::span<const uint8_t> bytes, size_t at, size_t total, Each each) {
  while (at < total) {
    if (total - at < tlv_head) return "TLV cut short";
    if (bytes.size() < at + tlv_head) return nullptr;  // still to come
    Tlv tlv;
    tlv.type = bytes[at];
    tlv.announced = size_t{bytes[at + 1]} << 8 | bytes[at + 2];
    tlv.at = at + tlv_head;
    if (tlv.announced > total - tlv.at) return "TLV longer than the header";
    tlv.value = bytes.subspan(tlv.at, std::min(tlv.announced, bytes.size() - tlv.at));
    if (const char* wrong = each(tlv)) return wrong;
    at = tlv.at + tlv.announced;
  }
  return nullptr;
}

const char* check_ssl(const Tlv& tlv) {
  if (tlv.announced < ssl_head) return "SSL TLV too short";
  return walk(tlv.value, ssl_head, tlv.announced, [](const Tlv&) -> const char* { return nullptr; });
}

/// The sum is made with its own field taken as zero.
bool crc_matches(std::span<const uint8_t> header, size_t field_at) {
  constexpr std::array<uint8_t, 4> zero{};
  uint32_t crc = crc32c(header.first(field_at));
  crc = crc32c(zero, crc);
  crc = crc32c(header.subspan(field_at + zero.size()), crc);
  return crc == read32(header.subspan(field_at, zero.size()));
}

/// Fields by type. Of a kind sent twice the first counts.
template <size_t N>
void take_text(const Tlv& tlv, const std::array<std::pair<Type, std::string*>, N>& fields) {
  for (const auto& [type, field] : fields)
    if (tlv.type == type && field->empty()) *field = {tlv.value.begin(), tlv.value.end()};
}

ProxyHeader::Ssl take_ssl(const Tlv& tlv) {
  ProxyHeader::Ssl ssl;
  ssl.client = tlv.value[0];
  ssl.verify = read32(tlv.value.subspan(1));
  const std::array<std::pair<Type, std::string*>, 7> fields = {{{type_ssl_version, &ssl.version},
                                                                {type_ssl_cn, &ssl.cn},
                                                                {type_ssl_cipher, &ssl.cipher},
                                                                {type_ssl_sig_alg, &ssl.sig_alg},
                                                                {type_ssl_key_alg, &ssl.key_alg},
                                                                {type_ssl_group, &ssl.group},
                                                                {type_ssl_sig_scheme, &ssl.sig_scheme}}};
  (void)walk(tlv.value, ssl_head, tlv.value.size(), [&fields](const Tlv& sub) -> const char* {
    take_text(sub, fields);
    return nullptr;
  });
  return ssl;
}

void append_head(std::string& to, uint8_t type, size_t length) {
  to += static_cast<char>(type);
  to += static_cast<char>(length >> 8 & 0xFF);
  to += static_cast<char>(length & 0xFF);
}

void append_text(std::string& to, uint8_t type, std::string_view value, size_t limit = text_max) {
  if (value.empty() || value.size() > limit) return;
  append_head(to, type, value.size());
  to += value;
}

}  // namespace

uint32_t crc32c(std::span<const uint8_t> bytes, uint32_t crc) {
  crc = ~crc;
  for (const uint8_t byte : bytes) crc = crc_table[(crc ^ byte) & 0xFF] ^ (crc >> 8);
  return ~crc;
}

const char* check_tlvs(const TlvArea& area) {
  size_t crc_at = 0;
  const auto check = [&crc_at](const Tlv& tlv) -> const char* {
    if (tlv.type == type_ssl) return check_ssl(tlv);
    if (tlv.type == type_unique_id && tlv.announced > unique_id_max) return "unique id longer than 128 bytes";
    if (tlv.type != type_crc32c) return nullptr;
    if (tlv.announced != 4) return "checksum of a wrong size";
    if (crc_at != 0) return "two checksums";
    crc_at = tlv.at;
    return nullptr;
  };
  if (const char* wrong = walk(area.bytes, area.tlvs_at, area.total, check)) return wrong;
  const bool whole = area.bytes.size() == area.total;
  return crc_at != 0 && whole && !crc_matches(area.bytes, crc_at) ? "wrong checksum" : nullptr;
}

void take_tlvs(const TlvArea& area, ProxyHeader& header) {
  const std::array<std::pair<Type, std::string*>, 3> fields = {
      {{type_alpn, &header.alpn}, {type_authority, &header.authority}, {type_unique_id, &header.unique_id}}};
  (void)walk(area.bytes, area.tlvs_at, area.total, [&](const Tlv& tlv) -> const char* {
    if (tlv.type == type_ssl && !header.ssl) header.ssl = take_ssl(tlv);
    take_text(tlv, fields);
    return nullptr;
  });
}

void append_tlvs(std::string& header, const ProxyOut& out) {
  const auto wanted = [&out](conf::ProxyTlv tlv) {
    return std::ranges::find(out.tlvs, tlv) != out.tlvs.end();
  };
  const auto set_length = [&header](size_t whole) {
    const size_t length = whole - (length_at + 2);
    header[length_at] = static_cast<char>(length >> 8 & 0xFF);
    header[length_at + 1] = static_cast<char>(length & 0xFF);
  };

  if (wanted(conf::ProxyTlv::alpn)) append_text(header, type_alpn, out.alpn);
  if (wanted(conf::ProxyTlv::authority)) append_text(header, type_authority, out.authority);
  if (wanted(conf::ProxyTlv::unique_id)) append_text(header, type_unique_id, out.unique_id, unique_id_max);
  if (wanted(conf::ProxyTlv::ssl) && out.tls) {
    // verify is zero only for a client certificate that was accepted, and Postern asks for none.
    std::string ssl("\x01\x00\x00\x00\x01", ssl_head);
    append_text(ssl, type_ssl_version, out.tls_version);
    append_text(ssl, type_ssl_cipher, out.tls_cipher);
    append_text(ssl, type_ssl_group, out.tls_group);
    append_text(ssl, type_ssl_sig_scheme, out.tls_sig_scheme);
    append_head(header, type_ssl, ssl.size());
    header += ssl;
  }
  if (wanted(conf::ProxyTlv::crc32c)) {
    append_head(header, type_crc32c, 4);
    set_length(header.size() + 4);  // the sum covers the final length
    uint32_t crc = crc32c({reinterpret_cast<const uint8_t*>(header.data()), header.size()});
    crc = crc32c(std::array<uint8_t, 4>{}, crc);
    for (const int shift : {24, 16, 8, 0}) header += static_cast<char>(crc >> shift & 0xFF);
  }
  set_length(header.size());
}

}  // namespace postern::protocols
