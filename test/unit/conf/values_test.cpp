// SPDX-License-Identifier: GPL-3.0-or-later
// Tables for everything that is text with a grammar: addresses, ranges, durations, names, hosts, pins,
// filters.
#include <sys/socket.h>

#include "conf/build/normalize.hpp"
#include "conf/build/patterns.hpp"
#include "conf/names.hpp"
#include "conf/scalars.hpp"
#include "conf/text.hpp"
#include "conf/utf8.hpp"
#include "test/unit/conf/fixture.hpp"

namespace postern::conf {
namespace {

struct Pair {
  std::string_view in, out;  // empty out: refused
};

}  // namespace

TEST_CASE("an address is read strictly and printed in its shortest form") {
  const Pair rows[] = {{"127.0.0.1", "127.0.0.1"},
                       {"0.0.0.0", "0.0.0.0"},
                       {"2001:DB8:0:0:0:0:0:1", "2001:db8::1"},
                       {"::", "::"},
                       {"::ffff:10.0.0.5", "10.0.0.5"},
                       {"::FFFF:0a00:0005", "10.0.0.5"},
                       {"", ""},
                       {"01.2.3.4", ""},
                       {"1.2.3", ""},
                       {"1.2.3.4.5", ""},
                       {"256.1.1.1", ""},
                       {" 1.2.3.4", ""},
                       {"1.2.3.4 ", ""},
                       {"fe80::1%eth0", ""},
                       {"[::1]", ""},
                       {"1:2:3", ""},
                       {"localhost", ""},
                       {std::string_view("1.2.3.4\0", 8), ""}};
  for (const auto& row : rows) {
    CAPTURE(row.in);
    const auto ip = Ip::parse(row.in);
    CHECK((ip ? ip->text() : "") == row.out);
  }
  CHECK(Ip::parse("::1")->is_loopback());
  CHECK(Ip::parse("127.9.9.9")->is_loopback());
  CHECK_FALSE(Ip::parse("128.0.0.1")->is_loopback());
  CHECK_FALSE(Ip::parse("::2")->is_loopback());
  CHECK(Ip::parse("::")->is_any());
  CHECK(Ip::parse("::ffff:0.0.0.0")->is_any());
  CHECK_FALSE(Ip::parse("::1")->is_any());
}

TEST_CASE("a socket address needs a port, and brackets around IPv6 only") {
  const Pair rows[] = {{"1.2.3.4:993", "1.2.3.4:993"},
                       {"[2001:db8::1]:993", "[2001:db8::1]:993"},
                       {"[::]:0", "[::]:0"},
                       {"[::ffff:1.2.3.4]:25", "1.2.3.4:25"},
                       {"1.2.3.4", ""},
                       {"1.2.3.4:", ""},
                       {"1.2.3.4:65536", ""},
                       {"1.2.3.4:-1", ""},
                       {"1.2.3.4:+1", ""},
                       {"1.2.3.4: 1", ""},
                       {"[1.2.3.4]:1", ""},
                       {"2001:db8::1", ""},
                       {"2001:db8::1:993", ""},
                       {"[::1]", ""},
                       {"[::1]993", ""},
                       {"localhost:143", ""},
                       {":143", ""},
                       {"", ""}};
  for (const auto& row : rows) {
    CAPTURE(row.in);
    const auto address = SocketAddress::parse(row.in);
    CHECK((address ? address->text() : "") == row.out);
  }
}

TEST_CASE("a socket address survives the kernel's form, mapped or not") {
  for (const char* text : {"1.2.3.4:993", "[2001:db8::1]:65535", "0.0.0.0:0"}) {
    for (const bool mapped : {false, true}) {
      const auto address = SocketAddress::parse(text);
      sockaddr_storage storage{};
      const socklen_t length = address->to(storage, mapped);
      CHECK(storage.ss_family == (address->ip.is_v4() && !mapped ? AF_INET : AF_INET6));
      CHECK(length == (storage.ss_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6)));
      CHECK(SocketAddress::from(reinterpret_cast<const sockaddr*>(&storage)) == *address);
    }
  }
  sockaddr_storage unix_socket{};
  unix_socket.ss_family = AF_UNIX;
  CHECK(SocketAddress::from(reinterpret_cast<const sockaddr*>(&unix_socket)) == SocketAddress{});
  CHECK(SocketAddress::from(nullptr) == SocketAddress{});
}

