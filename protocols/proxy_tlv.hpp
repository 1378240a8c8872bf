// SPDX-License-Identifier: GPL-3.0-or-later
// The type-length-values behind the addresses of a version 2 PROXY header, read and written. For
// proxy_header.cpp and its tests; everyone else uses proxy_header.hpp.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "protocols/proxy_header.hpp"

namespace postern::protocols {

/// CRC-32C (Castagnoli), as RFC 3720 has it. `crc` continues an earlier sum.
uint32_t crc32c(std::span<const uint8_t> bytes, uint32_t crc = 0);

/// The bytes of a header so far. Invariant: tlvs_at <= total; `bytes` ends at the header's end at the latest.
struct TlvArea {
  std::span<const uint8_t> bytes;
  size_t tlvs_at = 0;  // where the TLVs begin
  size_t total = 0;    // the whole header, as it announces itself
};

/// Null while every TLV begun so far can still be valid; else one clause that says what is wrong. The
/// checksum is looked at once the header is whole.
const char* check_tlvs(const TlvArea& area);
/// Copies the known TLVs of a whole, checked header. Of a kind sent twice the first counts.
void take_tlvs(const TlvArea& area, ProxyHeader& header);

/// Appends the chosen TLVs behind the addresses in `header`, always in this order: alpn, authority,
/// unique_id, ssl (version, cipher, group, signature scheme), crc32c. Sets the header's length field.
void append_tlvs(std::string& header, const ProxyOut& out);

}  // namespace postern::protocols
