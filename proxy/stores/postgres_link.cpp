// SPDX-License-Identifier: GPL-3.0-or-later
// In pipeline mode, with a synchronisation behind each question, so that one that fails does not take others
// with it. While a connection is being made libpq changes sockets as it likes: each call of it is made
// unwatched.
#include "proxy/stores/postgres_link.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "conf/text.hpp"
#include "proxy/loop/loop.hpp"
#include "proxy/stores/password.hpp"
#include "proxy/stores/value.hpp"

namespace postern::proxy {
namespace {

constexpr size_t pipeline_depth = 64;
constexpr size_t most_addresses_each = 4;
constexpr const char* find_statement = "postern_find";
constexpr const char* put_statement = "postern_put";
constexpr const char* erase_statement = "postern_erase";

std::string short_line(const char* text) {
  std::string line = conf::on_one_line(conf::trimmed(text ? text : ""));
  if (line.size() > 300) line.resize(300);
  return line;
}

}  // namespace

PostgresLink::PostgresLink(Loop& loop, const SqlSettings& settings, Events& owner)
    : loop_(loop),
      settings_(settings),
      owner_(owner),
      timer_(
          *loop.timers,
          [](void* self) {
            auto* link = static_cast<PostgresLink*>(self);
            link->lose(link->last_error_.empty() ? "no connection in time" : link->last_error_);
          },
          this),
      used_at_(loop.now()) {}

size_t PostgresLink::room() const {
  const size_t most = by_transaction() ? 1 : pipeline_depth;
  return flights_.size() >= most ? 0 : most - flights_.size();
}

// --- connecting -------------------------------------------------------------------------------------

void PostgresLink::start(uint64_t deadline_ms) {
  deadline_ = deadline_ms;
  timer_.at(deadline_ms);
  const auto& hosts = settings_.url.hosts;
  addresses_.resize(hosts.size());
  unresolved_ = 1 + hosts.size();  // this function among them
  for (size_t i = 0; i < hosts.size(); ++i) {
    if (hosts[i].name.starts_with('/')) {
      --unresolved_;
      continue;
    }
    lookups_.push_back(std::make_unique<HostLookup>(loop_, hosts[i].name,
                                                    static_cast<uint64_t>(settings_.stale_addresses.count()),
                                                    [this, i](Addresses addresses, const std::string& why) {
                                                      addresses_[i] = std::move(addresses);
                                                      if (!why.empty()) last_error_ = why;
                                                      resolve();
                                                    }));
    lookups_.back()->start(deadline_ms - (deadline_ms - loop_.now()) / 2);
    if (over_) return;
  }
  resolve();
}

/// One more is known; with the last one, libpq begins.
void PostgresLink::resolve() {
  if (over_ || --unresolved_ > 0) return;
  connect();
}

void PostgresLink::connect() {
  const conf::SqlUrl& url = settings_.url;
  std::string hosts, addresses, ports;
  size_t count = 0;
  const auto add = [&](const std::string& host, const std::string& address, uint16_t port) {
    const char* comma = count++ ? "," : "";
    hosts.append(comma).append(host);
    addresses.append(comma).append(address);
    ports.append(comma).append(std::to_string(port));
  };
  for (size_t i = 0; i < url.hosts.size(); ++i) {
    const auto& host = url.hosts[i];
    if (host.name.starts_with('/')) {
      add(host.name, "", host.port);
      continue;
    }
    if (!addresses_[i]) continue;  // libpq would look the name up itself, and block
    for (size_t n = 0; n < std::min(most_addresses_each, addresses_[i]->size()); ++n)
      add(host.name, (*addresses_[i])[n].text(), host.port);
  }
  if (url.hosts.empty()) add("/var/run/postgresql", "", 5432);
  if (count == 0) return lose(last_error_);

  conf::Secret password = url.password;
  if (!settings_.password_file.empty()) {
    auto read = read_password(settings_.password_file);
    if (!read) return lose(read.error().text);
    password = std::move(*read);
  }
  const std::string password_text(password.reveal());
  std::vector<const char*> words, values;
  const auto say = [&](const char* word, const std::string& value) {
    if (value.empty()) return;
    words.push_back(word);
    values.push_back(value.c_str());
  };
  static const std::string off = "disable", us = "postern", utf8 = "UTF8";
  say("application_name", us);
  say("client_encoding", utf8);
  say("gssencmode", off);  // it would look for tickets, and block
  for (const auto& [word, value] : url.parameters) say(word.c_str(), value);
  say("host", hosts);
  if (addresses.find_first_not_of(',') != std::string::npos) say("hostaddr", addresses);
  say("port", ports);
  say("user", url.user);
  say("password", password_text);
  say("dbname", url.database);
  words.push_back(nullptr);
  values.push_back(nullptr);
  connection_ = PQconnectStartParams(words.data(), values.data(), 0);
  conf::wipe(const_cast<char*>(password_text.data()), password_text.size());
  if (!connection_) return lose("no memory for a connection");
  if (PQstatus(connection_) == CONNECTION_BAD) return lose(connection_error());
  PQsetNoticeReceiver(
      connection_, [](void*, const PGresult*) {}, nullptr);
  watch(UV_WRITABLE);
}

void PostgresLink::poll_connection() {
  unwatch();
  switch (PQconnectPoll(connection_)) {
    case PGRES_POLLING_READING:
      return watch(UV_READABLE);
    case PGRES_POLLING_WRITING:
      return watch(UV_WRITABLE);
    case PGRES_POLLING_OK:
      return connected();
    default:
      return lose(connection_error());
  }
}

void PostgresLink::connected() {
  if (PQsetnonblocking(connection_, 1) != 0 || PQenterPipelineMode(connection_) != 1)
    return lose(connection_error());
  Flight setup;
  silent_since_ = loop_.now();
  if (settings_.prepared) {
    if (!settings_.writable() &&
        !command(PQsendQueryParams(connection_, "SET default_transaction_read_only = on", 0, nullptr, nullptr,
                                   nullptr, nullptr, 0)))
      return;
    const std::string limit = fmt::format("SET statement_timeout = {}", settings_.lookup_timeout.count());
    if (!command(PQsendQueryParams(connection_, limit.c_str(), 0, nullptr, nullptr, nullptr, nullptr, 0)))
      return;
    if (!command(PQsendPrepare(connection_, find_statement, settings_.query.c_str(), 1, nullptr))) return;
  }
  if (!sync(setup)) return;
  flush();
}

std::string PostgresLink::connection_error() const {
  const std::string line = short_line(PQerrorMessage(connection_));
  return line.empty() ? "the connection broke" : line;
}

// --- the socket -------------------------------------------------------------------------------------

void PostgresLink::watch(int events) {
  if (!poll_) {
    poll_ = new uv_poll_t;
    poll_->data = this;
    if (const int status = uv_poll_init(loop_.uv(), poll_, PQsocket(connection_)); status != 0) {
      delete std::exchange(poll_, nullptr);
      return lose(uv_strerror(status));
    }
    watching_ = 0;
  }
  if (watching_ == events) return;
  watching_ = events;
  uv_poll_start(poll_, events, [](uv_poll_t* handle, int status, int ready) {
    if (auto* self = static_cast<PostgresLink*>(handle->data)) self->turn(status, ready);
  });
}

void PostgresLink::unwatch() {
  if (!poll_) return;
  uv_poll_t* poll = std::exchange(poll_, nullptr);
  poll->data = nullptr;
  uv_poll_stop(poll);
  uv_close(reinterpret_cast<uv_handle_t*>(poll),
           [](uv_handle_t* h) { delete reinterpret_cast<uv_poll_t*>(h); });
}

void PostgresLink::turn(int status, int events) {
  if (PQstatus(connection_) != CONNECTION_OK || PQpipelineStatus(connection_) == PQ_PIPELINE_OFF)
    return poll_connection();
  if (status < 0 || (events & UV_READABLE)) read();
  if (!over_) flush();
}

void PostgresLink::flush() {
  if (over_ || !connection_) return;
  const int left = PQflush(connection_);
  if (left < 0 || PQstatus(connection_) == CONNECTION_BAD) return lose(connection_error());
  watch(left ? UV_READABLE | UV_WRITABLE : UV_READABLE);
}

void PostgresLink::read() {
  if (PQconsumeInput(connection_) != 1) return lose(connection_error());
  silent_since_ = loop_.now();
  take_results();
  // libpq may have closed the socket by itself: of that no event would ever tell.
  if (!over_ && PQstatus(connection_) == CONNECTION_BAD) lose(connection_error());
}

void PostgresLink::take_results() {
  bool ended = false;  // libpq has said "no more" once: that is between two commands
  while (!over_ && PQisBusy(connection_) == 0) {
    PGresult* got = PQgetResult(connection_);
    if (!got) {
      if (std::exchange(ended, true)) return;
      continue;
    }
    ended = false;
    result(got);
    PQclear(got);
  }
}

// --- questions --------------------------------------------------------------------------------------

bool PostgresLink::command(bool sent) {
  if (!sent) lose(connection_error());
  return sent;
}

bool PostgresLink::sync(Flight flight) {
  flights_.push_back(std::move(flight));
  return command(PQpipelineSync(connection_) == 1);
}

void PostgresLink::ask(uint64_t id, What what, const std::string& name, const std::string& destination) {
  if (flights_.empty()) silent_since_ = loop_.now();
  used_at_ = loop_.now();
  const bool put = what == What::put;
  const char* values[] = {name.c_str(), destination.c_str()};
  const int lengths[] = {static_cast<int>(name.size()), static_cast<int>(destination.size())};
  const int count = put ? 2 : 1;
  const std::string& text = what == What::find ? settings_.query
                            : put              ? settings_.upsert_query
                                               : settings_.delete_query;
  Flight flight;
  flight.what = what;
  flight.id = id;
  flight.answer = failed("the server did not answer the statement");
  if (by_transaction()) {
    flight.main = 1;
    if (!command(PQsendQueryParams(connection_, "BEGIN READ ONLY", 0, nullptr, nullptr, nullptr, nullptr, 0)))
      return;
  }
  if (settings_.prepared) {
    const char* statement = what == What::find ? find_statement : put ? put_statement : erase_statement;
    bool ready = true;
    if (what != What::find && !std::exchange(put ? put_prepared_ : erase_prepared_, true)) ready = false;
    if (!ready) {
      flight.main = 1;
      if (!command(PQsendPrepare(connection_, statement, text.c_str(), count, nullptr))) return;
    }
    if (!command(PQsendQueryPrepared(connection_, statement, count, values, lengths, nullptr, 0))) return;
  } else if (!command(
                 PQsendQueryParams(connection_, text.c_str(), count, nullptr, values, lengths, nullptr, 0))) {
    return;
  }
  if (by_transaction() &&
      !command(PQsendQueryParams(connection_, "COMMIT", 0, nullptr, nullptr, nullptr, nullptr, 0)))
    return;
  sync(std::move(flight));
}

void PostgresLink::result(const PGresult* got) {
  const ExecStatusType status = PQresultStatus(got);
  if (flights_.empty()) return lose("the server said something unasked");
  if (status == PGRES_PIPELINE_SYNC) return landed();
  Flight& flight = flights_.front();
  const size_t index = flight.results++;
  if (status == PGRES_PIPELINE_ABORTED) return;
  if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) return error(flight, got);
  if (flight.told || index != flight.main) return;
  flight.told = true;
  if (flight.what == What::put) {
    flight.answer = {StoreAnswer::Kind::found, {}};
  } else if (flight.what == What::erase) {
    const bool none = std::strcmp(PQcmdTuples(const_cast<PGresult*>(got)), "0") == 0;
    flight.answer = none ? absent() : StoreAnswer{StoreAnswer::Kind::found, {}};
  } else if (flight.what == What::find) {
    if (status != PGRES_TUPLES_OK) {
      flight.answer = failed("the query is one that gives no rows");
    } else if (PQnfields(got) != 1) {
      flight.answer = failed(fmt::format("the query gives {} columns, and one is asked for", PQnfields(got)));
    } else if (PQntuples(got) == 0 || PQgetisnull(got, 0, 0)) {
      flight.answer = absent();
    } else {
      flight.answer = answer_of({PQgetvalue(got, 0, 0), static_cast<size_t>(PQgetlength(got, 0, 0))});
      flight.about_key = flight.answer.kind == StoreAnswer::Kind::failed;
    }
  }
}

