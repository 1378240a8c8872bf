// SPDX-License-Identifier: GPL-3.0-or-later
// PEM and DER: the input as text of a certificate and, behind a NUL, of a key; and the whole input as DER.
#include "test/fuzz/tls_fuzz.hpp"
#include "tls/der.hpp"
#include "tls/pem.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace postern;
  using namespace postern::tls;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const PemBlock& block : pem_blocks(text)) {
    demand(block.text.starts_with("-----BEGIN ") && block.text.size() <= size);
    const auto bytes = pem_bytes(block);
    if (!bytes) continue;
    // What was read can be written and read again.
    const std::string written = pem_text(block.label, *bytes);
    const auto again = pem_blocks(written);
    demand(again.size() == 1 && again[0].label == block.label);
    if (!bytes->empty()) demand(*pem_bytes(again[0]) == *bytes);
    (void)read_certificate(*bytes);
  }
  if (const auto facts = read_certificate({data, size})) {
    for (const auto& names : {facts->dns_names, facts->common_names})
      for (const std::string& name : names)
        demand(!name.empty() &&
               std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c < 0x7f; }));
  }
  const size_t cut = std::min(text.find('\0'), text.size());
  const std::string_view chain = text.substr(0, cut), key = text.substr(std::min(cut + 1, text.size()));
  if (pem_path(chain) || pem_path(key)) return 0;  // never a file
  const Pair pair = load_pair(chain, conf::Secret(std::string(key)));
  if (pair.error.empty()) demand(!pair.certificate.chain_pem.empty() && !pair.certificate.key_pem.empty());
  return 0;
}
