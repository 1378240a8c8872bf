// SPDX-License-Identifier: GPL-3.0-or-later
// Drives client sessions: connect, shake hands, ask, compare every byte of the answer, count.
#include "test/bench/client.hpp"

#include <netinet/tcp.h>
#include <openssl/x509v3.h>
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
constexpr size_t record = 16384;
constexpr unsigned source_addresses = 200;  // 127.0.0.2 and up: ports for any number of sessions

}  // namespace

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
      if (options_.imap) {
        if (!session.talk) session.talk = std::make_unique<ImapClient>();
        const uint64_t user = (dialled_ * options_.threads + index_) % options_.users;
        session.talk->begin(user_name(user), options_.work == Work::login);
        session.state = State::talking;
        return talk(session, why);
      }
      if (standing())
        request(session, Verb::echo, options_.warm);
      else
        request(session, Verb::bye, options_.size);
      return Turn::wait;
    }
    case State::talking:
      return talk(session, why);
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
  if (resumed) return true;
  X509* leaf = SSL_get0_peer_certificate(ssl);
  const std::string& name = session.server_name;
  if (leaf != nullptr && (!options_.leaf || X509_cmp(leaf, options_.leaf.get()) == 0) &&
      (name.empty() || X509_check_host(leaf, name.data(), name.size(), 0, nullptr) == 1))
    return true;
  why = "another certificate than expected";
  return false;
}

bool Worker::send_head(Session& session, std::string& why) {
  while (session.head_sent < session.head.size()) {
    const Outcome outcome = session.stream.write(session.head.data() + session.head_sent,
                                                 session.head.size() - session.head_sent);
    if (outcome.state == Io::again) break;
    if (outcome.state != Io::done) {
      why = "the connection broke while sending";
      return false;
    }
    session.head_sent += outcome.size;
  }
  return true;
}

Worker::Turn Worker::talk(Session& session, std::string& why) {
  for (;;) {
    if (!send_head(session, why)) return Turn::failed;
    const Outcome outcome = session.stream.read(buffer_.data(), buffer_.size());
    if (outcome.state == Io::again) return Turn::wait;
    if (outcome.state != Io::done) {
      why = "the connection ended before the answer to " + std::string(session.talk->waits_for());
      return Turn::failed;
    }
    if (session.head_sent == session.head.size()) {
      session.head.clear();
      session.head_sent = 0;
    }
    switch (session.talk->take({buffer_.data(), outcome.size}, session.head, why)) {
      case ImapClient::Next::more:
        break;
      case ImapClient::Next::wrong:
        return Turn::failed;
      case ImapClient::Next::logged_in:
        session.took = Clock::now() - session.started;
        if (options_.work == Work::login) break;
        session.talk.reset();
        request(session, Verb::echo, options_.warm);
        return Turn::wait;
      case ImapClient::Next::over:
        session.state = State::ending;
        session.moved = 0;
        session.due = 0;
        return Turn::more;
    }
  }
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
    if (options_.names > 0) {
      session.server_name =
          "h" + std::to_string((dialled_ * options_.threads + index_) % options_.names) + ".bench.test";
      // What the macro SSL_set_tlsext_host_name stands for, without its cast.
      SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, session.server_name.data());
    }
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
  // A session that came back in a storm counts from when it was lost.
  if (standing() && command_ != Command::storm) session.started = Clock::now();
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
