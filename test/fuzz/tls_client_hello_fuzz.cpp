// SPDX-License-Identifier: GPL-3.0-or-later
// The ClientHello reader: any split of the bytes gives the same answer and takes the same number of them.
// The first byte chooses the split.
#include <algorithm>

#include "test/fuzz/tls_fuzz.hpp"
#include "tls/client_hello.hpp"

namespace {

using namespace postern::tls;

struct Result {
  HelloReader reader;
  HelloReader::Status status = HelloReader::Status::want_input;
  size_t taken = 0;
};

void run(Result& result, std::span<const uint8_t> bytes, size_t piece) {
  while (result.taken < bytes.size() && result.status == HelloReader::Status::want_input) {
    Input in{bytes.data() + result.taken, std::min(piece, bytes.size() - result.taken)};
    const size_t given = in.size;
    result.status = result.reader.feed(in);
    result.taken += given - in.size;
    if (result.status == HelloReader::Status::want_input) demand(in.size == 0);
  }
}

bool same(std::span<const uint8_t> a, std::span<const uint8_t> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Script script(data, size);
  const size_t piece = size_t{1} + script.byte() % 64;
  Result whole, split;
  run(whole, script.rest(), SIZE_MAX);
  run(split, script.rest(), piece);
  demand(whole.status == split.status && whole.taken == split.taken);
  demand(whole.reader.failure() == split.reader.failure() && whole.reader.alert() == split.reader.alert());
  const ClientHello &a = whole.reader.hello(), &b = split.reader.hello();
  demand(a.server_name == b.server_name && a.tls12 == b.tls12 && a.tls13 == b.tls13);
  if (whole.status == HelloReader::Status::failed) demand(whole.reader.failure() != Failure::none);
  if (whole.status != HelloReader::Status::complete) return 0;
  demand(same(a.suites, b.suites) && same(a.groups, b.groups) && same(a.alpn, b.alpn) &&
         same(a.signature_algorithms, b.signature_algorithms) &&
         same(whole.reader.record(), split.reader.record()));
  demand(a.server_name.size() <= 253 && a.server_name.find('\0') == std::string::npos);
  // The one record it makes of it reads as the same hello.
  Result again;
  run(again, whole.reader.record(), SIZE_MAX);
  demand(again.status == HelloReader::Status::complete && again.taken == whole.reader.record().size());
  demand(same(again.reader.record(), whole.reader.record()) &&
         again.reader.hello().server_name == a.server_name);
  const std::string ours[] = {"h2", "imap"};
  demand(a.choose_alpn(ours) == b.choose_alpn(ours));
  return 0;
}
