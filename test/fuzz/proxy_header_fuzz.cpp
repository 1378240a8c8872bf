// SPDX-License-Identifier: GPL-3.0-or-later
// The PROXY parser under any bytes: no verdict is ever taken back as bytes arrive, consumed bytes exist, and
// what is written from what was read reads back the same.
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "protocols/proxy_header.hpp"

using namespace postern;
using namespace postern::protocols;

namespace {

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

constexpr std::array every = {conf::ProxyTlv::ssl, conf::ProxyTlv::authority, conf::ProxyTlv::alpn,
                              conf::ProxyTlv::unique_id, conf::ProxyTlv::crc32c};

bool same_ends(const ProxyHeader& a, const ProxyHeader& b) {
  return a.local == b.local && a.source == b.source && a.destination == b.destination;
}

/// The verdict over growing input: `more` until the length that settles it, and then for ever the same.
void check_growth(std::span<const uint8_t> bytes, const ProxyParse& whole) {
  for (size_t n = bytes.size(); n-- > 0;) {
    const ProxyParse part = parse_proxy_header(bytes.first(n));
    if (part.verdict == ProxyVerdict::more) {
      require(whole.verdict != ProxyVerdict::complete || n < whole.consumed, "complete, then more");
      require(n == 0 || parse_proxy_header(bytes.first(n - 1)).verdict == ProxyVerdict::more,
              "settled, then more");
    } else {
      require(part.verdict == whole.verdict, "a verdict taken back");
      require(part.consumed == whole.consumed, "another length");
      require(same_ends(part.header, whole.header), "other addresses");
    }
  }
}

void check_round_trip(const ProxyHeader& read) {
  ProxyOut out;
  out.source = read.source;
  out.destination = read.destination;
  out.map_v4 = true;
  out.tlvs = every;
  out.alpn = read.alpn;
  out.authority = read.authority;
  out.unique_id = read.unique_id;
  if (read.ssl) {
    out.tls = true;
    out.tls_version = read.ssl->version;
    out.tls_cipher = read.ssl->cipher;
    out.tls_group = read.ssl->group;
    out.tls_sig_scheme = read.ssl->sig_scheme;
  }
  const std::string written = write_proxy_header(out);
  const ProxyParse back =
      parse_proxy_header({reinterpret_cast<const uint8_t*>(written.data()), written.size()});
  require(back.verdict == ProxyVerdict::complete, "written, but not readable");
  require(back.consumed == written.size(), "written longer than read");
  require(!back.header.local && back.header.source == read.source, "another source");
  require(back.header.destination == read.destination, "another destination");
  const auto kept = [](const std::string& was, const std::string& is, size_t limit) {
    return is == (was.size() <= limit ? was : std::string());
  };
  require(kept(read.alpn, back.header.alpn, 255), "another ALPN");
  require(kept(read.authority, back.header.authority, 255), "another authority");
  require(kept(read.unique_id, back.header.unique_id, 128), "another unique id");
  require(back.header.ssl.has_value() == read.ssl.has_value(), "SSL lost or found");
  if (read.ssl) require(kept(read.ssl->cipher, back.header.ssl->cipher, 255), "another cipher");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const uint8_t> bytes(data, size);
  const ProxyParse whole = parse_proxy_header(bytes);
  require((whole.verdict == ProxyVerdict::malformed) == (whole.reason[0] != '\0'),
          "a reason with malformed only");
  require(whole.consumed <= size, "consumed more than there is");
  if (whole.verdict == ProxyVerdict::more) require(size < proxy_v2_max, "more than any header");
  if (whole.verdict == ProxyVerdict::complete) {
    require(whole.consumed >= 15, "shorter than any header");
    require(whole.consumed <= (whole.header.version == 1 ? proxy_v1_max : proxy_v2_max),
            "longer than any header");
    check_round_trip(whole.header);
  } else {
    require(whole.consumed == 0, "consumed without a header");
  }
  if (size <= 512) check_growth(bytes, whole);
  return 0;
}