TEST_CASE("a range masks host bits, and a bare address is a range of one") {
  const Pair rows[] = {{"10.1.2.3/8", "10.0.0.0/8"},
                       {"10.0.0.1", "10.0.0.1/32"},
                       {"2001:db8::1", "2001:db8::1/128"},
                       {"2001:db8:ffff::/33", "2001:db8:8000::/33"},
                       {"0.0.0.0/0", "0.0.0.0/0"},
                       {"1.2.3.4/0", "0.0.0.0/0"},
                       {"::/0", "::/0"},
                       {"::ffff:10.0.0.0/104", "10.0.0.0/8"},
                       {"::ffff:10.0.0.0/95", ""},
                       {"10.0.0.300/8", ""},
                       {"10.0.0.0/33", ""},
                       {"10.0.0.0/", ""},
                       {"10.0.0.0/-1", ""},
                       {"10.0.0.0/8/8", ""},
                       {"2001:db8::/129", ""},
                       {"/8", ""},
                       {"", ""}};
  for (const auto& row : rows) {
    CAPTURE(row.in);
    const auto range = Cidr::parse(row.in);
    CHECK((range ? range->text() : "") == row.out);
  }
}

TEST_CASE("a range holds addresses of its own family only") {
  struct {
    const char *range, *ip;
    bool held;
  } const rows[] = {{"10.0.0.0/8", "10.255.255.255", true},
                    {"10.0.0.0/8", "11.0.0.0", false},
                    {"10.0.0.0/8", "::ffff:10.0.0.5", true},
                    {"0.0.0.0/0", "2001:db8::1", false},
                    {"::/0", "10.0.0.1", false},
                    {"::/0", "2001:db8::1", true},
                    {"2001:db8::/33", "2001:db8:7fff::", true},
                    {"2001:db8::/33", "2001:db8:8000::", false},
                    {"192.0.2.1", "192.0.2.1", true},
                    {"192.0.2.1", "192.0.2.0", false}};
  for (const auto& row : rows) {
    CAPTURE(row.range);
    CAPTURE(row.ip);
    CHECK(Cidr::parse(row.range)->contains(*Ip::parse(row.ip)) == row.held);
  }
}

