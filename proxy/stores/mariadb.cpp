// SPDX-License-Identifier: GPL-3.0-or-later
// Prepared statements in the binary protocol, and nothing else: what a client has typed is a bound value,
// whatever the server's SQL mode. A connection that is found broken is made anew once for a question, never
// for a write.
#include "proxy/stores/mariadb.hpp"

#include <errmsg.h>
#include <mysql.h>
#include <mysqld_error.h>
#include <sys/prctl.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <utility>

#include "conf/text.hpp"
#include "proxy/stores/blocking.hpp"
#include "proxy/stores/password.hpp"
#include "proxy/stores/value.hpp"

// As in mysql/client_plugin.h, which includes a header that Debian's package does not have.
extern "C" struct st_mysql_client_plugin* mysql_client_find_plugin(MYSQL* connection, const char* name,
                                                                   int type);

namespace postern::proxy {
namespace {

constexpr int login_plugin = 2;  // MYSQL_CLIENT_AUTHENTICATION_PLUGIN

/// How a server may want to be told the password, beside what the library has built in. Their code is loaded
/// now: once the process is confined, nothing can be. A way that sends the password in the clear is not among
/// them, nor is any that a server names later.
void load_logins() {
  mysql_library_init(0, nullptr, nullptr);  // before there are threads of it
  if (::prctl(PR_GET_SECCOMP) != 0) return;
  MYSQL* nobody = mysql_init(nullptr);
  for (const char* login : {"caching_sha2_password", "sha256_password", "client_ed25519"})
    if (nobody) mysql_client_find_plugin(nobody, login, login_plugin);
  if (nobody) mysql_close(nobody);
}
constexpr const char* no_folder = "/nonexistent";

class MariadbClient final : public BlockingClient {
 public:
  explicit MariadbClient(std::shared_ptr<const SqlSettings> settings) : settings_(std::move(settings)) {
    mysql_thread_init();
  }
  ~MariadbClient() override {
    close();
    mysql_thread_end();
  }

  Said find(const std::string& name, uint64_t ms) override {
    // No column of text has such a name, and the server would call it an error.
    if (!conf::is_utf8(name)) return {absent()};
    const bool served = connection_ != nullptr;
    const auto began = std::chrono::steady_clock::now();
    Said said = look_up(name);
    // An idle connection that the server has closed is not noticed before it is used.
    const auto left = std::chrono::milliseconds(ms) - (std::chrono::steady_clock::now() - began);
    if (!connection_ && served && left > std::chrono::milliseconds(ms) / 2) said = look_up(name);
    return said;
  }
  Said put(const std::string& name, const std::string& destination, uint64_t ms) override {
    return write(put_, settings_->upsert_query, &destination, name, ms);
  }
  Said erase(const std::string& name, uint64_t ms) override {
    return write(erase_, settings_->delete_query, nullptr, name, ms);
  }
  [[nodiscard]] bool connected() const override { return connection_ != nullptr; }

 private:
  [[nodiscard]] std::string parameter(std::string_view name) const {
    for (const auto& [word, value] : settings_->url.parameters)
      if (word == name) return value;
    return {};
  }

  /// What must be said before connecting.
  void set_options(uint64_t ms) {
    const auto seconds = static_cast<unsigned>((ms + 999) / 1000);
    const my_bool on = 1, off = 0;
    for (const mysql_option limit :
         {MYSQL_OPT_CONNECT_TIMEOUT, MYSQL_OPT_READ_TIMEOUT, MYSQL_OPT_WRITE_TIMEOUT})
      mysql_options(connection_, limit, &seconds);
    const unsigned no_files = 0;
    mysql_options(connection_, MYSQL_OPT_LOCAL_INFILE, &no_files);
    mysql_options(connection_, MYSQL_OPT_RECONNECT, &off);
    mysql_options(connection_, MYSQL_SET_CHARSET_NAME, "utf8mb4");
    mysql_options(connection_, MYSQL_PLUGIN_DIR, no_folder);
    const std::string ca = parameter("ssl-ca"), cert = parameter("ssl-cert"), key = parameter("ssl-key");
    std::string mode = parameter("ssl-mode");
    if (mode.empty()) mode = ca.empty() ? "disabled" : "verify_identity";
    if (mode == "disabled") return;
    if (!ca.empty()) mysql_options(connection_, MYSQL_OPT_SSL_CA, ca.c_str());
    if (!cert.empty()) mysql_options(connection_, MYSQL_OPT_SSL_CERT, cert.c_str());
    if (!key.empty()) mysql_options(connection_, MYSQL_OPT_SSL_KEY, key.c_str());
    mysql_options(connection_, MYSQL_OPT_SSL_ENFORCE, &on);
    // The library knows no step between: with verification the name counts as well.
    mysql_options(connection_, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, mode == "required" ? &off : &on);
  }

