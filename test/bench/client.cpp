// SPDX-License-Identifier: GPL-3.0-or-later
// Drives client sessions: connect, shake hands, ask, compare every byte of the answer, count.
#include "test/bench/client.hpp"

#include <netinet/tcp.h>
#include <openssl/x509.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <utility>

namespace postern::bench {
namespace {

constexpr size_t turn_limit = 512 * 1024;  // bytes one session may move before the others have their turn
constexpr size_t opening_at_once = 64;
constexpr size_t record = 16384;
constexpr unsigned source_addresses = 200;  // 127.0.0.2 and up: ports for any number of sessions

size_t latency_cell(double microseconds) {
  const double cell = microseconds < 1 ? 0 : std::log2(microseconds) * 8;
  return std::min<size_t>(static_cast<size_t>(cell), 64 * 8 - 1);
}

}  // namespace

void Tally::count(uint64_t size, Clock::duration took) {
  ++units;
  bytes += size;
  ++latency[latency_cell(std::chrono::duration<double, std::micro>(took).count())];
}

void Tally::add(const Tally& other) {
  units += other.units;
  bytes += other.bytes;
  failed += other.failed;
  if (first_failure.empty()) first_failure = other.first_failure;
  for (size_t i = 0; i < latency.size(); ++i) latency[i] += other.latency[i];
}

double Tally::percentile(double share) const {
  const double rank = share * static_cast<double>(units);
  double seen = 0;
  for (size_t i = 0; i < latency.size(); ++i) {
    seen += static_cast<double>(latency[i]);
    if (seen > 0 && seen >= rank) return std::exp2((static_cast<double>(i) + 0.5) / 8);
  }
  return 0;
}

int Worker::keep_ticket(SSL* ssl, SSL_SESSION* ticket) {
  auto& kept = static_cast<Session*>(SSL_get_app_data(ssl))->ticket;
  if (kept) return 0;
  kept.reset(ticket);
  return 1;  // ours now
}

void prepare_tickets(SSL_CTX* context) {
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(context, &Worker::keep_ticket);
}

Worker::Worker(const Options& options, size_t index)
    : options_(options), index_(index), epoll_(epoll_create1(EPOLL_CLOEXEC)) {}

void Worker::open(size_t count, Clock::time_point limit) {
  command_ = Command::open;
  wanted_ = count;
  while (busy_ < opening_at_once && sessions_.size() < wanted_) open_next();
  loop(limit);
}

void Worker::run(Clock::time_point until, Clock::time_point limit) {
  command_ = Command::run;
  until_ = until;
  busy_ = sessions_.size();
  for (const auto& session : sessions_) {
    if (!standing())
      start(*session);
    else if (session->state == State::idle)
      request(*session, options_.verb, options_.size);
    else
      fail(*session, "a session was lost before");
  }
  loop(limit);
}

void Worker::check(Clock::time_point limit) {
  command_ = Command::check;
  busy_ = sessions_.size();
  for (const auto& session : sessions_) {
    if (session->state == State::idle)
      request(*session, Verb::echo, 64);
    else
      fail(*session, "a session was lost before");
  }
  loop(limit);
}

Tally Worker::take_tally() { return std::exchange(tally_, Tally{}); }

void Worker::loop(Clock::time_point limit) {
  std::array<epoll_event, 256> events{};
  while (busy_ > 0) {
    const int count =
        epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), more_.empty() ? 100 : 0);
    std::vector<Session*> turn;
    turn.swap(more_);
    for (int i = 0; i < count; ++i) {
      auto* session = static_cast<Session*>(events[static_cast<size_t>(i)].data.ptr);
      if (std::find(turn.begin(), turn.end(), session) == turn.end()) turn.push_back(session);
    }
    for (Session* session : turn) serve(*session);
    if (Clock::now() < limit) continue;
    for (const auto& session : sessions_)
      if (session->state != State::idle && session->state != State::closed) fail(*session, "time is up");
    break;
  }
  busy_ = 0;
  more_.clear();
}

