// SPDX-License-Identifier: GPL-3.0-or-later
// The file may be replaced by another at any time: before each question it is seen whether it is still the
// one that is open. Whatever takes too long, a lock or a query, is given up by the question's deadline.
#include "proxy/stores/sqlite.hpp"

#include <sqlite3.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "conf/text.hpp"
#include "proxy/stores/blocking.hpp"
#include "proxy/stores/value.hpp"

namespace postern::proxy {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int steps_between_looks = 1000;  // of the library's machine, until the clock is looked at
constexpr size_t most_threads = 4;         // they only wait for the same disk

class SqliteClient final : public BlockingClient {
 public:
  explicit SqliteClient(std::shared_ptr<const SqlSettings> settings) : settings_(std::move(settings)) {}
  ~SqliteClient() override { close(); }

  Said find(const std::string& name, uint64_t ms) override {
    if (auto wrong = open(ms); !wrong.empty()) return {failed(std::move(wrong))};
    sqlite3_stmt* statement = prepared(find_, settings_->query, 1);
    if (!statement) return {failed(error_)};
    if (sqlite3_column_count(statement) != 1)
      return {failed("the query gives " + std::to_string(sqlite3_column_count(statement)) +
                     " columns, and one is asked for")};
    bind(statement, 1, name);
    Said said{failed("")};
    switch (const int status = sqlite3_step(statement); status) {
      case SQLITE_DONE:
        said = {absent()};
        break;
      case SQLITE_ROW:
        said = value_of(statement);
        break;
      default:
        said = {failed(words(status))};
    }
    finish(find_);
    return said;
  }

  Said put(const std::string& name, const std::string& destination, uint64_t ms) override {
    return write(put_, settings_->upsert_query, &destination, name, ms);
  }
  Said erase(const std::string& name, uint64_t ms) override {
    return write(erase_, settings_->delete_query, nullptr, name, ms);
  }
  [[nodiscard]] bool connected() const override { return database_ != nullptr; }

