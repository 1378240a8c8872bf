// SPDX-License-Identifier: GPL-3.0-or-later
// One thread of the load generator: its sessions, and the loop that drives them until a command is done.
#pragma once

#include <netinet/in.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "test/bench/imap.hpp"
#include "test/bench/tally.hpp"
#include "test/bench/wire.hpp"

namespace postern::bench {

// What one exchange is. `login` and `bye` are sessions of their own, the others happen on standing ones.
enum class Work { get, put, echo, bye, login };

struct Options {
  sockaddr_in server{};
  Work work = Work::echo;
  uint64_t size = 64;
  uint64_t warm = 64;  // bytes echoed once when a standing session is opened
  size_t threads = 1;
  size_t at_once = 32;  // sessions of `login` and `bye` at the same time
  bool imap = false;    // log in first
  uint64_t users = 1000;
  uint64_t names = 0;  // server names asked for, one after the other; 0: none is sent
  bool resume = false;
  Context context;                                                  // null: plain
  std::string group = "X25519";                                     // what the key exchange must be
  std::unique_ptr<X509, void (*)(X509*)> leaf{nullptr, X509_free};  // what a full handshake must show
};

struct FreeTicket {
  void operator()(SSL_SESSION* ticket) const { SSL_SESSION_free(ticket); }
};

class Worker {
 public:
  Worker(const Options& options, size_t index);

  void open(size_t count, Clock::time_point limit);  // bring the sessions to count, each proved once
  void run(Clock::time_point until, Clock::time_point limit);
  void check(Clock::time_point limit);  // every session, once
  // Sessions begin when it is their time, however the earlier ones fare; what they take counts from then.
  void rate(double per_second, Clock::time_point until, Clock::time_point limit);
  // Every standing session is lost once and comes back, as often as it has to try.
  void storm(Clock::time_point limit);
  Tally take_tally();

 private:
  enum class State { closed, connecting, handshaking, talking, exchanging, ending, idle };
  enum class Command { open, run, check, rate, storm };
  struct Session {
    size_t index = 0;
    State state = State::closed;
    Stream stream;
    std::unique_ptr<SSL_SESSION, FreeTicket> ticket;
    std::unique_ptr<ImapClient> talk;
    std::string server_name;
    std::string head;  // request line, and the payload if it is small: one write, one record
    size_t head_sent = 0;
    uint64_t payload_left = 0;
    uint64_t payload_position = 0;
    uint64_t due = 0;  // answer still to come
    uint64_t due_position = 0;
    uint64_t position = 0;  // where the next request starts in the pattern
    uint64_t moved = 0;
    Clock::time_point started;
    Clock::duration took{};  // login: until the backend had said yes
  };
  enum class Turn { wait, more, finished, failed };
  struct Retry {
    Clock::time_point when;
    Session* session;
  };

  void loop(Clock::time_point limit);
  Clock::duration begin_what_is_due(Clock::time_point limit);
  void serve(Session& session);
  Turn advance(Session& session, std::string& why);
  bool finish_handshake(Session& session, std::string& why) const;
  Turn talk(Session& session, std::string& why);
  bool send_head(Session& session, std::string& why);
  Turn exchange(Session& session, std::string& why);
  Turn end_of_exchange(Session& session);
  Turn listen_quietly(Session& session, std::string& why);
  bool connect(Session& session);
  void start(Session& session);
  void request(Session& session, Verb verb, uint64_t size);
  void finished(Session& session);
  void fail(Session& session, const std::string& why);
  void open_next();
  Session& new_session();
  bool standing() const { return options_.work != Work::bye && options_.work != Work::login; }
  static int keep_ticket(SSL* ssl, SSL_SESSION* ticket);

  const Options& options_;
  size_t index_;
  int epoll_;
  Command command_ = Command::open;
  Clock::time_point until_;
  size_t wanted_ = 0;  // open: how many sessions there shall be
  size_t busy_ = 0;    // sessions the current command still waits for
  uint64_t dialled_ = 0;
  Clock::time_point next_arrival_;
  Clock::duration interval_{};
  std::vector<Session*> free_;  // rate: sessions that have ended
  std::deque<Retry> retries_;   // storm
  std::vector<std::unique_ptr<Session>> sessions_;
  std::vector<Session*> more_;
  std::vector<char> buffer_ = std::vector<char>(pattern::max_chunk);
  Tally tally_;

  friend void prepare_tickets(SSL_CTX* context);
};

// The ticket of a session's first connection serves all later ones: a server may let a chain of resumptions,
// ticket by ticket, end in a full handshake now and then (wolfSSL must after 255), and that must not count
// here.
void prepare_tickets(SSL_CTX* context);

}  // namespace postern::bench