void Worker::serve(Session& session) {
  std::string why;
  switch (advance(session, why)) {
    case Turn::wait:
      return;
    case Turn::more:
      more_.push_back(&session);
      return;
    case Turn::finished:
      finished(session);
      return;
    case Turn::failed:
      fail(session, why);
      return;
  }
}

Worker::Turn Worker::advance(Session& session, std::string& why) {
  switch (session.state) {
    case State::closed:
      return Turn::wait;
    case State::connecting: {
      int error = 0;
      socklen_t size = sizeof error;
      getsockopt(session.stream.fd(), SOL_SOCKET, SO_ERROR, &error, &size);
      if (error != 0) {
        why = std::string("connect: ") + std::strerror(error);
        return Turn::failed;
      }
      session.state = State::handshaking;
      [[fallthrough]];
    }
    case State::handshaking: {
      const Outcome outcome = session.stream.handshake();
      if (outcome.state == Io::again) return Turn::wait;
      if (outcome.state != Io::done) {
        why = "handshake: " + tls_errors();
        return Turn::failed;
      }
      if (session.stream.ssl() != nullptr && !finish_handshake(session, why)) return Turn::failed;
      if (standing())
        request(session, Verb::echo, options_.warm);
      else
        request(session, Verb::bye, options_.size);
      return Turn::wait;
    }
    case State::exchanging:
    case State::ending:
      return exchange(session, why);
    case State::idle:
      return listen_quietly(session, why);
  }
  return Turn::failed;
}

bool Worker::finish_handshake(Session& session, std::string& why) const {
  SSL* ssl = session.stream.ssl();
  const bool resumed = SSL_session_reused(ssl) == 1;
  const bool due = options_.resume && command_ == Command::run;  // opening is what brings the first ticket
  if (resumed != due) {
    why = !due             ? "resumed without being asked to"
          : session.ticket ? "the ticket was not taken"
                           : "there was no ticket";
    return false;
  }
  EVP_PKEY* share = nullptr;
  if (SSL_get_peer_tmp_key(ssl, &share) == 1) {
    const bool right = EVP_PKEY_is_a(share, options_.group.c_str()) == 1;
    EVP_PKEY_free(share);
    if (!right) {
      why = "another key exchange than " + options_.group;
      return false;
    }
  }
  if (resumed || !options_.leaf) return true;
  const X509* leaf = SSL_get0_peer_certificate(ssl);
  if (leaf != nullptr && X509_cmp(leaf, options_.leaf.get()) == 0) return true;
  why = "another certificate than expected";
  return false;
}

Worker::Turn Worker::exchange(Session& session, std::string& why) {
  size_t moved = 0;
  while (session.head_sent < session.head.size() || session.payload_left > 0) {
    if (moved >= turn_limit) return Turn::more;
    const bool head = session.head_sent < session.head.size();
    const size_t chunk =
        head ? session.head.size() - session.head_sent
             : std::min<size_t>(options_.context ? record : pattern::max_chunk, session.payload_left);
    const char* from = head ? session.head.data() + session.head_sent : pattern::at(session.payload_position);
    const Outcome outcome = session.stream.write(from, chunk);
    if (outcome.state == Io::again) break;  // but an echo may have to be read to get on
    if (outcome.state != Io::done) {
      why = "the connection broke while sending";
      return Turn::failed;
    }
    moved += outcome.size;
    if (head) {
      session.head_sent += outcome.size;
    } else {
      session.payload_left -= outcome.size;
      session.payload_position += outcome.size;
    }
  }
  for (;;) {
    if (session.state == State::exchanging && session.due == 0) return end_of_exchange(session);
    if (moved >= 2 * turn_limit) return Turn::more;
    const Outcome outcome = session.stream.read(buffer_.data(), buffer_.size());
    if (outcome.state == Io::again) return Turn::wait;
    if (session.state == State::ending) {
      // Everything is here; how the other side hangs up is its business.
      if (outcome.state != Io::done) return Turn::finished;
      why = "more bytes than asked for";
      return Turn::failed;
    }
    if (outcome.state != Io::done) {
      why = "the connection ended " + std::to_string(session.due) + " bytes early";
      return Turn::failed;
    }
    if (outcome.size > session.due || !pattern::matches(session.due_position, buffer_.data(), outcome.size)) {
      why = "wrong bytes came back";
      return Turn::failed;
    }
    session.due -= outcome.size;
    session.due_position += outcome.size;
    moved += outcome.size;
  }
}

