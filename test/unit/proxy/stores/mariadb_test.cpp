// SPDX-License-Identifier: GPL-3.0-or-later
// The store against a real MariaDB: found, absent, failed; passwords and TLS; frozen, killed and changed.
#include "test/unit/proxy/stores/sql_world.hpp"

using namespace postern::proxy;
using namespace postern::proxy::test;

namespace {

const std::string pki = POSTERN_PKI;
const std::string query = "SELECT destination FROM accounts WHERE name = ?";

class MariadbServer {
 public:
  MariadbServer() : path(program({"/usr/sbin/mariadbd"})), port(free_port()) {
    if (path.empty()) return;
    ::chmod(folder.path.c_str(), 0777);
    Process install({"/usr/bin/mariadb-install-db", "--no-defaults", "--datadir=" + (folder / "data"),
                     "--auth-root-authentication-method=normal", "--skip-test-db"},
                    folder / "install", "mysql");
    REQUIRE_MESSAGE(install.wait() == 0, read_all(folder / "install"));
    for (const char* file : {"alpha.crt", "alpha.key"})
      std::filesystem::copy_file(pki + "/" + file, folder / file);
    ::chmod((folder / "alpha.key").c_str(), 0644);
    start();
    run("CREATE DATABASE mail CHARACTER SET utf8mb4 COLLATE utf8mb4_bin; USE mail; CREATE TABLE accounts "
        "(name "
        "varchar(320) PRIMARY KEY, destination varchar(2000)); INSERT INTO accounts VALUES "
        "('alice','new'),('null',NULL),('empty',''),('long',repeat('x',1500)); CREATE USER "
        "postern@'127.0.0.1' "
        "IDENTIFIED BY 'p@ss'; GRANT ALL ON mail.* TO postern@'127.0.0.1'; CREATE USER postern@localhost "
        "IDENTIFIED BY "
        "'p@ss'; GRANT ALL ON mail.* TO postern@localhost");
  }
  void start() {
    process = std::make_unique<Process>(
        std::vector<std::string>{path, "--no-defaults", "--datadir=" + (folder / "data"),
                                 "--port=" + std::to_string(port), "--bind-address=127.0.0.1",
                                 "--socket=" + (folder / "socket"), "--pid-file=" + (folder / "pid"),
                                 "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=16M",
                                 "--ssl-cert=" + (folder / "alpha.crt"),
                                 "--ssl-key=" + (folder / "alpha.key"), "--skip-name-resolve"},
        folder / "log", "mysql");
    REQUIRE_MESSAGE(eventually([this] { return run("SELECT 1") == "1"; }), read_all(folder / "log"));
  }
  std::string run(const std::string& sql) const {
    const std::string all = "mariadb --no-defaults -N -B -u root -S " + (folder / "socket") +
                            " 2>&1 <<'END_OF_SQL'\n" + sql + "\nEND_OF_SQL\n";
    std::string out;
    FILE* pipe = ::popen(all.c_str(), "r");
    char buffer[4096];
    while (size_t n = ::fread(buffer, 1, sizeof buffer, pipe)) out.append(buffer, n);
    ::pclose(pipe);
    while (out.ends_with('\n')) out.pop_back();
    return out;
  }
  explicit operator bool() const { return !path.empty(); }
  [[nodiscard]] std::string url(const std::string& more = {},
                                const std::string& login = "postern:p%40ss") const {
    return "mysql://" + login + "@127.0.0.1:" + std::to_string(port) + "/mail" + more;
  }

  Folder folder;
  const std::string path;
  const uint16_t port;
  std::unique_ptr<Process> process;
};

}  // namespace

