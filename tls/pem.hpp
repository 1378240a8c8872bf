// SPDX-License-Identifier: GPL-3.0-or-later
// PEM text (RFC 7468) cut into its blocks. Text around and between blocks is skipped, as tools write it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "conf/result.hpp"

namespace postern::tls {

struct PemBlock {
  std::string_view label;  // "CERTIFICATE"
  std::string_view text;   // from "-----BEGIN" to the end of the "-----END ...-----" line
  std::string_view body;   // between the two lines, headers included
};

/// All complete blocks, in order. A block that never ends, or ends under another label, ends the list.
std::vector<PemBlock> pem_blocks(std::string_view text);

/// The bytes of a block without headers; an error if it is not base64.
conf::Result<std::vector<uint8_t>> pem_bytes(const PemBlock& block);

/// The reverse: one block with lines of 64 characters.
std::string pem_text(std::string_view label, std::span<const uint8_t> bytes);

}  // namespace postern::tls
