// SPDX-License-Identifier: GPL-3.0-or-later
// The store against a real PostgreSQL: found, absent, failed; passwords and TLS; frozen, killed, slow and
// full; and behind a pooler that works per transaction.
#include "test/unit/proxy/stores/sql_world.hpp"

using namespace postern::proxy;
using namespace postern::proxy::test;

namespace {

const std::string pki = POSTERN_PKI;
const std::string query = "SELECT destination FROM accounts WHERE name = $1";

std::string postgres_folder() {
  for (int release = 20; release >= 13; --release) {
    const std::string folder = "/usr/lib/postgresql/" + std::to_string(release) + "/bin";
    if (::access((folder + "/postgres").c_str(), X_OK) == 0) return folder;
  }
  MESSAGE("skipped: postgresql is not installed");
  return {};
}

class PostgresServer {
 public:
  PostgresServer() : programs(postgres_folder()), port(free_port()) {
    if (programs.empty()) return;
    const passwd* who = ::getpwnam("postgres");
    const bool root = ::geteuid() == 0 && who;
    if (root) REQUIRE(::chown(folder.path.c_str(), who->pw_uid, who->pw_gid) == 0);
    folder.write("password", "secret");
    ::chmod((folder / "password").c_str(), 0644);
    Process initdb({programs + "/initdb", "-D", folder / "data", "-U", "postgres", "-A", "scram-sha-256",
                    "--pwfile", folder / "password", "-E", "UTF8", "--locale", "C.UTF-8", "--no-sync"},
                   folder / "initdb", "postgres");
    REQUIRE_MESSAGE(initdb.wait() == 0, read_all(folder / "initdb"));
    for (const char* file : {"alpha.crt", "alpha.key"}) {
      const std::string to = folder / file;
      std::filesystem::copy_file(pki + "/" + file, to);
      ::chmod(to.c_str(), 0600);
      if (root) REQUIRE(::chown(to.c_str(), who->pw_uid, who->pw_gid) == 0);
    }
    start();
    run("CREATE TABLE accounts (name text PRIMARY KEY, destination text); INSERT INTO accounts VALUES "
        "('alice','new'),('slow','new'),('null',NULL),('empty','')");
  }
  void start() {
    process = std::make_unique<Process>(std::vector<std::string>{programs + "/postgres",
                                                                 "-D",
                                                                 folder / "data",
                                                                 "-p",
                                                                 std::to_string(port),
                                                                 "-k",
                                                                 folder.path,
                                                                 "-c",
                                                                 "listen_addresses=127.0.0.1",
                                                                 "-c",
                                                                 "fsync=off",
                                                                 "-c",
                                                                 "max_connections=12",
                                                                 "-c",
                                                                 "log_statement=all",
                                                                 "-c",
                                                                 "ssl=on",
                                                                 "-c",
                                                                 "ssl_cert_file=" + (folder / "alpha.crt"),
                                                                 "-c",
                                                                 "ssl_key_file=" + (folder / "alpha.key"),
                                                                 "-c",
                                                                 "log_parameter_max_length=-1"},
                                        folder / "log", "postgres");
    REQUIRE_MESSAGE(eventually([this] { return run("SELECT 1") == "1"; }), read_all(folder / "log"));
  }
  std::string run(const std::string& sql) const {
    const std::string all = "PGPASSWORD=secret psql -qAt -h 127.0.0.1 -p " + std::to_string(port) +
                            " -U postgres -d postgres 2>&1 <<'END_OF_SQL'\n" + sql + "\nEND_OF_SQL\n";
    std::string out;
    FILE* pipe = ::popen(all.c_str(), "r");
    char buffer[4096];
    while (size_t n = ::fread(buffer, 1, sizeof buffer, pipe)) out.append(buffer, n);
    ::pclose(pipe);
    while (out.ends_with('\n')) out.pop_back();
    return out;
  }
  explicit operator bool() const { return !programs.empty(); }
  [[nodiscard]] std::string url(const std::string& more = {},
                                const std::string& login = "postgres:secret") const {
    return "postgres://" + login + "@127.0.0.1:" + std::to_string(port) + "/postgres" + more;
  }
  Folder folder;
  const std::string programs;
  const uint16_t port;
  std::unique_ptr<Process> process;
};

}  // namespace

