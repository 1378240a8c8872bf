// SPDX-License-Identifier: GPL-3.0-or-later
// Linear: every search starts where the last one ended.
#include "tls/pem.hpp"

#include <array>

namespace postern::tls {
namespace {

constexpr std::string_view begin_mark = "-----BEGIN ", end_mark = "-----END ", dashes = "-----";

constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr uint8_t no_digit = 64;
constexpr std::array<uint8_t, 256> base64_values = [] {
  std::array<uint8_t, 256> table{};
  table.fill(no_digit);
  for (size_t i = 0; i < digits.size(); ++i) table[static_cast<uint8_t>(digits[i])] = static_cast<uint8_t>(i);
  return table;
}();

}  // namespace

std::vector<PemBlock> pem_blocks(std::string_view text) {
  std::vector<PemBlock> blocks;
  size_t at = 0;
  while ((at = text.find(begin_mark, at)) != std::string_view::npos) {
    const size_t label_at = at + begin_mark.size();
    const size_t label_end = text.find(dashes, label_at);
    if (label_end == std::string_view::npos) break;
    const std::string_view label = text.substr(label_at, label_end - label_at);
    const size_t body_at = label_end + dashes.size();
    const size_t end = text.find(end_mark, body_at);
    if (end == std::string_view::npos) break;
    const std::string_view closing = text.substr(end + end_mark.size());
    if (!closing.starts_with(label) || !closing.substr(label.size()).starts_with(dashes)) break;
    const size_t past = end + end_mark.size() + label.size() + dashes.size();
    blocks.push_back({label, text.substr(at, past - at), text.substr(body_at, end - body_at)});
    at = past;
  }
  return blocks;
}

conf::Result<std::vector<uint8_t>> pem_bytes(const PemBlock& block) {
  std::vector<uint8_t> bytes;
  bytes.reserve(block.body.size() / 4 * 3);
  unsigned bits = 0, count = 0, padding = 0;
  for (char c : block.body) {
    if (c == ' ' || c == '\t' || c == '\r' || c == '\n') continue;
    const uint8_t value = base64_values[static_cast<uint8_t>(c)];
    if (c == '=') {
      if (++padding > 2) return conf::error("not base64 between the PEM lines");
    } else if (value == no_digit || padding > 0) {
      return conf::error("not base64 between the PEM lines");
    } else {
      bits = bits << 6 | value;
    }
    if (++count % 4 != 0) continue;
    bits <<= 6 * padding;
    for (unsigned i = 0; i + padding < 3; ++i) bytes.push_back(static_cast<uint8_t>(bits >> (16 - 8 * i)));
    bits = 0;
  }
  if (count == 0 || count % 4 != 0) return conf::error("not base64 between the PEM lines");
  return bytes;
}

std::string pem_text(std::string_view label, std::span<const uint8_t> bytes) {
  std::string text = std::string(begin_mark).append(label).append("-----\n");
  size_t column = 0;
  for (size_t at = 0; at < bytes.size(); at += 3) {
    unsigned bits = 0;
    for (size_t i = at; i < at + 3; ++i) bits = bits << 8 | (i < bytes.size() ? bytes[i] : 0u);
    for (unsigned i = 0; i < 4; ++i) text += at + i > bytes.size() ? '=' : digits[bits >> (18 - 6 * i) & 63];
    if (++column % 16 == 0) text += '\n';
  }
  if (column % 16 != 0) text += '\n';
  return text.append(end_mark).append(label).append("-----\n");
}

}  // namespace postern::tls
