// SPDX-License-Identifier: GPL-3.0-or-later
// The tables behind names.hpp and the name() functions of config.hpp.
#include "conf/names.hpp"

#include <algorithm>
#include <array>
#include <string>

#include "conf/text.hpp"

namespace postern::conf {
namespace {

constexpr std::array<Word<Protocol>, 10> protocols = {{{"imap", Protocol::imap},
                                                       {"pop3", Protocol::pop3},
                                                       {"managesieve", Protocol::managesieve},
                                                       {"submission", Protocol::submission},
                                                       {"smtp", Protocol::smtp},
                                                       {"lmtp", Protocol::lmtp},
                                                       {"http", Protocol::http},
                                                       {"manageSieve", Protocol::managesieve},
                                                       {"jmap", Protocol::http},
                                                       {"https", Protocol::http}}};
constexpr std::array<Word<TlsMode>, 3> tls_modes = {
    {{"implicit", TlsMode::implicit}, {"starttls", TlsMode::starttls}, {"plain", TlsMode::plain}}};
constexpr std::array<Word<ProxyMode>, 3> proxy_modes = {
    {{"off", ProxyMode::off}, {"optional", ProxyMode::optional}, {"required", ProxyMode::required}}};
constexpr std::array<Word<Forwarding>, 3> forwardings = {
    {{"proxy", Forwarding::proxy}, {"xclient", Forwarding::xclient}, {"none", Forwarding::none}}};
constexpr std::array<Word<HeaderTrust>, 2> header_trusts = {
    {{"off", HeaderTrust::off}, {"trust", HeaderTrust::trust}}};
constexpr std::array<Word<LogFormat>, 2> log_formats = {
    {{"logfmt", LogFormat::logfmt}, {"json", LogFormat::json}}};
constexpr std::array<Word<LogLevel>, 6> log_levels = {{{"off", LogLevel::off},
                                                       {"error", LogLevel::error},
                                                       {"warn", LogLevel::warn},
                                                       {"info", LogLevel::info},
                                                       {"debug", LogLevel::debug},
                                                       {"trace", LogLevel::trace}}};
constexpr std::array<Word<Normalize>, 2> normalizes = {
    {{"none", Normalize::none}, {"lowercase", Normalize::lowercase}}};
constexpr std::array<Word<MappingSource>, 3> sources = {
    {{"file", MappingSource::file}, {"redis", MappingSource::redis}, {"sql", MappingSource::sql}}};
constexpr std::array<Word<OnError>, 3> on_errors = {
    {{"stale", OnError::stale}, {"refuse", OnError::refuse}, {"default", OnError::fallback}}};
constexpr std::array<Word<ProxyTlv>, 5> tlvs = {{{"ssl", ProxyTlv::ssl},
                                                 {"authority", ProxyTlv::authority},
                                                 {"alpn", ProxyTlv::alpn},
                                                 {"unique_id", ProxyTlv::unique_id},
                                                 {"crc32c", ProxyTlv::crc32c}}};

// The documented names are the object enumerators in capitals with "_" for "-", so folding covers both; what
// is left are the IANA names of TLS 1.3 and the style of wolfSSL and OpenSSL.
constexpr std::array<std::string_view, suite_count> suite_names = {
    "TLS13_AES_256_GCM_SHA384",
    "TLS13_AES_128_GCM_SHA256",
    "TLS13_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"};
constexpr std::array<Word<Suite>, 11> suite_spellings = {
    {{"tls-aes-256-gcm-sha384", Suite::tls13_aes_256_gcm_sha384},
     {"tls13-aes256-gcm-sha384", Suite::tls13_aes_256_gcm_sha384},
     {"tls-aes-128-gcm-sha256", Suite::tls13_aes_128_gcm_sha256},
     {"tls13-aes128-gcm-sha256", Suite::tls13_aes_128_gcm_sha256},
     {"tls-chacha20-poly1305-sha256", Suite::tls13_chacha20_poly1305_sha256},
     {"ecdhe-ecdsa-aes256-gcm-sha384", Suite::ecdhe_ecdsa_aes_256_gcm_sha384},
     {"ecdhe-ecdsa-aes128-gcm-sha256", Suite::ecdhe_ecdsa_aes_128_gcm_sha256},
     {"ecdhe-ecdsa-chacha20-poly1305", Suite::ecdhe_ecdsa_chacha20_poly1305},
     {"ecdhe-rsa-aes256-gcm-sha384", Suite::ecdhe_rsa_aes_256_gcm_sha384},
     {"ecdhe-rsa-aes128-gcm-sha256", Suite::ecdhe_rsa_aes_128_gcm_sha256},
     {"ecdhe-rsa-chacha20-poly1305", Suite::ecdhe_rsa_chacha20_poly1305}}};

constexpr std::array<std::string_view, 4> group_names = {"X25519MLKEM768", "X25519", "SECP256R1",
                                                         "SECP384R1"};
constexpr std::array<std::string_view, 2> version_names = {"TLSv1.2", "TLSv1.3"};

constexpr std::array<Word<Group>, 6> groups = {{{"x25519mlkem768", Group::x25519mlkem768},
                                                {"x25519", Group::x25519},
                                                {"secp256r1", Group::secp256r1},
                                                {"p-256", Group::secp256r1},
                                                {"secp384r1", Group::secp384r1},
                                                {"p-384", Group::secp384r1}}};
constexpr std::array<Word<TlsVersion>, 6> versions = {{{"tlsv1.3", TlsVersion::tls13},
                                                       {"tls13", TlsVersion::tls13},
                                                       {"1.3", TlsVersion::tls13},
                                                       {"tlsv1.2", TlsVersion::tls12},
                                                       {"tls12", TlsVersion::tls12},
                                                       {"1.2", TlsVersion::tls12}}};

std::string folded(std::string_view text) {
  std::string out = ascii_lower(text);
  std::replace(out.begin(), out.end(), '_', '-');
  return out;
}

template <class E, size_t n>
std::optional<E> find(const std::array<Word<E>, n>& table, const std::string& wanted) {
  for (const auto& word : table) {
    if (word.text == wanted) return word.value;
  }
  return std::nullopt;
}

}  // namespace

template <>
std::span<const Word<Protocol>> words() {
  return protocols;
}
template <>
std::span<const Word<TlsMode>> words() {
  return tls_modes;
}
template <>
std::span<const Word<ProxyMode>> words() {
  return proxy_modes;
}
template <>
std::span<const Word<Forwarding>> words() {
  return forwardings;
}
template <>
std::span<const Word<HeaderTrust>> words() {
  return header_trusts;
}
template <>
std::span<const Word<LogFormat>> words() {
  return log_formats;
}
template <>
std::span<const Word<LogLevel>> words() {
  return log_levels;
}
template <>
std::span<const Word<Normalize>> words() {
  return normalizes;
}
template <>
std::span<const Word<MappingSource>> words() {
  return sources;
}
template <>
std::span<const Word<OnError>> words() {
  return on_errors;
}
template <>
std::span<const Word<ProxyTlv>> words() {
  return tlvs;
}

std::string_view name(Protocol value) { return word_text(value); }
std::string_view name(TlsMode value) { return word_text(value); }
std::string_view name(ProxyMode value) { return word_text(value); }
std::string_view name(Forwarding value) { return word_text(value); }
std::string_view name(LogLevel value) { return word_text(value); }
std::string_view name(Suite value) { return suite_names[static_cast<size_t>(value)]; }
std::string_view name(Group value) { return group_names[static_cast<size_t>(value)]; }

template <>
std::span<const std::string_view> documented_names<Suite>() {
  return suite_names;
}
template <>
std::span<const std::string_view> documented_names<Group>() {
  return group_names;
}
template <>
std::span<const std::string_view> documented_names<TlsVersion>() {
  return version_names;
}

std::optional<Suite> suite_by_name(std::string_view text) {
  const std::string wanted = folded(text);
  for (size_t i = 0; i < suite_names.size(); ++i) {
    if (folded(suite_names[i]) == wanted) return static_cast<Suite>(i);
  }
  return find(suite_spellings, wanted);
}

std::optional<Group> group_by_name(std::string_view text) { return find(groups, folded(text)); }
std::optional<TlsVersion> version_by_name(std::string_view text) { return find(versions, folded(text)); }

}  // namespace postern::conf