TEST_CASE("PostgreSQL") {
  PostgresServer server;
  if (!server) return;
  Asking asking;
  const auto use = [&](const SqlSettings& settings) { asking.store = make_sql_store(asking.loop, settings); };
  const auto ask = [&](const SqlSettings& settings) {
    use(settings);
    return text(asking.find("alice", 5000));
  };

  SUBCASE("text is found, nothing and NULL are absent, statements that do not fit are told") {
    for (const bool prepared : {true, false}) {
      CAPTURE(prepared);
      auto settings = sql_settings(server.url(), query);
      settings.prepared = prepared;
      use(settings);
      for (int twice = 0; twice < 2; ++twice) {
        const auto answers = asking.find({"alice", "null", "empty", "nobody", "\xff"});
        CHECK(text(answers[0]) == "found new");
        for (size_t i = 1; i < answers.size(); ++i) CHECK(text(answers[i]) == "absent ");
      }
      CHECK(asking.store->state().up);
      settings.query = "SELECT destination, name FROM accounts WHERE name = $1";
      CHECK(ask(settings) == "failed the query gives 2 columns, and one is asked for");
      settings.query = "SELECT destination FROM nowhere WHERE name = $1";
      CHECK(ask(settings) ==
            "failed the database answered with an error (42P01): relation \"nowhere\" does not exist");
      settings.query = "DELETE FROM accounts WHERE name = $1 RETURNING destination";
      CHECK(ask(settings) ==
            "failed the database answered with an error (25006): cannot execute DELETE in a read-only "
            "transaction");
      CHECK(ask(settings).starts_with("failed the database answered with an error (25006)"));
      settings.query = "SELECT (1 / (length($1) - 5))::text";
      use(settings);
      CHECK(text(asking.find("alice")) == "failed the database answered with an error (22012)");
      CHECK(text(asking.find("bob")) == "found 0");  // the session is none the worse for it
      settings.query = "SELECT E'\\001' || $1";
      CHECK(ask(settings) == "failed the value is no text");
    }
    CHECK(server.run("SELECT count(*) FROM accounts") == "4");
  }

  SUBCASE("many at once") {
    server.run("INSERT INTO accounts SELECT 'user' || i, 'd' || i FROM generate_series(0, 2998, 3) i");
    std::vector<std::string> names;
    for (int i = 0; i < 3000; ++i) names.push_back("user" + std::to_string(i));
    for (const bool prepared : {true, false}) {
      auto settings = sql_settings(server.url(), query);
      settings.prepared = prepared;
      settings.pool_size = 3;
      use(settings);
      const auto answers = asking.find(names, 60'000);
      size_t wrong = 0;
      for (size_t i = 0; i < names.size(); ++i)
        wrong += text(answers[i]) != (i % 3 == 0 ? "found d" + std::to_string(i) : "absent ");
      CHECK(wrong == 0);
      CHECK(asking.store->state().connections <= 3);
    }
  }

  SUBCASE("passwords, TLS, sockets, several hosts") {
    CHECK(ask(sql_settings(server.url("", "postgres:wrong"), query)).starts_with("failed "));
    CHECK(asking.store->state().last_error.find("password authentication failed") != std::string::npos);
    auto settings = sql_settings(server.url("", "postgres"), query);
    settings.password_file = server.folder.write("pw", "secret\n");
    CHECK(ask(settings) == "found new");
    CHECK(ask(sql_settings(server.url("?sslmode=verify-full&sslrootcert=" + pki + "/root.crt"), query)) ==
          "found new");
    CHECK(ask(sql_settings(server.url("?sslmode=verify-full&sslrootcert=" + pki + "/stranger.crt"), query))
              .starts_with("failed "));
    CHECK(asking.store->state().last_error.find("certificate verify failed") != std::string::npos);
    CHECK(ask(sql_settings("postgres:///postgres?host=" + server.folder.path +
                               "&port=" + std::to_string(server.port) + "&user=postgres&password=secret",
                           query)) == "found new");
    const std::string both =
        "127.0.0.1:" + std::to_string(free_port()) + ",localhost:" + std::to_string(server.port);
    CHECK(ask(sql_settings("postgres://postgres:secret@" + both + "/postgres?target_session_attrs=read-write",
                           query)) == "found new");
    CHECK(ask(sql_settings("postgres://postgres:secret@" + both + "/postgres?target_session_attrs=standby",
                           query))
              .starts_with("failed "));
    CHECK(
        ask(sql_settings("postgres://nowhere.invalid/postgres", query)).starts_with("failed cannot resolve"));
  }

  SUBCASE("killed and back") {
    use(sql_settings(server.url(), query));
    CHECK(text(asking.find("alice")) == "found new");
    CHECK(server.run("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = "
                     "'postern'") == "1");
    CHECK(text(asking.find("alice")) == "found new");  // over another connection, unnoticed
    server.process->end(SIGINT);
    for (int i = 0; i < 5; ++i) {
      CHECK(asking.find("alice", 3000).kind == StoreAnswer::Kind::failed);
      asking.rest(20);
    }
    server.start();
    const uint64_t began = uv_hrtime();
    while (asking.find("alice", 1000).kind == StoreAnswer::Kind::failed &&
           uv_hrtime() - began < 5'000'000'000)
      asking.rest(20);
    CHECK((uv_hrtime() - began) / 1'000'000 < 1500);
    CHECK(text(asking.find("alice")) == "found new");
  }

  SUBCASE("slow, cancelled, full") {
    auto settings = sql_settings(server.url(),
                                 "SELECT destination FROM accounts, pg_sleep(CASE WHEN $1 = 'slow' THEN 1 "
                                 "ELSE 0 END) WHERE name = $1");
    use(settings);
    CHECK(text(asking.find("alice")) == "found new");
    CHECK(text(asking.find("slow", 200)) == "timeout no answer in time");
    CHECK(text(asking.find("alice", 5000)) == "found new");
    settings.lookup_timeout = std::chrono::milliseconds(300);
    use(settings);
    CHECK(text(asking.find("slow", 3000)).starts_with("failed the database answered with an error (57014)"));
    server.run("ALTER SYSTEM SET max_connections = 3; ALTER SYSTEM SET superuser_reserved_connections = 1");
    server.run(
        "CREATE ROLE reader LOGIN PASSWORD 'r'; GRANT SELECT ON accounts TO reader; ALTER ROLE reader "
        "CONNECTION LIMIT 0");
    CHECK(ask(sql_settings(server.url("", "reader:r"), query)).find("too many connections") !=
          std::string::npos);
  }

  SUBCASE("a table that changes under a prepared statement") {
    use(sql_settings(server.url(), "SELECT destination FROM accounts WHERE name = $1"));
    CHECK(text(asking.find("alice")) == "found new");
    server.run("ALTER TABLE accounts ALTER destination TYPE varchar(40)");
    CHECK(text(asking.find("alice")) == "found new");
  }

  SUBCASE("every byte of a name is a part of one value") {
    server.run("DELETE FROM accounts");
    for (const bool prepared : {true, false}) {
      auto settings = sql_settings(server.url(), query, true);
      settings.upsert_query =
          "INSERT INTO accounts VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET destination = "
          "EXCLUDED.destination";
      settings.prepared = prepared;
      use(settings);
      check_injection(
          asking, [&] { return server.run("SELECT count(*) FROM accounts"); }, true);
    }
    // The server's own log: the statement as it is configured, and the name as its parameter.
    auto settings = sql_settings(server.url(), query);
    use(settings);
    asking.find("x'; DROP TABLE accounts; --");
    CHECK(eventually([&] {
      return read_all(server.folder / "log").find("$1 = 'x''; DROP TABLE accounts; --'") != std::string::npos;
    }));
  }

  SUBCASE("behind pgbouncer, which gives a connection for a transaction") {
    const std::string bouncer = program({"/usr/sbin/pgbouncer"});
    if (!bouncer.empty()) {
      const uint16_t port = free_port();
      const Folder folder;
      ::chmod(folder.path.c_str(), 0777);
      const std::string users = folder.write("users", "\"postgres\" \"secret\"\n");
      const std::string ini = folder.write(
          "ini", "[databases]\npostgres = host=127.0.0.1 port=" + std::to_string(server.port) +
                     " dbname=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = " +
                     std::to_string(port) + "\nunix_socket_dir =\nauth_type = plain\nauth_file = " + users +
                     "\npool_mode = transaction\ndefault_pool_size = 2\n");
      Process pooler({bouncer, ini}, folder / "log", "postgres");
      REQUIRE(eventually([port] { return accepts(port); }));
      auto settings =
          sql_settings("postgres://postgres:secret@127.0.0.1:" + std::to_string(port) + "/postgres", query);
      settings.prepared = false;
      use(settings);
      std::vector<std::string> names(100, "alice");
      for (const auto& answer : asking.find(names, 20'000)) CHECK(text(answer) == "found new");
      settings.query = "DELETE FROM accounts WHERE name = $1 RETURNING destination";
      CHECK(ask(settings).starts_with("failed the database answered with an error (25006)"));
      asking.store.reset();
    }
  }
  asking.store.reset();
}