Worker::Turn Worker::end_of_exchange(Session& session) {
  if (standing()) return Turn::finished;
  session.state = State::ending;
  return Turn::more;
}

// Tickets may arrive on an idle session, nothing else may.
Worker::Turn Worker::listen_quietly(Session& session, std::string& why) {
  const Outcome outcome = session.stream.read(buffer_.data(), buffer_.size());
  if (outcome.state == Io::again) return Turn::wait;
  why = outcome.state == Io::done ? "bytes came that nobody asked for" : "an idle session was closed";
  return Turn::failed;
}

void Worker::finished(Session& session) {
  if (command_ == Command::run)
    tally_.count(session.moved, Clock::now() - session.started);
  else
    tally_.count(session.moved, Clock::duration::zero());
  if (!standing()) {
    // OpenSSL spoils the ticket of a session that was not shut down.
    if (SSL* ssl = session.stream.ssl()) SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    session.stream.close();
    session.state = State::closed;
  } else {
    session.state = State::idle;
  }
  if (command_ == Command::run && Clock::now() < until_) {
    if (standing())
      request(session, options_.verb, options_.size);
    else
      start(session);
    return;
  }
  --busy_;
  if (command_ == Command::open) open_next();
}

void Worker::fail(Session& session, const std::string& why) {
  // An idle session that is not part of the command was not counted in busy_.
  const bool counted = session.state != State::idle;
  session.stream.close();
  session.state = State::closed;
  ++tally_.failed;
  if (tally_.first_failure.empty()) tally_.first_failure = why;
  if (counted && busy_ > 0) --busy_;
}

void Worker::open_next() {
  if (sessions_.size() >= wanted_ || tally_.failed > 0) return;
  sessions_.push_back(std::make_unique<Session>());
  Session& session = *sessions_.back();
  session.index = sessions_.size();
  session.position = (index_ * 1'000'003 + session.index) * 4099;
  ++busy_;
  start(session);
}

void Worker::start(Session& session) {
  session.started = Clock::now();
  if (!connect(session)) fail(session, std::string("connect: ") + std::strerror(errno));
}

bool Worker::connect(Session& session) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  sockaddr_in source{};
  source.sin_family = AF_INET;
  source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + static_cast<uint32_t>(dialled_++ % source_addresses));
  session.stream = Stream(fd, options_.context.get());
  session.state = State::connecting;
  if (SSL* ssl = session.stream.ssl()) {
    SSL_set_connect_state(ssl);
    SSL_set_app_data(ssl, &session);
    if (options_.resume && session.ticket) {
      // A copy: OpenSSL spoils a TLS 1.3 session that was used once.
      const std::unique_ptr<SSL_SESSION, FreeTicket> copy(SSL_SESSION_dup(session.ticket.get()));
      SSL_set_session(ssl, copy.get());
    }
  }
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&source), sizeof source) != 0) return false;
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&options_.server), sizeof options_.server) != 0 &&
      errno != EINPROGRESS)
    return false;
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  event.data.ptr = &session;
  return epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) == 0;
}

void Worker::request(Session& session, Verb verb, uint64_t size) {
  session.state = State::exchanging;
  if (standing()) session.started = Clock::now();
  const uint64_t position = session.position;
  session.position += size + 31;
  session.head = request_line({verb, size, position});
  session.head_sent = 0;
  session.moved = size;
  session.payload_left = verb == Verb::put || verb == Verb::echo ? size : 0;
  session.payload_position = position;
  session.due = verb == Verb::put ? put_answer : size;
  session.due_position = verb == Verb::put ? position + size : position;
  if (session.payload_left > 0 && session.payload_left + max_line <= record) {
    session.head.append(pattern::at(position), session.payload_left);
    session.payload_left = 0;
  }
  more_.push_back(&session);
}

}  // namespace postern::bench