TEST_CASE("MariaDB") {
  MariadbServer server;
  if (!server) return;
  Asking asking;
  const auto use = [&](const SqlSettings& settings) { asking.store = make_sql_store(asking.loop, settings); };
  const auto ask = [&](const SqlSettings& settings) {
    use(settings);
    return text(asking.find("alice", 5000));
  };

  SUBCASE("text is found, nothing and NULL are absent, statements that do not fit are told") {
    for (const bool prepared : {true, false}) {
      auto settings = sql_settings(server.url(), query);
      settings.prepared = prepared;
      settings.pool_size = 3;
      use(settings);
      for (int twice = 0; twice < 2; ++twice) {
        const auto answers = asking.find({"alice", "null", "empty", "nobody", "\xff", "long"});
        CHECK(text(answers[0]) == "found new");
        for (size_t i = 1; i < 5; ++i) CHECK(text(answers[i]) == "absent ");
        CHECK(text(answers[5]) == "failed the value is longer than any name of a destination");
      }
      CHECK(asking.store->state().connections <= 3);
      settings.query = "SELECT destination, name FROM accounts WHERE name = ?";
      CHECK(ask(settings) == "failed the query gives 2 columns, and one is asked for");
      settings.query = "SELECT destination FROM nowhere WHERE name = ?";
      CHECK(ask(settings) == "failed the statement: Table 'mail.nowhere' doesn't exist");
      settings.query = "SELECT destination FROM accounts";
      CHECK(ask(settings) == "failed the statement has 0 parameters, and 1 are given");
      settings.query = "DELETE FROM accounts WHERE name = ? RETURNING destination";
      CHECK(ask(settings).starts_with("failed "));
      settings.query = "SELECT destination FROM accounts WHERE name = ?; DROP TABLE accounts";
      CHECK(ask(settings).starts_with("failed the statement: "));
    }
    CHECK(server.run("SELECT count(*) FROM mail.accounts") == "4");
  }

  SUBCASE("passwords, TLS, socket") {
    CHECK(ask(sql_settings(server.url("", "postern:wrong"), query)).starts_with("failed Access denied"));
    auto settings = sql_settings(server.url("", "postern"), query);
    settings.password_file = server.folder.write("pw", "p@ss\n");
    CHECK(ask(settings) == "found new");
    CHECK(ask(sql_settings(server.url("?ssl-ca=" + pki + "/root.crt"), query)) == "found new");
    CHECK(ask(sql_settings(server.url("?ssl-ca=" + pki + "/stranger.crt"), query)).starts_with("failed "));
    CHECK(ask(sql_settings(server.url("?ssl-mode=required"), query)) == "found new");
    CHECK(ask(sql_settings("mysql://postern:p%40ss@localhost/mail?socket=" + (server.folder / "socket"),
                           query)) == "found new");
    CHECK(ask(sql_settings("mysql://u@127.0.0.1:" + std::to_string(free_port()) + "/mail", query))
              .starts_with("failed "));
  }

  SUBCASE("frozen, killed and back") {
    auto settings = sql_settings(server.url(), query);
    settings.lookup_timeout = std::chrono::seconds(1);
    settings.pool_size = 2;
    use(settings);
    CHECK(text(asking.find("alice")) == "found new");
    server.process->signal(SIGSTOP);
    CHECK(text(asking.find("alice", 300)) == "timeout no answer in time");
    CHECK(text(asking.find("alice", 300)) == "timeout no answer in time");
    server.process->signal(SIGCONT);
    CHECK(text(asking.find("alice", 5000)) == "found new");
    server.run("SELECT 1");
    server.process->end(SIGKILL);
    for (int i = 0; i < 3; ++i) CHECK(asking.find("alice", 3000).kind == StoreAnswer::Kind::failed);
    server.start();
    CHECK(text(asking.find("alice", 3000)) == "found new");
    server.run("ALTER TABLE mail.accounts MODIFY destination varchar(100)");
    server.run("DELETE FROM mail.accounts WHERE name = 'long'");
    CHECK(text(asking.find("alice", 3000)) == "found new");
  }

  SUBCASE("every byte of a name is a part of one value") {
    server.run("DELETE FROM mail.accounts");
    for (const char* mode : {"", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES"}) {
      server.run(std::string("SET GLOBAL sql_mode = '") + mode + "'");
      auto settings = sql_settings(server.url(), query, true);
      settings.upsert_query =
          "INSERT INTO accounts VALUES (?, ?) ON DUPLICATE KEY UPDATE destination = VALUES(destination)";
      use(settings);
      check_injection(
          asking, [&] { return server.run("SELECT count(*) FROM mail.accounts"); }, true);
    }
  }
  asking.store.reset();
}