void PostgresLink::error(Flight& flight, const PGresult* got) {
  const char* field = PQresultErrorField(got, PG_DIAG_SQLSTATE);
  const std::string state = field ? field : "";
  // Where the database has no such characters, it has no such name.
  if (flight.what == What::find && (state == "22021" || state == "22P05")) {
    flight.told = true;
    flight.answer = absent();
    return;
  }
  std::string words = "the database answered with an error";
  if (!state.empty()) words.append(" (").append(state).append(")");
  // What these say is about the schema, the login or the server. Others may repeat the name of an account.
  for (const char* said : {"08", "25", "26", "28", "3D", "3F", "42", "53", "55", "57", "58"})
    if (state.starts_with(said))
      words.append(": ").append(short_line(PQresultErrorField(got, PG_DIAG_MESSAGE_PRIMARY)));
  flight.told = true;
  flight.answer = failed(words);
  if (flight.what == What::put) put_prepared_ = false;
  if (flight.what == What::erase) erase_prepared_ = false;
  const bool going = state.starts_with("57P");  // the server, and the connection with it
  const bool useless = going || state == "26000" || (state == "0A000" && settings_.prepared);
  if (flight.what == What::setup || flight.what == What::rollback || useless) lose(words);
}

void PostgresLink::landed() {
  Flight flight = std::move(flights_.front());
  flights_.pop_front();
  if (PQtransactionStatus(connection_) == PQTRANS_INERROR) {
    Flight rollback;
    rollback.what = What::rollback;
    if (!command(PQsendQueryParams(connection_, "ROLLBACK", 0, nullptr, nullptr, nullptr, nullptr, 0)) ||
        !sync(rollback))
      return;
  }
  if (flight.what == What::rollback) return owner_.link_ready(*this);  // there is room again
  if (flight.what == What::setup) {
    timer_.stop();
    served_ = true;
    return owner_.link_ready(*this);
  }
  owner_.link_answered(*this, flight.id, std::move(flight.answer), flight.about_key);
}

std::vector<uint64_t> PostgresLink::open_ids() const {
  std::vector<uint64_t> ids;
  for (const Flight& flight : flights_)
    if (flight.what > What::rollback) ids.push_back(flight.id);
  return ids;
}

void PostgresLink::close() {
  over_ = true;
  timer_.stop();
  for (const auto& lookup : lookups_) lookup->cancel();
  unwatch();
  if (connection_) PQfinish(std::exchange(connection_, nullptr));
}

void PostgresLink::lose(const std::string& why) {
  if (over_) return;
  const std::string said = why;
  over_ = true;
  timer_.stop();
  for (const auto& lookup : lookups_) lookup->cancel();
  unwatch();
  // libpq may be what is calling, with a result of its own in hand: it ends when the link is destroyed.
  owner_.link_lost(*this, said);
}

}  // namespace postern::proxy
