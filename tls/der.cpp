// SPDX-License-Identifier: GPL-3.0-or-later
// RFC 5280 4.1, read strictly where we need it and skipped where we do not.
#include "tls/der.hpp"

#include <algorithm>
#include <bit>

namespace postern::tls {
namespace {

using Bytes = std::span<const uint8_t>;

constexpr uint8_t integer = 0x02, bit_string = 0x03, octet_string = 0x04, oid = 0x06, sequence = 0x30,
                  set = 0x31, boolean = 0x01, utc_time = 0x17, generalized_time = 0x18;

constexpr uint8_t oid_rsa[] = {0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1};
constexpr uint8_t oid_ec[] = {0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1};
constexpr uint8_t oid_p256[] = {0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7};
constexpr uint8_t oid_p384[] = {0x2b, 0x81, 4, 0, 0x22};
constexpr uint8_t oid_p521[] = {0x2b, 0x81, 4, 0, 0x23};
constexpr uint8_t oid_ed25519[] = {0x2b, 0x65, 0x70};
constexpr uint8_t oid_common_name[] = {0x55, 4, 3};
constexpr uint8_t oid_alternative_names[] = {0x55, 0x1d, 0x11};

bool is(Bytes a, Bytes b) { return std::equal(a.begin(), a.end(), b.begin(), b.end()); }

/// Text of printable ASCII bytes or nothing: a NUL inside a name must never cut it short.
std::optional<std::string> text(Bytes bytes) {
  if (bytes.empty() || bytes.size() > 255) return std::nullopt;
  if (!std::all_of(bytes.begin(), bytes.end(), [](uint8_t c) { return c > 0x20 && c < 0x7f; }))
    return std::nullopt;
  return std::string(bytes.begin(), bytes.end());
}

/// UTCTime or GeneralizedTime, seconds and "Z" present as RFC 5280 demands.
bool time(DerReader& in, std::time_t& out) {
  const bool century = in.next_tag() == generalized_time;
  const Bytes digits = in.take(century ? generalized_time : utc_time);
  const size_t wide = century ? 4 : 2;
  if (!in.ok() || digits.size() != wide + 11 || digits.back() != 'Z') return false;
  const auto body = digits.first(digits.size() - 1);
  if (!std::all_of(body.begin(), body.end(), [](uint8_t c) { return c >= '0' && c <= '9'; })) return false;
  const auto number = [&](size_t at, size_t width) {
    int value = 0;
    for (size_t i = at; i < at + width; ++i) value = value * 10 + (digits[i] - '0');
    return value;
  };
  std::tm tm{};
  const int year = number(0, wide);
  tm.tm_year = century ? year - 1900 : year < 50 ? year + 100 : year;
  tm.tm_mon = number(wide, 2) - 1;
  tm.tm_mday = number(wide + 2, 2);
  tm.tm_hour = number(wide + 4, 2);
  tm.tm_min = number(wide + 6, 2);
  tm.tm_sec = number(wide + 8, 2);
  if (tm.tm_mon < 0 || tm.tm_mon > 11 || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour > 23 ||
      tm.tm_min > 59 || tm.tm_sec > 60)
    return false;
  out = timegm(&tm);
  return true;
}

bool subject(Bytes name, CertificateFacts& facts) {
  DerReader rdns(name);
  while (rdns.ok() && !rdns.done()) {
    DerReader rdn(rdns.take(set));
    while (rdn.ok() && !rdn.done()) {
      DerReader attribute(rdn.take(sequence));
      const Bytes type = attribute.take(oid);
      const Bytes value = attribute.take(attribute.next_tag());
      if (!attribute.ok()) return false;
      if (!is(type, oid_common_name)) continue;
      if (auto name_text = text(value)) facts.common_names.push_back(std::move(*name_text));
    }
    if (!rdn.ok()) return false;
  }
  return rdns.ok();
}

bool key(Bytes info, CertificateFacts& facts) {
  DerReader in(info);
  DerReader algorithm(in.take(sequence));
  const Bytes type = algorithm.take(oid);
  const Bytes bits = in.take(bit_string);
  if (!in.ok() || !algorithm.ok() || bits.empty()) return false;
  if (is(type, oid_ed25519)) {
    facts.key = KeyKind::ed25519;
  } else if (is(type, oid_ec)) {
    const auto curve = algorithm.maybe(oid);
    facts.public_key.assign(bits.begin() + 1, bits.end());
    facts.key = !curve                 ? KeyKind::other
                : is(*curve, oid_p256) ? KeyKind::p256
                : is(*curve, oid_p384) ? KeyKind::p384
                : is(*curve, oid_p521) ? KeyKind::p521
                                       : KeyKind::other;
  } else if (is(type, oid_rsa)) {
    DerReader rsa(DerReader(bits.subspan(1)).take(sequence));
    Bytes modulus = rsa.take(integer);
    if (!rsa.ok()) return false;
    while (!modulus.empty() && modulus[0] == 0) modulus = modulus.subspan(1);
    facts.key = KeyKind::rsa;
    facts.public_key.assign(modulus.begin(), modulus.end());
    if (!modulus.empty())
      facts.rsa_bits = static_cast<unsigned>((modulus.size() - 1) * 8 + std::bit_width(unsigned{modulus[0]}));
  }
  return true;
}

bool alternative_names(Bytes value, CertificateFacts& facts) {
  DerReader outer(value);
  DerReader names(outer.take(sequence));
  if (!outer.ok()) return false;
  while (names.ok() && !names.done()) {
    const uint8_t tag = names.next_tag();
    const Bytes name = names.take(tag);
    if (tag == 0x82) {  // dNSName
      if (auto dns = text(name)) facts.dns_names.push_back(std::move(*dns));
    } else if (tag == 0x87 && (name.size() == 4 || name.size() == 16)) {  // iPAddress
      facts.ip_addresses.emplace_back(name.begin(), name.end());
    }
  }
  return names.ok();
}

bool extensions(Bytes wrapped, CertificateFacts& facts) {
  DerReader outer(wrapped);
  DerReader list(outer.take(sequence));
  if (!outer.ok()) return false;
  while (list.ok() && !list.done()) {
    DerReader extension(list.take(sequence));
    const Bytes type = extension.take(oid);
    (void)extension.maybe(boolean);
    const Bytes value = extension.take(octet_string);
    if (!extension.ok()) return false;
    if (is(type, oid_alternative_names) && !alternative_names(value, facts)) return false;
  }
  return list.ok();
}

}  // namespace

std::span<const uint8_t> DerReader::any() {
  const auto fail = [this] {
    ok_ = false;
    rest_ = {};
    return Bytes{};
  };
  if (rest_.size() < 2 || (rest_[0] & 0x1f) == 0x1f) return fail();  // tags of several bytes do not occur
  size_t length = rest_[1], header = 2;
  if (length & 0x80) {
    const size_t width = length & 0x7f;
    if (width == 0 || width > 4 || rest_.size() < 2 + width) return fail();
    length = 0;
    for (size_t i = 0; i < width; ++i) length = length << 8 | rest_[2 + i];
    header += width;
  }
  if (length > rest_.size() - header) return fail();
  const Bytes content = rest_.subspan(header, length);
  rest_ = rest_.subspan(header + length);
  return content;
}

std::span<const uint8_t> DerReader::take(uint8_t tag) {
  if (next_tag() != tag) {
    ok_ = false;
    rest_ = {};
    return {};
  }
  return any();
}

std::optional<std::span<const uint8_t>> DerReader::maybe(uint8_t tag) {
  if (rest_.empty() || next_tag() != tag) return std::nullopt;
  return any();
}

void DerReader::skip() { any(); }

conf::Result<CertificateFacts> read_certificate(std::span<const uint8_t> der) {
  const auto malformed = [] { return conf::error("not a certificate"); };
  CertificateFacts facts;
  DerReader outer(der);
  DerReader certificate(outer.take(sequence));
  DerReader body(certificate.take(sequence));
  certificate.take(sequence);    // signature algorithm
  certificate.take(bit_string);  // signature
  if (!outer.ok() || !outer.done() || !certificate.ok() || !certificate.done()) return malformed();

  (void)body.maybe(0xa0);  // version
  body.take(integer);      // serial number
  body.take(sequence);     // signature algorithm
  body.take(sequence);     // issuer
  DerReader validity(body.take(sequence));
  const Bytes subject_name = body.take(sequence);
  const Bytes key_info = body.take(sequence);
  if (!body.ok() || !time(validity, facts.not_before) || !time(validity, facts.not_after)) return malformed();
  if (!subject(subject_name, facts) || !key(key_info, facts)) return malformed();
  (void)body.maybe(0x81);  // issuer's unique id
  (void)body.maybe(0xa1);
  (void)body.maybe(0x82);  // subject's unique id
  (void)body.maybe(0xa2);
  if (const auto wrapped = body.maybe(0xa3))
    if (!extensions(*wrapped, facts)) return malformed();
  if (!body.ok() || !body.done()) return malformed();
  return facts;
}

}  // namespace postern::tls
