// SPDX-License-Identifier: GPL-3.0-or-later
// Base64 under any bytes: what is written reads back, what is read is what a slow reader of the rule reads.
#include "protocols/base64.hpp"

#include "test/fuzz/require.hpp"

using namespace postern;
using fuzz::require;

namespace {

/// protocols.md 1.4 word by word: white space gone, padding whole or missing, digits to bits.
std::optional<std::string> slowly(std::string_view text, std::string_view alphabet, bool spaces) {
  std::string digits;
  for (const char c : text)
    if (!spaces || std::string_view(" \t\r\n\f\v").find(c) == std::string_view::npos) digits += c;
  const size_t pad = digits.find('=');
  if (pad != std::string::npos) {
    if (digits.size() % 4 != 0 || digits.size() - pad > 2 ||
        digits.find_first_not_of('=', pad) != std::string::npos)
      return std::nullopt;
    digits.resize(pad);
  }
  if (digits.size() % 4 == 1) return std::nullopt;
  std::string bits, bytes;
  for (const char c : digits) {
    const size_t value = alphabet.find(c);
    if (value == std::string_view::npos) return std::nullopt;
    for (int bit = 5; bit >= 0; --bit) bits += (value >> bit & 1) != 0 ? '1' : '0';
  }
  for (size_t i = 0; i + 8 <= bits.size(); i += 8) {
    int byte = 0;
    for (size_t bit = i; bit < i + 8; ++bit) byte = byte * 2 + (bits[bit] - '0');
    bytes += static_cast<char>(byte);
  }
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = fuzz::text_of(data, size);
  const std::string letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  require(protocols::from_base64(text) == slowly(text, letters + "+/", true), "another reading");
  require(protocols::from_base64url(text) == slowly(text, letters + "-_", false), "another reading, URL");
  const std::string written = protocols::base64(text);
  require(written.size() == (size + 2) / 3 * 4, "another length");
  require(protocols::from_base64(written) == text, "written, but not readable");
  require(written.find_first_not_of(letters + "+/=") == std::string::npos, "a byte out of place");
  return 0;
}