TEST_CASE("durations are digits and one unit") {
  struct {
    std::string_view in;
    int64_t milliseconds;  // -1: refused
  } const rows[] = {{"30s", 30'000},
                    {"250ms", 250},
                    {"10m", 600'000},
                    {"1h", 3'600'000},
                    {"7d", 604'800'000},
                    {"  30s ", 30'000},
                    {"30 s", 30'000},
                    {"0s", 0},
                    {"18446744073709551615s", 31'536'000'000'000},  // fits; a thousand years stand for never
                    {"18446744073709551615ms", 31'536'000'000'000},
                    {"", -1},
                    {" ", -1},
                    {"10", -1},
                    {"10x", -1},
                    {"abc", -1},
                    {"s", -1},
                    {"-5s", -1},
                    {"+5s", -1},
                    {"1.5s", -1},
                    {"1h30m", -1},
                    {"30S", -1},
                    {"3 0s", -1},
                    {"18446744073709551615d", -1},
                    {"18446744073709551616s", -1},
                    {"99999999999999999999999999ms", -1}};
  for (const auto& row : rows) {
    CAPTURE(row.in);
    const auto value = parse_duration(row.in);
    CHECK((value ? value->count() : -1) == row.milliseconds);
  }
  CHECK(duration_text(std::chrono::seconds(90)) == "90s");
  CHECK(duration_text(std::chrono::seconds(1800)) == "30m");
  CHECK(duration_text(std::chrono::milliseconds(1500)) == "1500ms");
  CHECK(duration_text(std::chrono::milliseconds(0)) == "0s");
}

TEST_CASE("sizes are digits and one unit") {
  struct {
    std::string_view in;
    uint64_t bytes;  // 1: refused
  } const rows[] = {{"64MiB", 64 * mebibyte},
                    {"512 KiB", 524'288},
                    {" 2GiB ", 2048 * mebibyte},
                    {"4096B", 4096},
                    {"0B", 0},
                    {"18446744073709551615GiB", UINT64_MAX},
                    {"", 1},
                    {"64", 1},
                    {"MiB", 1},
                    {"64MB", 1},
                    {"64mib", 1},
                    {"1.5MiB", 1},
                    {"-1MiB", 1},
                    {"18446744073709551616B", 1}};
  for (const auto& row : rows) {
    CAPTURE(row.in);
    const auto value = parse_size(row.in);
    CHECK((value ? value->bytes : 1) == row.bytes);
  }
  CHECK(size_text({64 * mebibyte}) == "64MiB");
  CHECK(size_text({1536 * 1024}) == "1536KiB");
  CHECK(size_text({2048 * mebibyte}) == "2GiB");
  CHECK(size_text({1000}) == "1000B");
  CHECK(size_text({0}) == "0B");
}

TEST_CASE("every spelling of suites, groups and versions is understood") {
  struct {
    const char* name;
    Suite suite;
  } const suites[] = {{"TLS13_AES_256_GCM_SHA384", Suite::tls13_aes_256_gcm_sha384},
                      {"tls13-aes-256-gcm-sha384", Suite::tls13_aes_256_gcm_sha384},
                      {"TLS_AES_256_GCM_SHA384", Suite::tls13_aes_256_gcm_sha384},
                      {"TLS13-AES256-GCM-SHA384", Suite::tls13_aes_256_gcm_sha384},
                      {"TLS_AES_128_GCM_SHA256", Suite::tls13_aes_128_gcm_sha256},
                      {"TLS13-AES128-GCM-SHA256", Suite::tls13_aes_128_gcm_sha256},
                      {"TLS13-CHACHA20-POLY1305-SHA256", Suite::tls13_chacha20_poly1305_sha256},
                      {"TLS_CHACHA20_POLY1305_SHA256", Suite::tls13_chacha20_poly1305_sha256},
                      {"ECDHE-ECDSA-AES256-GCM-SHA384", Suite::ecdhe_ecdsa_aes_256_gcm_sha384},
                      {"tls-ecdhe-ecdsa-with-aes-128-gcm-sha256", Suite::ecdhe_ecdsa_aes_128_gcm_sha256},
                      {"ECDHE_ECDSA_CHACHA20_POLY1305", Suite::ecdhe_ecdsa_chacha20_poly1305},
                      {"ECDHE-RSA-AES256-GCM-SHA384", Suite::ecdhe_rsa_aes_256_gcm_sha384},
                      {"ecdhe-rsa-aes128-gcm-sha256", Suite::ecdhe_rsa_aes_128_gcm_sha256},
                      {"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", Suite::ecdhe_rsa_chacha20_poly1305}};
  for (const auto& row : suites) {
    CAPTURE(row.name);
    CHECK(suite_by_name(row.name) == row.suite);
  }
  for (size_t i = 0; i < suite_count; ++i) {
    CHECK(suite_by_name(name(static_cast<Suite>(i))) == static_cast<Suite>(i));
  }
  CHECK_FALSE(suite_by_name("TLS_RSA_WITH_AES_128_CBC_SHA").has_value());
  for (const char* text : {"X25519", "x25519"}) CHECK(group_by_name(text) == Group::x25519);
  for (const char* text : {"SECP256R1", "secp256r1", "P-256"}) CHECK(group_by_name(text) == Group::secp256r1);
  for (const char* text : {"SECP384R1", "P_384"}) CHECK(group_by_name(text) == Group::secp384r1);
  CHECK(group_by_name("x25519mlkem768") == Group::x25519mlkem768);
  CHECK_FALSE(group_by_name("P-521").has_value());
  for (const char* text : {"TLSv1.3", "tls13", "1.3"}) CHECK(version_by_name(text) == TlsVersion::tls13);
  for (const char* text : {"TLSv1.2", "TLS12", "1.2"}) CHECK(version_by_name(text) == TlsVersion::tls12);
  CHECK_FALSE(version_by_name("TLSv1.1").has_value());
}

TEST_CASE("every enumerator has the name of the file") {
  const char* protocols[] = {"imap", "pop3", "managesieve", "submission", "smtp", "lmtp", "http"};
  for (size_t i = 0; i < protocol_count; ++i) CHECK(name(static_cast<Protocol>(i)) == protocols[i]);
  CHECK(name(TlsMode::starttls) == "starttls");
  CHECK(name(ProxyMode::required) == "required");
  CHECK(name(Forwarding::xclient) == "xclient");
  CHECK(name(LogLevel::trace) == "trace");
  CHECK(name(Group::x25519mlkem768) == "X25519MLKEM768");
}

TEST_CASE("hosts are names or addresses") {
  for (const char* good : {"mail.example.com", "mail.example.com.", "localhost", "10.0.0.1", "2001:db8::1",
                           "a_b.c", "1.example", "xn--bcher-kva.example"}) {
    CAPTURE(good);
    CHECK(is_host(good));
  }
  for (const char* bad : {"", ".", "a..b", "-a.b", "a-.b", "a b", "[::1]", "300.1.1.1", "1.2.3",
                          "b\xc3\xbc"
                          "cher.example",
                          "a/b", "host:25"}) {
    CAPTURE(bad);
    CHECK_FALSE(is_host(bad));
  }
  CHECK_FALSE(is_host(std::string(64, 'a') + ".example"));
  CHECK_FALSE(is_host(std::string(300, 'a')));
}

TEST_CASE("a pin is 32 bytes of hex, with or without colons") {
  std::string colons;
  for (int i = 0; i < 32; ++i) colons += (i == 0 ? "" : ":") + std::string("aB");
  CHECK(parse_pin(" " + colons + " ") == std::vector<uint8_t>(32, 0xab));
  CHECK(parse_pin(std::string(64, '0')) == std::vector<uint8_t>(32, 0));
  for (const size_t length : {0u, 1u, 62u, 63u, 65u, 66u}) CHECK_FALSE(parse_pin(std::string(length, '0')));
}

TEST_CASE("log filters: a level, or targets of which only postern is known") {
  struct {
    std::string_view text;
    const char* level;  // null: refused
  } const rows[] = {{"info", "info"},
                    {"DEBUG", "debug"},
                    {"warn,hyper=trace", "warn"},
                    {"hyper=trace", "error"},
                    {"postern=debug", "debug"},
                    {" warn , postern = trace ", "trace"},
                    {"", nullptr},
                    {"loud", nullptr},
                    {"info,warn", nullptr},
                    {"postern=", nullptr},
                    {"=info", nullptr},
                    {"info,", nullptr},
                    {"postern=loud", nullptr}};
  for (const auto& row : rows) {
    CAPTURE(row.text);
    const auto level = parse_log_level(row.text, LogLevel::error);
    if (row.level == nullptr) {
      CHECK_FALSE(level.has_value());
    } else {
      REQUIRE(level.has_value());
      CHECK(name(*level) == row.level);
    }
  }
}

TEST_CASE("globs and patterns are judged before they are used") {
  for (const char* good : {"/**", "/x/**/y", "/[a-z]?*", "/[!a]", "/[]a]", "/{a,b}", "\\[", "/[a-]"}) {
    CAPTURE(good);
    CHECK(glob_fault(good) == "");
  }
  for (const char* bad : {"", "/[a-", "/[z-a]", "/[]", "/{a,b", "/a}", "/{a,{b}}", "/\\"}) {
    CAPTURE(bad);
    CHECK(glob_fault(bad) != "");
  }
  CHECK(pattern_fault("user=([^&]*)") == "");
  for (const char* bad : {"user=([^&", "username=.*", "(?=a)(b)", "(a)\\1"}) {
    CAPTURE(bad);
    CHECK(pattern_fault(bad) != "");
  }
}

TEST_CASE("identifiers are lower-cased beyond ASCII, and left alone where they are no text") {
  const Pair rows[] = {{"Anna@Example.COM", "anna@example.com"},
                       {"ÄÖÜ@x", "äöü@x"},
                       {"ΑΩ@x", "αω@x"},
                       {"ЖЯЁ@x", "жяё@x"},
                       {"ŁŸẞƠ@x", "łÿßơ@x"},
                       {"İ@x", "i\xcc\x87@x"},
                       {"日本@x", "日本@x"},
                       {"A\xff@X", "a\xff@x"}};
  for (const auto& row : rows) CHECK(normalized(row.in, Normalize::lowercase) == row.out);
  CHECK(normalized("Anna", Normalize::none) == "Anna");
}

TEST_CASE("the nearest known key is a slip of the pen, not another word") {
  const std::string_view known[] = {"max_connections", "bind", "tls", "host"};
  CHECK(nearest("max_conections", known) == "max_connections");
  CHECK(nearest("hosst", known) == "host");
  CHECK(nearest("tsl", known) == "tls");
  CHECK(nearest("wholly_different", known) == "");
  CHECK(nearest("", known) == "");
  CHECK(nearest(std::string(1000, 'x'), known) == "");
}

TEST_CASE("a quoted value stays on one line and is cut when long") {
  CHECK(conf::quoted("a\r\n\"\\\x01") == "\"a\\r\\n\\\"\\\\\\u0001\"");
  CHECK(conf::quoted(std::string(200, 'x')) == "\"" + std::string(80, 'x') + "\"...");
  CHECK(is_utf8(conf::quoted(std::string(79, 'x') + "äö")));
}

TEST_CASE("a name that is no bare key is quoted in a key path") {
  CHECK(join_key("listener", "imap-1") == "listener.imap-1");
  CHECK(join_key("listener", "a.b") == "listener.\"a.b\"");
  CHECK(join_key("listener", "") == "listener.\"\"");
  CHECK(join_key("", "server") == "server");
  CHECK(join_index("http.route", 3) == "http.route[3]");
}

TEST_CASE("UTF-8 is told from what only looks like it") {
  for (const char* good : {"", "a", "ä", "€", "😀"}) CHECK(is_utf8(good));
  for (const char* bad :
       {"\x80", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc3", "\xe2\x82"}) {
    CHECK_FALSE(is_utf8(bad));
  }
}

}  // namespace postern::conf
