// SPDX-License-Identifier: GPL-3.0-or-later
// One thread of the load generator: its sessions, and the loop that drives them until a command is done.
#pragma once

#include <netinet/in.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "test/bench/wire.hpp"

namespace postern::bench {

using Clock = std::chrono::steady_clock;

struct Options {
  sockaddr_in server{};
  Verb verb = Verb::echo;  // bye: one session after the other; else: requests on standing sessions
  uint64_t size = 64;
  uint64_t warm = 64;  // bytes echoed once when a standing session is opened
  size_t threads = 1;
  bool resume = false;
  Context context;                                                  // null: plain
  std::string group = "X25519";                                     // what the key exchange must be
  std::unique_ptr<X509, void (*)(X509*)> leaf{nullptr, X509_free};  // what a full handshake must show
};

// What a command achieved. Only sessions that got every byte right count as units.
struct Tally {
  uint64_t units = 0;
  uint64_t bytes = 0;
  uint64_t failed = 0;
  std::string first_failure;
  std::array<uint64_t, 64 * 8> latency{};  // microseconds, eight steps to a power of two

  void count(uint64_t size, Clock::duration took);
  void add(const Tally& other);
  double percentile(double share) const;
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
  Tally take_tally();

 private:
  enum class State { closed, connecting, handshaking, exchanging, ending, idle };
  enum class Command { open, run, check };
  struct Session {
    size_t index = 0;
    State state = State::closed;
    Stream stream;
    std::unique_ptr<SSL_SESSION, FreeTicket> ticket;
    std::string head;  // request line, and the payload if it is small: one write, one record
    size_t head_sent = 0;
    uint64_t payload_left = 0;
    uint64_t payload_position = 0;
    uint64_t due = 0;  // answer still to come
    uint64_t due_position = 0;
    uint64_t position = 0;  // where the next request starts in the pattern
    uint64_t moved = 0;
    Clock::time_point started;
  };
  enum class Turn { wait, more, finished, failed };

  void loop(Clock::time_point limit);
  void serve(Session& session);
  Turn advance(Session& session, std::string& why);
  bool finish_handshake(Session& session, std::string& why) const;
  Turn exchange(Session& session, std::string& why);
  Turn end_of_exchange(Session& session);
  Turn listen_quietly(Session& session, std::string& why);
  bool connect(Session& session);
  void start(Session& session);
  void request(Session& session, Verb verb, uint64_t size);
  void finished(Session& session);
  void fail(Session& session, const std::string& why);
  void open_next();
  bool standing() const { return options_.verb != Verb::bye; }
  static int keep_ticket(SSL* ssl, SSL_SESSION* ticket);

  const Options& options_;
  size_t index_;
  int epoll_;
  Command command_ = Command::open;
  Clock::time_point until_;
  size_t wanted_ = 0;  // open: how many sessions there shall be
  size_t busy_ = 0;    // sessions the current command still waits for
  uint64_t dialled_ = 0;
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