  /// Empty: connected.
  std::string connect() {
    if (connection_) return {};
    const conf::SqlUrl& url = settings_->url;
    conf::Secret password = url.password;
    if (!settings_->password_file.empty()) {
      auto read = read_password(settings_->password_file);
      if (!read) return read.error().text;
      password = std::move(*read);
    }
    connection_ = mysql_init(nullptr);
    if (!connection_) return "no memory for a connection";
    set_options(static_cast<uint64_t>(std::max<int64_t>(1, settings_->lookup_timeout.count())));
    std::string text(password.reveal());
    const char* host = url.hosts.empty() ? nullptr : url.hosts.front().name.c_str();
    const unsigned port = url.hosts.empty() ? 0 : url.hosts.front().port;
    // "localhost" would mean the library's own Unix socket.
    if (host && std::strcmp(host, "localhost") == 0) {
      const unsigned tcp = MYSQL_PROTOCOL_TCP;
      mysql_options(connection_, MYSQL_OPT_PROTOCOL, &tcp);
    }
    const bool done =
        mysql_real_connect(connection_, host, url.user.c_str(), text.c_str(), url.database.c_str(), port,
                           url.path.empty() ? nullptr : url.path.c_str(), 0) != nullptr;
    conf::wipe(text);
    if (!done ||
        (!settings_->writable() && mysql_query(connection_, "SET SESSION TRANSACTION READ ONLY") != 0)) {
      std::string why = conf::on_one_line(mysql_error(connection_));
      close();
      return why.empty() ? "no connection" : why;
    }
    return {};
  }

  void close() {
    for (MYSQL_STMT** one : {&find_, &put_, &erase_})
      if (*one) mysql_stmt_close(std::exchange(*one, nullptr));
    if (connection_) mysql_close(std::exchange(connection_, nullptr));
  }

  /// Null: error_ says why.
  MYSQL_STMT* prepared(MYSQL_STMT*& kept, const std::string& text, size_t parameters) {
    if (kept) return kept;
    MYSQL_STMT* made = mysql_stmt_init(connection_);
    if (!made || mysql_stmt_prepare(made, text.data(), text.size()) != 0) {
      // Nothing of an account is in the text, so that the server's words can be repeated.
      error_ = "the statement: " + conf::on_one_line(made ? mysql_stmt_error(made) : "no memory");
      const unsigned code = made ? mysql_stmt_errno(made) : 0;
      if (made) mysql_stmt_close(made);
      if (is_loss(code)) close();
      return nullptr;
    }
    if (mysql_stmt_param_count(made) != parameters) {
      error_ = "the statement has " + std::to_string(mysql_stmt_param_count(made)) + " parameters, and " +
               std::to_string(parameters) + " are given";
      mysql_stmt_close(made);
      return nullptr;
    }
    return kept = made;
  }

  static MYSQL_BIND bound(const std::string& text, unsigned long& size) {
    MYSQL_BIND bind{};
    size = text.size();
    bind.buffer_type = MYSQL_TYPE_STRING;
    bind.buffer = const_cast<char*>(text.data());
    bind.buffer_length = size;
    bind.length = &size;
    return bind;
  }

  static bool is_loss(unsigned code) {
    return code == CR_SERVER_GONE_ERROR || code == CR_SERVER_LOST || code == CR_COMMANDS_OUT_OF_SYNC ||
           code == CR_UNKNOWN_ERROR || code == ER_UNKNOWN_STMT_HANDLER || code == ER_NEED_REPREPARE;
  }