 private:
  /// Empty: it is open, and is the file that is there now.
  std::string open(uint64_t ms) {
    deadline_ = Clock::now() + std::chrono::milliseconds(ms);
    const std::string& path = settings_->url.path;
    struct stat facts {};
    if (::stat(path.c_str(), &facts) != 0) {
      const std::string why = std::string("the file cannot be opened: ") + std::strerror(errno);
      close();
      return why;
    }
    if (database_ && (facts.st_dev != device_ || facts.st_ino != inode_)) close();
    if (!database_) {
      const bool writable = settings_->writable();
      const int flags = (writable ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY) | SQLITE_OPEN_NOMUTEX |
                        SQLITE_OPEN_PRIVATECACHE;
      const int status = sqlite3_open_v2(path.c_str(), &database_, flags, nullptr);
      if (status != SQLITE_OK) {
        close();
        return std::string("the file cannot be opened: ") + sqlite3_errstr(status);
      }
      device_ = facts.st_dev;
      inode_ = facts.st_ino;
      sqlite3_db_config(database_, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
      sqlite3_db_config(database_, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
      sqlite3_limit(database_, SQLITE_LIMIT_ATTACHED, 0);
      if (!writable &&
          sqlite3_exec(database_, "PRAGMA query_only = ON", nullptr, nullptr, nullptr) != SQLITE_OK) {
        close();
        return "the database does not become read-only";
      }
      sqlite3_progress_handler(
          database_, steps_between_looks,
          [](void* self) { return Clock::now() >= static_cast<SqliteClient*>(self)->deadline_ ? 1 : 0; },
          this);
    }
    sqlite3_busy_timeout(database_, static_cast<int>(std::min<uint64_t>(ms, 3'600'000)));
    return {};
  }

  void close() {
    for (sqlite3_stmt** one : {&find_, &put_, &erase_}) sqlite3_finalize(std::exchange(*one, nullptr));
    if (database_) sqlite3_close(std::exchange(database_, nullptr));
  }

  /// Null: error_ says why. Nothing of an account is in the text, so that the library's words can be
  /// repeated.
  sqlite3_stmt* prepared(sqlite3_stmt*& kept, const std::string& text, int parameters) {
    if (kept) return kept;
    const char* rest = nullptr;
    const int status = sqlite3_prepare_v3(database_, text.c_str(), static_cast<int>(text.size() + 1),
                                          SQLITE_PREPARE_PERSISTENT, &kept, &rest);
    if (status != SQLITE_OK || !kept) {
      error_ = status == SQLITE_OK ? "the statement is empty"
                                   : "the statement: " + conf::on_one_line(sqlite3_errmsg(database_));
    } else if (!conf::trimmed(rest ? rest : "").empty()) {
      error_ = "there is something behind the statement";
    } else if (sqlite3_bind_parameter_count(kept) != parameters) {
      error_ = "the statement has " + std::to_string(sqlite3_bind_parameter_count(kept)) +
               " parameters, and " + std::to_string(parameters) + " are given";
    } else {
      return kept;
    }
    sqlite3_finalize(std::exchange(kept, nullptr));
    return nullptr;
  }

  static void bind(sqlite3_stmt* statement, int index, const std::string& text) {
    sqlite3_bind_text(statement, index, text.data(), static_cast<int>(text.size()), SQLITE_STATIC);
  }

  void finish(sqlite3_stmt*& statement) {
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    if (!settings_->prepared) sqlite3_finalize(std::exchange(statement, nullptr));
  }

  static Said value_of(sqlite3_stmt* statement) {
    if (sqlite3_column_type(statement, 0) == SQLITE_NULL) return {absent()};
    if (sqlite3_column_type(statement, 0) != SQLITE_TEXT) return {failed("the value is no text"), true};
    const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement, 0));
    const int size = sqlite3_column_bytes(statement, 0);
    if (!text) return {failed("out of memory")};
    Said said{answer_of({text, static_cast<size_t>(size)})};
    said.about_key = said.answer.kind == StoreAnswer::Kind::failed;
    return said;
  }

  Said write(sqlite3_stmt*& kept, const std::string& text, const std::string* destination,
             const std::string& name, uint64_t ms) {
    if (auto wrong = open(ms); !wrong.empty()) return {failed(std::move(wrong))};
    sqlite3_stmt* statement = prepared(kept, text, destination ? 2 : 1);
    if (!statement) return {failed(error_)};
    bind(statement, 1, name);
    if (destination) bind(statement, 2, *destination);
    int status = SQLITE_ROW;
    while (status == SQLITE_ROW) status = sqlite3_step(statement);  // with RETURNING there are rows
    const bool changed = status == SQLITE_DONE && sqlite3_changes(database_) > 0;
    finish(kept);
    if (status != SQLITE_DONE) return {failed(words(status))};
    if (!destination && !changed) return {absent()};
    return {{StoreAnswer::Kind::found, {}}};
  }

  static std::string words(int status) {
    switch (status & 0xff) {
      case SQLITE_BUSY:
      case SQLITE_LOCKED:
        return "the database is locked by another";
      case SQLITE_INTERRUPT:
        return "the query took too long";
      default:
        return sqlite3_errstr(status);
    }
  }

  const std::shared_ptr<const SqlSettings> settings_;
  sqlite3* database_ = nullptr;
  sqlite3_stmt *find_ = nullptr, *put_ = nullptr, *erase_ = nullptr;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  Clock::time_point deadline_;
  std::string error_;
};

}  // namespace

std::unique_ptr<Store> make_sqlite_store(Loop& loop, SqlSettings settings) {
  const size_t threads = std::min(settings.pool_size, most_threads);
  const bool writable = settings.writable();
  auto shared = std::make_shared<const SqlSettings>(std::move(settings));
  return make_blocking_store(loop, threads, writable, "store-sqlite",
                             [shared] { return std::make_unique<SqliteClient>(shared); });
}

}  // namespace postern::proxy
