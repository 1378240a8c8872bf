// SPDX-License-Identifier: GPL-3.0-or-later
// Tickets: key files, rotation, what resumes, and what must not.
#include "tls/tickets.hpp"

#include <sys/stat.h>

#include <cstdio>
#include <filesystem>
#include <thread>

#include "test/unit/tls/raw_client.hpp"
#include "tls/library.hpp"

namespace postern::tls {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::system_clock;

std::string hex(char name, char key) {
  const auto pair = [](char c) {
    return std::string(c == 'a' ? "aa" : c == 'b' ? "bb" : c == 'c' ? "cc" : "0D");
  };
  std::string line;
  for (int i = 0; i < 16; ++i) line += pair(name);
  for (int i = 0; i < 32; ++i) line += pair(key);
  return line;
}
const std::string base64_zeros(64, 'A');

/// A file that is gone at the end.
struct KeyFile {
  std::string path;
  explicit KeyFile(const std::string& text) {
    path = (std::filesystem::temp_directory_path() / "postern-keys-XXXXXX").string();
    const int fd = ::mkstemp(path.data());
    REQUIRE(fd >= 0);
    ::close(fd);
    write(text);
  }
  ~KeyFile() { std::remove(path.c_str()); }
  KeyFile(const KeyFile&) = delete;
  KeyFile& operator=(const KeyFile&) = delete;
  void write(const std::string& text) const { std::ofstream(path, std::ios::binary) << text; }
  [[nodiscard]] conf::TicketConf conf() const {
    conf::TicketConf conf;
    conf.file = path;
    return conf;
  }
};

TEST_CASE("a key file: hexadecimal and base64, comments, blank lines, and everything else refused by line") {
  struct Row {
    std::string text;
    size_t keys;
    std::string says;
  };
  std::string many;
  for (int i = 0; i < 65; ++i) {
    char name[33];
    std::snprintf(name, sizeof name, "%032d", i);
    many += name + hex('a', 'b').substr(32) + "\n";
  }
  const Row rows[] = {
      {hex('a', 'b') + "\n", 1, ""},
      {hex('a', 'b'), 1, ""},
      {"# making\n\n  " + hex('a', 'b') + "\t\r\n" + base64_zeros + "\n#" + hex('c', 'c') + "\n", 2, ""},
      {"", 0, "no key in it"},
      {"# nothing\n", 0, "no key in it"},
      {"hello\n", 0, "line 1: not a key of 48 bytes"},
      {hex('a', 'b') + "\n" + hex('b', 'b').substr(1) + "\n", 0, "line 2: not a key of 48 bytes"},
      {hex('a', 'b').substr(2) + "zz", 0, "line 1: not a key of 48 bytes"},
      {hex('a', 'b') + "00", 0, "line 1: not a key of 48 bytes"},
      {base64_zeros.substr(4) + "AAA=", 0, "line 1: not a key of 48 bytes"},
      {hex('a', 'b') + "\n" + hex('a', 'c') + "\n", 0, "line 2: two keys of one name"},
      {many, 0, "line 65: more than 64 keys"},
      {std::string(100000, 'A'), 0, "line 1: not a key of 48 bytes"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.says);
    const auto keys = parse_ticket_keys(row.text);
    CHECK((keys ? keys->size() : 0) == row.keys);
    if (!keys) CHECK_MESSAGE(keys.error().text.find(row.says) == 0, keys.error().text);
  }
  const auto keys = parse_ticket_keys(hex('a', 'd'));
  REQUIRE(keys);
  CHECK(keys->front().name == std::array<uint8_t, 16>{0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa,
                                                      0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa});
  CHECK(keys->front().key[31] == 0x0d);
}

TEST_CASE("own keys: made at once, renewed by `rotate`, forgotten `lifetime` after their last ticket") {
  conf::TicketConf conf;
  conf.rotate = 1h;
  conf.lifetime = 3h;
  TicketKeys keys;
  CHECK_FALSE(keys.enabled());
  TicketKey key;
  CHECK_FALSE(keys.making(key));
  const auto start = Clock::now();
  REQUIRE(keys.configure(conf));
  CHECK(keys.enabled());
  CHECK(keys.lifetime() == 3h);
  CHECK(keys.age(start) <= 1s);
  TicketKey first;
  REQUIRE(keys.making(first));
  CHECK(*keys.refresh(start + 59min) == false);
  std::vector<TicketKey> made = {first};
  for (int hour = 1; hour <= 6; ++hour) {
    CHECK(*keys.refresh(start + hour * 1h + 1min) == true);
    CHECK(keys.age(start + hour * 1h + 2min) == 1min);
    REQUIRE(keys.making(key));
    CHECK(key.name != made.back().name);
    CHECK(key.key != made.back().key);
    made.push_back(key);
  }
  // The newest made its first ticket at 6:01, so the one before it its last; what retired at 3:01 or before
  // is gone.
  bool newest = true;
  for (size_t i = 0; i < made.size(); ++i) {
    CAPTURE(i);
    CHECK(keys.named(made[i].name, key, newest) == (i >= 3));
    if (i >= 3) {
      CHECK(key.key == made[i].key);
      CHECK(newest == (i == 6));
    }
  }
  CHECK(*keys.refresh(start + 100h) == true);  // after a long sleep
  CHECK_FALSE(keys.named(made[5].name, key, newest));
  CHECK(*keys.refresh(start) == false);  // the clock was set back: no key is made, none stays for ever
  CHECK(*keys.refresh(start + 1h) == true);
  conf.enable = false;
  REQUIRE(keys.configure(conf));
  CHECK_FALSE(keys.enabled());
  CHECK_FALSE(keys.making(key));
}

TEST_CASE("own keys stay over a reload") {
  TicketKeys keys;
  conf::TicketConf conf;
  REQUIRE(keys.configure(conf));
  TicketKey before, after;
  REQUIRE(keys.making(before));
  conf.lifetime = 1h;
  REQUIRE(keys.configure(conf));
  REQUIRE(keys.making(after));
  CHECK(before.name == after.name);
}

TEST_CASE("rotation far faster than the lifetime keeps a bounded number of keys") {
  conf::TicketConf conf;
  conf.rotate = 1s;
  conf.lifetime = 24h;
  TicketKeys keys;
  REQUIRE(keys.configure(conf));
  std::vector<TicketKey> made(1);
  REQUIRE(keys.making(made[0]));
  for (int i = 1; i <= 200; ++i) {
    REQUIRE(keys.refresh(Clock::now() + i * 1s));
    REQUIRE(keys.making(made.emplace_back()));
  }
  TicketKey key;
  bool newest = false;
  size_t found = 0;
  for (const TicketKey& one : made) found += keys.named(one.name, key, newest);
  CHECK(found == TicketKeys::max_keys);
}

TEST_CASE(
    "a bad key file is an error and changes nothing; a good one takes over; a missing one keeps the keys") {
  const KeyFile file(hex('a', 'a') + "\n");
  ::chmod(file.path.c_str(), 0600);
  TicketKeys keys;
  REQUIRE(keys.configure(file.conf()));
  CHECK(keys.warning().empty());
  TicketKey key;
  REQUIRE(keys.making(key));
  CHECK(key.name[0] == 0xaa);
  CHECK(*keys.refresh(Clock::now()) == false);

  file.write("nonsense\n");
  const auto bad = keys.refresh(Clock::now());
  REQUIRE_FALSE(bad);
  CHECK(bad.error().text.find("line 1") != std::string::npos);
  CHECK_FALSE(keys.configure(file.conf()));
  REQUIRE(keys.making(key));
  CHECK(key.name[0] == 0xaa);

  file.write(hex('b', 'b') + "\n" + hex('a', 'a') + "\n");
  CHECK(*keys.refresh(Clock::now()) == true);
  REQUIRE(keys.making(key));
  CHECK(key.name[0] == 0xbb);
  bool newest = true;
  key.name.fill(0xaa);
  CHECK(keys.named(key.name, key, newest));
  CHECK_FALSE(newest);

  ::chmod(file.path.c_str(), 0644);
  CHECK(*keys.refresh(Clock::now()) == false);
  CHECK(keys.warning().find("can be read by every user") != std::string::npos);
  std::remove(file.path.c_str());
  CHECK_FALSE(keys.refresh(Clock::now()));
  CHECK(keys.making(key));
}

// --- resumption ------------------------------------------------------------------------------------

std::shared_ptr<const CertificateStore> names() {
  static const auto store = store_of({entry("alpha"), entry("default", true), entry("wild")});
  return store;
}
std::shared_ptr<const ServerContext> serving(bool tls13, std::shared_ptr<TicketKeys> keys) {
  conf::TlsPolicy policy = default_policy();
  policy.tls13 = tls13;
  return server_context(policy, names(), std::move(keys));
}

/// A handshake; the session it leaves behind.
std::unique_ptr<Resumption> visit(const std::shared_ptr<const ClientContext>& client,
                                  const std::shared_ptr<const ServerContext>& server, const std::string& name,
                                  const Resumption* resume, bool& resumed) {
  Joined pair(client, server, name, resume);
  REQUIRE_MESSAGE(pair.shake(), std::string(pair.client->error()), " / ", std::string(pair.server->error()));
  resumed = pair.server->facts().resumed;
  CHECK(pair.client->facts().resumed == resumed);
  REQUIRE(pair.server_writes("hello"));
  CHECK(pair.client_reads().text == "hello");
  REQUIRE(pair.client_writes("hello"));
  CHECK(pair.server_reads().text == "hello");
  return pair.client->resumption();
}
/// The versions in which our client resumes: with an old library not TLS 1.2.
const std::vector<bool> resumable = resumes_tls12 ? std::vector{true, false} : std::vector{true};

bool resumes(const std::shared_ptr<const ClientContext>& client,
             const std::shared_ptr<const ServerContext>& server, const std::string& name,
             const Resumption* resume) {
  bool resumed = false;
  visit(client, server, name, resume, resumed);
  return resumed;
}
std::unique_ptr<Resumption> session(const std::shared_ptr<const ClientContext>& client,
                                    const std::shared_ptr<const ServerContext>& server,
                                    const std::string& name) {
  bool resumed = true;
  auto saved = visit(client, server, name, nullptr, resumed);
  CHECK_FALSE(resumed);
  REQUIRE(saved);
  return saved;
}

TEST_CASE("a session resumes again and again, in both versions") {
  const auto keys = ticket_keys();
  for (const bool tls13 : resumable) {
    const auto client = client_context();
    const auto server = serving(tls13, keys);
    auto saved = session(client, server, "alpha.test");
    for (int i = 0; i < 3; ++i) {
      bool resumed = false;
      auto next = visit(client, server, "alpha.test", saved.get(), resumed);
      CHECK(resumed);
      CHECK(resumes(client, server, "alpha.test", saved.get()));  // the same one twice
      saved = std::move(next);
      REQUIRE(saved);
    }
  }
}

TEST_CASE("a client may resume from the newest ticket for ever; now and then it shakes hands in full") {
  const auto client = client_context();
  for (const bool tls13 : resumable) {
    const auto server = serving(tls13, ticket_keys());
    auto saved = session(client, server, "alpha.test");
    int full = 0;
    for (int i = 0; i < 600; ++i) {
      bool resumed = false;
      saved = visit(client, server, "alpha.test", saved.get(), resumed);
      full += !resumed;
    }
    CHECK(full == (tls13 ? 2 : 0));  // TLS 1.2 keeps its ticket
  }
}

TEST_CASE("without tickets nothing resumes and nothing breaks") {
  for (const bool tls13 : {true, false}) {
    conf::TicketConf off;
    off.enable = false;
    for (const auto& keys : {std::shared_ptr<TicketKeys>(), ticket_keys(off)}) {
      const auto client = client_context();
      const auto server = serving(tls13, keys);
      bool resumed = true;
      const auto saved = visit(client, server, "alpha.test", nullptr, resumed);
      CHECK_FALSE(resumed);
      CHECK_FALSE(resumes(client, server, "alpha.test", saved.get()));
    }
  }
}

TEST_CASE("a ticket of one certificate does not resume under another") {
  const auto keys = ticket_keys();
  for (const bool tls13 : {true, false}) {
    CAPTURE(tls13);
    const auto server = serving(tls13, keys);
    RawOffer offer;
    offer.server_name = "alpha.test";
    offer.tls13 = tls13;
    offer.tls12 = !tls13;
    RawClient first(offer);
    const auto engine = Engine::server(server);
    REQUIRE(first.shake(*engine));
    CHECK(engine->certificate_id() == "alpha");
    (void)first.read();
    WOLFSSL_SESSION* saved = wolfSSL_get1_session(first.ssl.get());
    REQUIRE(saved);
    struct Row {
      const char *name, *shown;
      bool resumed;
    };
    for (const Row& row : {Row{"alpha.test", "alpha", true}, Row{"x.wild.test", "wild", false},
                           Row{"", "default", false}, Row{"alpha.test", "alpha", true}}) {
      CAPTURE(row.name);
      RawOffer again = offer;
      again.server_name = row.name;
      again.session = wolfSSL_SESSION_dup(saved);
      RawClient client(again);
      const auto other = Engine::server(server);
      CHECK(client.shake(*other) == (row.resumed || tls13 || resumes_tls12));  // see resumes_tls12
      CHECK(other->certificate_id() == row.shown);
      CHECK(other->facts().resumed == row.resumed);
      wolfSSL_SESSION_free(again.session);
    }
    wolfSSL_SESSION_free(saved);
  }
}

TEST_CASE("a ticket does not resume under another policy or a new certificate") {
  const auto keys = ticket_keys();
  const auto client = client_context();
  const auto saved = session(client, serving(true, keys), "alpha.test");
  conf::TlsPolicy strict = default_policy();
  strict.tls12 = false;
  CHECK_FALSE(resumes(client, server_context(strict, names(), keys), "alpha.test", saved.get()));
  auto renewed = entry("default", true);
  renewed.subjects = {"alpha.test"};
  conf::DestinationConf any;
  any.tls_allow_invalid_certs = true;
  const auto trusting = client_context(any);
  const auto loose = session(trusting, serving(true, keys), "alpha.test");
  CHECK_FALSE(resumes(trusting, server_context(default_policy(), store_of({renewed}), keys), "alpha.test",
                      loose.get()));
  CHECK(resumes(client, serving(true, keys), "alpha.test", saved.get()));
}

TEST_CASE("a session is only resumed by the context and for the name it came from") {
  const auto keys = ticket_keys();
  for (const bool tls13 : resumable) {
    const auto server = serving(tls13, keys);
    conf::DestinationConf any;
    any.tls_allow_invalid_certs = true;
    const auto trusting = client_context(any), strict = client_context(), strict_too = client_context();
    const auto loose = session(trusting, server, "alpha.test");
    CHECK(resumes(trusting, server, "alpha.test", loose.get()));
    CHECK_FALSE(resumes(strict, server, "alpha.test", loose.get()));
    const auto good = session(strict, server, "alpha.test");
    CHECK(resumes(strict, server, "alpha.test", good.get()));
    CHECK_FALSE(resumes(strict_too, server, "alpha.test", good.get()));
    Joined other(strict, server, "other.test", good.get());
    CHECK_FALSE(other.shake());
    CHECK(other.client->error() == std::string("name does not match"));
  }
}

TEST_CASE("pinned destinations resume too") {
  conf::DestinationConf conf;
  const auto leaf = names()->by_id("alpha")->sha256;
  conf.tls_pinned_cert_sha256.emplace(leaf.begin(), leaf.end());
  const auto client = client_context(conf);
  const auto server = serving(true, ticket_keys());
  const auto saved = session(client, server, "alpha.test");
  CHECK(resumes(client, server, "alpha.test", saved.get()));
}

TEST_CASE("two processes with one key file resume each other's sessions, others do not") {
  const KeyFile file(hex('a', 'a') + "\n"), other(hex('a', 'b') + "\n");  // the same name, another secret
  for (const bool tls13 : resumable) {
    const auto client = client_context();
    const auto one = serving(tls13, ticket_keys(file.conf())), two = serving(tls13, ticket_keys(file.conf()));
    const auto saved = session(client, one, "alpha.test");
    CHECK(resumes(client, two, "alpha.test", saved.get()));
    CHECK(resumes(client, one, "alpha.test", saved.get()));
    CHECK_FALSE(resumes(client, serving(tls13, ticket_keys(other.conf())), "alpha.test", saved.get()));
    CHECK_FALSE(resumes(client, serving(tls13, ticket_keys()), "alpha.test", saved.get()));
  }
}

TEST_CASE("replicas rotate in two steps without losing a session") {
  const KeyFile file(hex('a', 'a') + "\n");
  const auto one_keys = ticket_keys(file.conf()), two_keys = ticket_keys(file.conf());
  for (const bool tls13 : resumable) {
    file.write(hex('a', 'a') + "\n");
    REQUIRE(one_keys->refresh(Clock::now()));
    REQUIRE(two_keys->refresh(Clock::now()));
    const auto client = client_context();
    const auto one = serving(tls13, one_keys), two = serving(tls13, two_keys);
    const auto old = session(client, one, "alpha.test");
    file.write(hex('a', 'a') + "\n" + hex('b', 'b') + "\n");  // the new key opens everywhere
    REQUIRE(one_keys->refresh(Clock::now()));
    REQUIRE(two_keys->refresh(Clock::now()));
    file.write(hex('b', 'b') + "\n" + hex('a', 'a') + "\n");  // then makes
    REQUIRE(one_keys->refresh(Clock::now()));                 // and one replica is slow to see it
    CHECK(resumes(client, one, "alpha.test", old.get()));
    CHECK(resumes(client, two, "alpha.test", old.get()));
    const auto fresh = session(client, one, "alpha.test");
    CHECK(resumes(client, two, "alpha.test", fresh.get()));
    // A session opened with the old key is given a ticket of the new one.
    bool resumed = false;
    const auto renewed = visit(client, one, "alpha.test", old.get(), resumed);
    CHECK(resumed);
    file.write(hex('b', 'b') + "\n");
    REQUIRE(one_keys->refresh(Clock::now()));
    REQUIRE(two_keys->refresh(Clock::now()));
    CHECK(resumes(client, one, "alpha.test", renewed.get()));
    CHECK(resumes(client, two, "alpha.test", renewed.get()));
    CHECK_FALSE(resumes(client, one, "alpha.test", old.get()));
  }
}

TEST_CASE("a ticket is refused after its lifetime") {
  conf::TicketConf conf;
  conf.lifetime = 1s;
  const auto keys = ticket_keys(conf);
  const auto client = client_context();
  std::vector<std::pair<bool, std::unique_ptr<Resumption>>> saved;
  for (const bool tls13 : resumable) {
    saved.emplace_back(tls13, session(client, serving(tls13, keys), "alpha.test"));
    CHECK(resumes(client, serving(tls13, keys), "alpha.test", saved.back().second.get()));
  }
  std::this_thread::sleep_for(2100ms);
  for (const auto& [tls13, resume] : saved)
    CHECK_FALSE(resumes(client, serving(tls13, keys), "alpha.test", resume.get()));
}

TEST_CASE("key updates while a ticket is on its way do no harm, and a session may be asked for at any time") {
  const auto client = client_context();
  const auto server = serving(true, ticket_keys());
  Joined pair(client, server);
  CHECK(pair.client->resumption() == nullptr);
  REQUIRE(pair.shake());
  CHECK(pair.server->resumption() == nullptr);
  const auto early = pair.client->resumption();  // before the ticket was read
  CHECK_FALSE(resumes(client, server, "alpha.test", early.get()));
  (void)pair.client_reads();
  const auto late = pair.client->resumption();
  CHECK(resumes(client, server, "alpha.test", late.get()));
}

}  // namespace
}  // namespace postern::tls