  /// Of a statement that failed. Its words may hold the name, so that only the number is repeated.
  Said broken(MYSQL_STMT* statement) {
    const unsigned code = mysql_stmt_errno(statement);
    std::string words = "the database answered with the error " + std::to_string(code);
    if (code == CR_SERVER_GONE_ERROR || code == CR_SERVER_LOST)
      words = "the server closed the connection, or is silent";
    close();  // whatever it was, the next question begins from nothing
    return {failed(std::move(words))};
  }

  Said look_up(const std::string& name) {
    if (auto wrong = connect(); !wrong.empty()) return {failed(std::move(wrong))};
    MYSQL_STMT* statement = prepared(find_, settings_->query, 1);
    if (!statement) return {failed(error_)};
    if (mysql_stmt_field_count(statement) != 1) {
      const auto columns = std::to_string(mysql_stmt_field_count(statement));
      finish(find_);
      return {failed("the query gives " + columns + " columns, and one is asked for")};
    }
    unsigned long size = 0, got = 0;
    MYSQL_BIND in = bound(name, size);
    std::array<char, longest_value + 1> value{};
    my_bool null = 0, cut = 0;
    MYSQL_BIND out{};
    out.buffer_type = MYSQL_TYPE_STRING;
    out.buffer = value.data();
    out.buffer_length = value.size();
    out.length = &got;
    out.is_null = &null;
    out.error = &cut;
    if (mysql_stmt_bind_param(statement, &in) != 0 || mysql_stmt_execute(statement) != 0 ||
        mysql_stmt_bind_result(statement, &out) != 0)
      return broken(statement);
    const int status = mysql_stmt_fetch(statement);
    if (status != 0 && status != MYSQL_NO_DATA && status != MYSQL_DATA_TRUNCATED) return broken(statement);
    Said said{absent()};
    if (status != MYSQL_NO_DATA && !null) {
      said.answer = got > longest_value ? failed("the value is longer than any name of a destination")
                                        : answer_of({value.data(), got});
      said.about_key = said.answer.kind == StoreAnswer::Kind::failed;
    }
    mysql_stmt_free_result(statement);
    finish(find_);
    return said;
  }

  Said write(MYSQL_STMT*& kept, const std::string& text, const std::string* destination,
             const std::string& name, uint64_t) {
    if (auto wrong = connect(); !wrong.empty()) return {failed(std::move(wrong))};
    MYSQL_STMT* statement = prepared(kept, text, destination ? 2 : 1);
    if (!statement) return {failed(error_)};
    std::array<unsigned long, 2> sizes{};
    std::array<MYSQL_BIND, 2> in{bound(name, sizes[0])};
    if (destination) in[1] = bound(*destination, sizes[1]);
    if (mysql_stmt_bind_param(statement, in.data()) != 0 || mysql_stmt_execute(statement) != 0)
      return broken(statement);
    const bool changed = mysql_stmt_affected_rows(statement) > 0;
    mysql_stmt_free_result(statement);
    finish(kept);
    if (!destination && !changed) return {absent()};
    return {{StoreAnswer::Kind::found, {}}};
  }

  void finish(MYSQL_STMT*& statement) const {
    if (!settings_->prepared && statement) mysql_stmt_close(std::exchange(statement, nullptr));
  }

  const std::shared_ptr<const SqlSettings> settings_;
  MYSQL* connection_ = nullptr;
  MYSQL_STMT *find_ = nullptr, *put_ = nullptr, *erase_ = nullptr;
  std::string error_;
};

}  // namespace

std::unique_ptr<Store> make_mariadb_store(Loop& loop, SqlSettings settings) {
  static const bool loaded = (load_logins(), true);
  (void)loaded;
  const size_t threads = settings.pool_size;
  const bool writable = settings.writable();
  auto shared = std::make_shared<const SqlSettings>(std::move(settings));
  return make_blocking_store(loop, threads, writable, "store-mariadb",
                             [shared] { return std::make_unique<MariadbClient>(shared); });
}

}  // namespace postern::proxy
