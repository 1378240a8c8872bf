// SPDX-License-Identifier: GPL-3.0-or-later
// Certificates: what is loaded, what is refused and how it is said, and which name finds which.
#include "tls/certificate.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "test/unit/tls/pair.hpp"
#include "tls/der.hpp"
#include "tls/pem.hpp"
#include "tls/wolfssl.hpp"

namespace postern::tls {
namespace {

conf::CertificateConf of(const std::string& cert, const std::string& key) {
  conf::CertificateConf conf = entry("alpha");
  conf.cert = cert.starts_with("-") || cert.starts_with("/") || cert.starts_with("file:") ? cert : pki(cert);
  conf.key =
      conf::Secret(key.starts_with("-") || key.starts_with("/") || key.starts_with("file:") ? key : pki(key));
  return conf;
}

/// What was found, but for the keys of pki/, which everybody may read.
std::vector<conf::Problem> told(const conf::Problems& problems) {
  std::vector<conf::Problem> list = problems.all();
  std::erase_if(list, [](const auto& problem) {
    return problem.text.find(pki("")) != std::string::npos &&
           problem.text.find(" can be read by ") != std::string::npos;
  });
  return list;
}

/// A directory of its own, gone at the end.
struct Folder {
  std::filesystem::path path;
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "postern-tls-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()));
    path = name;
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(path / name, std::ios::binary) << text;
    return (path / name).string();
  }
};

TEST_CASE("pairs load from paths, file URLs and inline PEM, in every spelling of keys") {
  const std::string inline_chain = slurp(pki("alpha.crt")), inline_key = slurp(pki("alpha.key"));
  struct Row {
    std::string cert, key;
    KeyType type;
    size_t files;
  };
  const Row rows[] = {
      {"alpha.crt", "alpha.key", KeyType::ecdsa, 2},
      {"alpha-text.crt", "alpha.key", KeyType::ecdsa, 2},  // text around the PEM block
      {"file://" + pki("alpha.crt"), "file://" + pki("alpha.key"), KeyType::ecdsa, 2},
      {inline_chain, inline_key, KeyType::ecdsa, 0},
      {"alpha.crt", inline_key, KeyType::ecdsa, 1},
      {"alpha.crt", "sec1.key", KeyType::ecdsa, 2},
      {"alpha.crt", "sec1-params.key", KeyType::ecdsa, 2},
      {"both-rsa.crt", "both-rsa.key", KeyType::rsa, 2},
      {"both-rsa.crt", "pkcs1.key", KeyType::rsa, 2},
      {"rsa3072.crt", "rsa3072.key", KeyType::rsa, 2},
      {"wild.crt", "wild.key", KeyType::ecdsa, 2},
      {"p521.crt", "p521.key", KeyType::ecdsa, 2},
      {"expired.crt", "expired.key", KeyType::ecdsa, 2},
      {"future.crt", "future.key", KeyType::ecdsa, 2},
  };
  for (const Row& row : rows) {
    CAPTURE(row.cert);
    CAPTURE(row.key);
    const auto loaded = load_certificate(of(row.cert, row.key));
    REQUIRE_MESSAGE(loaded, (loaded ? "" : loaded.error().text));
    CHECK((*loaded)->key_type == row.type);
    CHECK((*loaded)->files.size() == row.files);
  }
}

TEST_CASE("facts of a certificate are those openssl prints") {
  const auto alpha = load_certificate(entry("alpha"));
  REQUIRE(alpha);
  const Certificate& certificate = **alpha;
  CHECK(certificate.names ==
        std::vector<std::string>{"alpha.test"});  // never the common name beside a DNS name
  CHECK(certificate.signature_scheme == 0x0403);
  CHECK(certificate.curve == 23);
  const auto blocks = pem_blocks(certificate.chain_pem);
  REQUIRE(blocks.size() == 2);
  const auto leaf = pem_bytes(blocks[0]);
  REQUIRE(leaf);
  CHECK(certificate.sha256 == sha256(*leaf));
  const auto facts = read_certificate(*leaf);
  REQUIRE(facts);
  CHECK(facts->ip_addresses.size() == 2);
  CHECK(certificate.not_after > std::time(nullptr));

  const auto expired = load_certificate(entry("expired"));
  REQUIRE(expired);
  CHECK((*expired)->not_before == 1577836800);  // 2020-01-01T00:00:00Z, a UTCTime
  CHECK((*expired)->not_after == 1609459200);
  const auto future = load_certificate(entry("future"));
  REQUIRE(future);
  CHECK((*future)->not_before == 4733510400);  // 2120-01-01T00:00:00Z, a GeneralizedTime
  CHECK((*load_certificate(entry("wild")))->signature_scheme == 0x0503);
  CHECK((*load_certificate(entry("p521")))->signature_scheme == 0x0603);
  CHECK((*load_certificate(entry("rsa3072")))->names ==
        std::vector<std::string>{"rsa3072.test"});  // common name
}

TEST_CASE("bad pairs are refused in words that help") {
  const Folder folder;
  const std::string hello = folder.write("hello", "hello\n"), empty = folder.write("empty", "");
  const std::string torn = folder.write("torn", slurp(pki("alpha.crt")).substr(0, 200));
  std::string text = slurp(pki("alpha.crt"));
  text[text.find('\n') + 10] = '!';
  const std::string dirty = folder.write("dirty", text);
  const std::string no_certificate =
      folder.write("other", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
  const std::string bad_key =
      folder.write("badkey", "-----BEGIN PRIVATE KEY-----\nMAMCAQA=\n-----END PRIVATE KEY-----\n");
  std::string eleven;
  for (int i = 0; i < 11; ++i) eleven += std::string(pem_blocks(slurp(pki("alpha.crt")))[0].text) + "\n";
  struct Row {
    std::string cert, key, says;
    bool of_key;
  };
  const Row rows[] = {
      {"absent.crt", "alpha.key", "No such file", false},
      {"alpha.crt", "absent.key", "No such file", true},
      {folder.path.string(), "alpha.key", "directory", false},
      {"/dev/zero", "alpha.key", "cannot read", false},
      {hello, "alpha.key", "no certificate in it", false},
      {empty, "alpha.key", "no certificate in it", false},
      {torn, "alpha.key", "no certificate in it", false},
      {dirty, "alpha.key", "not base64", false},
      {no_certificate, "alpha.key", "not a certificate", false},
      {"alpha.key", "alpha.key", "no certificate in it", false},
      {"alpha.crt", "alpha.crt", "no private key in it", true},
      {"alpha.crt", hello, "no private key in it", true},
      {"alpha.crt", bad_key, "damaged", true},
      {"alpha.crt", "default.key", "do not belong together", true},
      {"alpha.crt", "both-rsa.key", "do not belong together", true},
      {"both-rsa.crt", "rsa3072.key", "do not belong together", true},
      {"alpha.crt", "encrypted.key", "encrypted", true},
      {"both-rsa.crt", "encrypted-old.key", "encrypted", true},
      {"rsa1024.crt", "rsa1024.key", "2048", false},
      {"ed25519.crt", "ed25519.key", "Ed25519", false},
      {eleven, "alpha.key", "more than 10", false},
  };
  for (const Row& row : rows) {
    CAPTURE(row.cert);
    CAPTURE(row.key);
    const auto conf = of(row.cert, row.key);
    const Pair pair = load_pair(conf.cert, conf.key);
    CHECK_MESSAGE(pair.error.find(row.says) != std::string::npos, pair.error);
    CHECK(pair.of_key == row.of_key);
    CHECK_FALSE(load_certificate(conf));
  }
}

TEST_CASE("a key pasted without its PEM lines does not end up in a message") {
  std::string body(pem_blocks(slurp(pki("both-rsa.key")))[0].body);
  for (std::string key : {body, std::string(body.substr(1, 300)), std::string(300, 'A')}) {
    conf::CertificateConf conf = entry("both-rsa");
    conf.key = conf::Secret(key);
    const auto loaded = load_certificate(conf);
    REQUIRE_FALSE(loaded);
    CHECK(loaded.error().text == "neither a file name nor inline PEM");
  }
}

TEST_CASE("sources: what is inline, what is a path") {
  CHECK_FALSE(pem_path("-----BEGIN CERTIFICATE-----\n"));
  CHECK_FALSE(pem_path(" \r\n\t-----BEGIN CERTIFICATE-----\n"));
  CHECK(pem_path("file:///etc/x.pem") == "/etc/x.pem");
  CHECK(pem_path("file://x.pem") == "x.pem");
  CHECK(pem_path("certs/x.pem") == "certs/x.pem");
  CHECK(pem_path("") == "");
  CHECK_FALSE(read_pem(""));
}

std::string ids(const CertificateStore::Match& match) {
  return (match.ecdsa ? match.ecdsa->id : "-") + "/" + (match.rsa ? match.rsa->id : "-");
}

TEST_CASE("names find certificates: exact, then the parent, both key types side by side") {
  const auto store =
      store_of({entry("alpha"), entry("wild"), entry("default", true), entry("both"), entry("both-rsa")});
  struct Row {
    std::string_view name, found;
  };
  const Row rows[] = {
      {"alpha.test", "alpha/-"},
      {"host.alpha.test", "alpha/-"},
      {"x.wild.test", "wild/-"},
      {"wild.test", "wild/-"},
      {"a.b.alpha.test", "-/-"},
      {"unknown.example", "-/-"},
      {"", "-/-"},
      {"test", "-/-"},
      {"both.test", "both/both-rsa"},
      {"x.both.test", "both/both-rsa"},
      {".alpha.test", "alpha/-"},
      {"alpha", "-/-"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.name);
    CHECK(ids(store->by_name(row.name)) == row.found);
  }
  CHECK(ids(store->fallback()) == "default/-");
  CHECK(store->by_id("both-rsa")->id == "both-rsa");
  CHECK(store->by_id("ghost") == nullptr);
  CHECK(store->usable());
  CHECK(store->files().size() == 10);
}

TEST_CASE("the fallback: catch-all, else the only entry, else self-signed") {
  CHECK(ids(store_of({entry("two")})->fallback()) == "two/-");
  CHECK(ids(store_of({entry("alpha"), entry("wild")})->fallback()) == "self-signed/-");
  CHECK(ids(store_of({})->fallback()) == "self-signed/-");
  CHECK(ids(store_of({entry("alpha"), entry("wild", false, {"*"})})->fallback()) == "wild/-");
  // The catch-all's twin of the other key type serves the clients that cannot use it.
  CHECK(ids(store_of({entry("both", true), entry("both-rsa")})->fallback()) == "both/both-rsa");
  CHECK(store_of({})->fallback().ecdsa == store_of({})->fallback().ecdsa);
}

TEST_CASE("subjects replace the certificate's own names, in any case and with stars") {
  const auto store =
      store_of({entry("alpha", false, {"RENAMED.test", "*.Star.test", "dot.test."}), entry("default", true)});
  CHECK(ids(store->by_name("renamed.test")) == "alpha/-");
  CHECK(ids(store->by_name("star.test")) == "alpha/-");
  CHECK(ids(store->by_name("x.star.test")) == "alpha/-");
  CHECK(ids(store->by_name("dot.test")) == "alpha/-");
  CHECK(ids(store->by_name("alpha.test")) == "-/-");
  CHECK(store->by_id("alpha")->shown == std::vector<std::string>{"renamed.test", "*.star.test", "dot.test"});
}

TEST_CASE("of two certificates with one name and one key type the first counts, with a warning") {
  conf::Problems problems("test");
  const auto store =
      CertificateStore::load({entry("default", false, {"alpha.test"}), entry("alpha")}, nullptr, problems);
  CHECK(problems.ok());
  REQUIRE(told(problems).size() == 1);
  CHECK(told(problems)[0].warning);
  CHECK(told(problems)[0].key == "tls.certificate.alpha");
  CHECK(ids(store->by_name("alpha.test")) == "default/-");
}

TEST_CASE("at start a bad pair is a problem, an expired or early one a warning") {
  conf::Problems problems("test");
  const auto store = CertificateStore::load(
      {of("absent.crt", "alpha.key"), entry("expired"), entry("future"), of("alpha.crt", "default.key")},
      nullptr, problems);
  CHECK_FALSE(problems.ok());
  REQUIRE(told(problems).size() >= 4);
  CHECK(told(problems)[0].key == "tls.certificate.alpha.cert");
  CHECK_FALSE(told(problems)[0].warning);
  CHECK(told(problems)[1].text.find("expired on 2021-01-01") != std::string::npos);
  CHECK(told(problems)[1].warning);
  CHECK(told(problems)[2].text.find("not valid before 2120-01-01") != std::string::npos);
  CHECK(told(problems).back().key == "tls.certificate.alpha.key");
  CHECK(store->all().size() == 2);
  CHECK_FALSE(store->usable());
}

TEST_CASE("a private key that others can read is served, with a warning") {
  const Folder folder;
  const std::string key = folder.write("leaf.key", slurp(pki("alpha.key")));
  struct Row {
    mode_t mode;
    const char* says;
  };
  const Row rows[] = {
      {0600, ""},
      {0400, ""},
      {0604, "can be read by every user of this machine"},
      {0644, "can be read by every user of this machine"},
      {0640, "can be read by everybody in group"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.mode);
    REQUIRE(::chmod(key.c_str(), row.mode) == 0);
    conf::Problems problems("test");
    conf::CertificateConf conf = of("alpha.crt", key);
    CHECK(CertificateStore::load({conf}, nullptr, problems)->all().size() == 1);
    CHECK(problems.ok());
    REQUIRE(problems.all().size() == (*row.says ? 1 : 0));
    if (!*row.says) continue;
    CHECK(problems.all()[0].key == "tls.certificate.alpha.key");
    CHECK(problems.all()[0].text.find(row.says) != std::string::npos);
    CHECK(problems.all()[0].text.find(key) != std::string::npos);
  }
  // A group that was chosen for it, as root does with chgrp, is how a daemon gets its key.
  if (::geteuid() != 0) return;
  REQUIRE(::chown(key.c_str(), 0, 12345) == 0);
  REQUIRE(::chmod(key.c_str(), 0640) == 0);
  conf::Problems problems("test");
  CHECK(CertificateStore::load({of("alpha.crt", key)}, nullptr, problems)->all().size() == 1);
  CHECK(problems.all().empty());
}

TEST_CASE("on reload a bad or expired pair is a warning and the last good one stays") {
  const auto before = store_of({entry("alpha")});
  const auto reload = [&before](conf::CertificateConf conf, conf::Problems& problems) {
    std::vector<std::string> kept;
    return CertificateStore::load({std::move(conf)}, before, problems, &kept);
  };
  for (const auto& row : {std::pair("absent.crt", "alpha.key"), std::pair("alpha.crt", "default.key"),
                          std::pair("expired.crt", "expired.key")}) {
    const std::string cert = row.first, key = row.second;
    CAPTURE(cert);
    conf::Problems problems("test");
    const auto after = reload(of(cert, key), problems);
    CHECK(problems.ok());
    REQUIRE(told(problems).size() == 1);
    CHECK(told(problems)[0].warning);
    CHECK(told(problems)[0].text.find("previous") != std::string::npos);
    REQUIRE(after->by_id("alpha"));
    CHECK(after->by_id("alpha")->sha256 == before->by_id("alpha")->sha256);
    CHECK(after->files() ==
          std::vector<std::string>{std::min(pki(cert), pki(key)), std::max(pki(cert), pki(key))});
    CHECK(after->usable());
  }
  conf::Problems fine("test");
  auto swapped = entry("default");
  swapped.id = "alpha";
  CHECK(reload(swapped, fine)->by_name("default.test"));
  CHECK(told(fine).empty());
  conf::Problems fresh("test");
  auto added = of("absent.crt", "alpha.key");
  added.id = "new";
  reload(added, fresh);
  CHECK_FALSE(fresh.ok());  // there is no last good one
}

TEST_CASE("the self-signed certificate is for localhost and made once") {
  const auto certificate = self_signed();
  CHECK(certificate == self_signed());
  CHECK(certificate->id == "self-signed");
  CHECK(certificate->names == std::vector<std::string>{"localhost"});
  const auto leaf = pem_bytes(pem_blocks(certificate->chain_pem).at(0));
  REQUIRE(leaf);
  const auto facts = read_certificate(*leaf);
  REQUIRE(facts);
  CHECK(facts->dns_names == std::vector<std::string>{"localhost"});
  CHECK(facts->ip_addresses.size() == 2);
  CHECK(facts->not_after > std::time(nullptr) + 300 * 86400L);
  const Pair pair = load_pair(certificate->chain_pem, certificate->key_pem);
  CHECK(pair.error == "");
}

TEST_CASE("PEM blocks: labels, headers, noise, and text that never ends") {
  struct Row {
    std::string_view text;
    std::vector<std::string_view> labels;
  };
  const Row rows[] = {
      {"", {}},
      {"-----BEGIN", {}},
      {"-----BEGIN A-----\n-----END A-----", {"A"}},
      {"x-----BEGIN A-----QQ==-----END A-----y\n-----BEGIN B C-----\nQUJD\n-----END B C-----\n",
       {"A", "B C"}},
      {"-----BEGIN A-----\nQUJD\n-----END B-----\n-----BEGIN B-----\n-----END B-----\n", {}},
      {"-----BEGIN A-----\nQUJD\n", {}},
      {"-----BEGIN A\nQUJD\n", {}},
      {"-----BEGIN -----\n-----END -----\n", {""}},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text);
    std::vector<std::string_view> labels;
    for (const PemBlock& block : pem_blocks(row.text)) labels.push_back(block.label);
    CHECK(labels == row.labels);
  }
  struct Base64Row {
    std::string_view body;
    std::optional<std::string_view> bytes;
  };
  const Base64Row bodies[] = {
      {"QUJD", "ABC"}, {"QUI=", "AB"},   {"Q Q\r\n=\t=", "A"}, {"QUJDQQ==", "ABCA"}, {"", {}},
      {"Q", {}},       {"QQ", {}},       {"QQ=", {}},          {"QQ===", {}},        {"Q===", {}},
      {"=QQ=", {}},    {"QQ==QUJD", {}}, {"QU*D", {}},         {"====", {}},
  };
  for (const Base64Row& row : bodies) {
    CAPTURE(row.body);
    const auto got = pem_bytes({.label = "", .text = "", .body = row.body});
    CHECK(got.has_value() == row.bytes.has_value());
    if (got && row.bytes) CHECK(std::string(got->begin(), got->end()) == *row.bytes);
  }
  for (size_t size = 0; size < 100; ++size) {
    std::vector<uint8_t> bytes;
    for (size_t i = 0; i < size; ++i) bytes.push_back(static_cast<uint8_t>(i * 41 + size));
    const std::string text = pem_text("X", bytes);
    const auto blocks = pem_blocks(text);
    REQUIRE(blocks.size() == 1);
    if (size > 0) CHECK(*pem_bytes(blocks[0]) == bytes);
  }
}

TEST_CASE("a certificate cut or bent anywhere is refused or read, never more") {
  const auto whole = *pem_bytes(pem_blocks(slurp(pki("alpha.crt")))[0]);
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::vector<uint8_t> cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    CHECK_FALSE(read_certificate(cut));
  }
  size_t read = 0;
  for (size_t i = 0; i < whole.size(); ++i)
    for (const int flip : {0x01, 0x80, 0xff}) {
      auto bent = whole;
      bent[i] = static_cast<uint8_t>(bent[i] ^ flip);
      read += read_certificate(bent).has_value();
    }
  CHECK(read > whole.size());  // most bytes are key, signature and serial number
}

}  // namespace
}  // namespace postern::tls
