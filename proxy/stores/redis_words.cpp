// SPDX-License-Identifier: GPL-3.0-or-later
// One row an error code.
#include "proxy/stores/redis_words.hpp"

#include <algorithm>
#include <array>

#include "conf/scalars.hpp"
#include "conf/text.hpp"

namespace postern::proxy {
namespace {

struct Row {
  std::string_view code;
  RedisRefusal refusal;
  std::string_view words;
};
constexpr Row rows[] = {
    {"LOADING", RedisRefusal::loading, "the server is loading its data (LOADING)"},
    {"MASTERDOWN", RedisRefusal::loading, "the server has lost its master and does not answer (MASTERDOWN)"},
    {"CLUSTERDOWN", RedisRefusal::loading, "the cluster is down (CLUSTERDOWN)"},
    {"TRYAGAIN", RedisRefusal::loading, "the slot is being moved (TRYAGAIN)"},
    {"BUSY", RedisRefusal::loading, "the server is busy with a script (BUSY)"},
    {"OOM", RedisRefusal::other, "the server is out of memory (OOM)"},
    {"MISCONF", RedisRefusal::other, "the server cannot save its data and takes no writes (MISCONF)"},
    {"NOREPLICAS", RedisRefusal::other, "the server has too few replicas and takes no writes (NOREPLICAS)"},
    {"READONLY", RedisRefusal::read_only, "the server is a replica and takes no writes (READONLY)"},
    {"NOAUTH", RedisRefusal::login, "the server asks for a password (NOAUTH)"},
    {"WRONGPASS", RedisRefusal::login, "the server refused the user or the password (WRONGPASS)"},
    {"NOPERM", RedisRefusal::other, "the user may not do this (NOPERM)"},
    {"WRONGTYPE", RedisRefusal::other, "the key holds no text (WRONGTYPE)"},
    {"DENIED", RedisRefusal::login, "the server is in protected mode (DENIED)"},
};

bool is_code(std::string_view word) {
  return !word.empty() && word.size() <= 24 &&
         std::all_of(word.begin(), word.end(), [](char c) { return (c >= 'A' && c <= 'Z') || c == '_'; });
}

/// "SLOT HOST:PORT"; the port stands behind the last colon, since IPv6 addresses come without brackets.
bool read_place(std::string_view text, RedisError& error) {
  const size_t space = text.find(' ');
  if (space == std::string_view::npos) return false;
  const auto slot = conf::parse_number(text.substr(0, space), redis_slots - 1);
  const std::string_view place = text.substr(space + 1);
  const size_t colon = place.rfind(':');
  if (!slot || colon == std::string_view::npos) return false;
  const auto port = conf::parse_number(place.substr(colon + 1), UINT16_MAX);
  const std::string_view host = place.substr(0, colon);
  if (!port || *port == 0 || (!host.empty() && !conf::is_host(host))) return false;
  error.slot = static_cast<uint16_t>(*slot);
  error.place = {std::string(host), static_cast<uint16_t>(*port)};
  return true;
}

constexpr std::array<uint16_t, 256> crc_table = [] {
  std::array<uint16_t, 256> table{};
  for (unsigned i = 0; i < 256; ++i) {
    unsigned crc = i << 8;
    for (int bit = 0; bit < 8; ++bit) crc = (crc << 1) ^ ((crc & 0x8000) ? 0x1021 : 0);
    table[i] = static_cast<uint16_t>(crc);
  }
  return table;
}();

}  // namespace

RedisError read_error(std::string_view text) {
  const std::string_view code = text.substr(0, text.find(' '));
  RedisError error;
  if (code == "MOVED" || code == "ASK") {
    error.refusal = code == "ASK" ? RedisRefusal::ask : RedisRefusal::moved;
    if (code.size() < text.size() && read_place(text.substr(code.size() + 1), error)) return error;
    error.refusal = RedisRefusal::other;
    error.words = "the cluster sends to a place that cannot be read";
    return error;
  }
  for (const Row& row : rows)
    if (row.code == code) return {row.refusal, std::string(row.words), 0, {}};
  error.words = "the server answered with an error";
  // Redis before 6 says so in a sentence.
  if (text.starts_with("ERR invalid password") || text.starts_with("ERR Client sent AUTH"))
    return {RedisRefusal::login, "the server refused the password, or has none", 0, {}};
  if (text.starts_with("ERR max number of clients"))
    return {RedisRefusal::login, "the server has too many clients", 0, {}};
  if (is_code(code)) error.words += " (" + std::string(code) + ")";
  return error;
}

uint16_t slot_of(std::string_view key) {
  if (const size_t open = key.find('{'); open != std::string_view::npos)
    if (const size_t close = key.find('}', open + 1); close != std::string_view::npos && close > open + 1)
      key = key.substr(open + 1, close - open - 1);
  uint16_t crc = 0;
  for (const char c : key)
    crc = static_cast<uint16_t>((crc << 8) ^ crc_table[((crc >> 8) ^ static_cast<uint8_t>(c)) & 0xff]);
  return crc % redis_slots;
}

NetworkClass network_class(const conf::Ip& ip) {
  static const auto local = [] {
    std::array<conf::Cidr, 7> ranges;
    constexpr const char* texts[] = {"10.0.0.0/8",     "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10",
                                     "169.254.0.0/16", "fc00::/7",      "fe80::/10"};
    for (size_t i = 0; i < ranges.size(); ++i) ranges[i] = *conf::Cidr::parse(texts[i]);
    return ranges;
  }();
  if (ip.is_loopback()) return NetworkClass::loopback;
  const bool inside =
      std::any_of(local.begin(), local.end(), [&ip](const auto& range) { return range.contains(ip); });
  return inside ? NetworkClass::local : NetworkClass::open;
}

bool may_follow(const conf::Ip& from, const conf::Ip& to) {
  return from == to || (network_class(from) == network_class(to) && network_class(to) != NetworkClass::open);
}

}  // namespace postern::proxy
