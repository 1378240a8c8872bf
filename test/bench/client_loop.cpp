// SPDX-License-Identifier: GPL-3.0-or-later
// The commands of a worker: which sessions begin when, and when a command is done.
#include <sys/epoll.h>
#include <sys/prctl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "test/bench/client.hpp"

namespace postern::bench {
namespace {

constexpr size_t opening_at_once = 64;
constexpr size_t most_arrivals = 4000;  // sessions of `rate` alive at once; more is a proxy that has stopped
constexpr auto before_next_try = std::chrono::milliseconds(100);

Verb verb_of(Work work) { return work == Work::get ? Verb::get : work == Work::put ? Verb::put : Verb::echo; }

}  // namespace

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
    if (!standing()) {
      session->started = Clock::now();
      start(*session);
    } else if (session->state == State::idle) {
      request(*session, verb_of(options_.work), options_.size);
    } else {
      fail(*session, "a session was lost before");
    }
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

void Worker::rate(double per_second, Clock::time_point until, Clock::time_point limit) {
  command_ = Command::rate;
  until_ = until;
  prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
  interval_ = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(1 / per_second));
  next_arrival_ =
      Clock::now() + interval_ * static_cast<int>(index_ + 1) / static_cast<int>(options_.threads);
  free_.clear();
  for (const auto& session : sessions_) free_.push_back(session.get());
  loop(limit);
}

void Worker::storm(Clock::time_point limit) {
  command_ = Command::storm;
  busy_ = sessions_.size();
  loop(limit);
}

Tally Worker::take_tally() { return std::exchange(tally_, Tally{}); }

// Returns how long there is nothing to begin.
Clock::duration Worker::begin_what_is_due(Clock::time_point limit) {
  constexpr Clock::duration long_enough = std::chrono::milliseconds(100);
  const Clock::time_point now = Clock::now();
  while (!retries_.empty() && retries_.front().when <= now) {
    Session* session = retries_.front().session;
    retries_.pop_front();
    start(*session);
  }
  Clock::duration pause = retries_.empty() ? long_enough : retries_.front().when - now;
  if (command_ != Command::rate) return pause;
  for (; next_arrival_ <= now && next_arrival_ < until_; next_arrival_ += interval_) {
    ++busy_;
    Session& session = free_.empty() ? new_session() : *free_.back();
    if (!free_.empty()) free_.pop_back();
    session.started = next_arrival_;
    if (sessions_.size() > most_arrivals)
      fail(session, "thousands of sessions wait at once");
    else
      start(session);
  }
  if (next_arrival_ < until_) pause = std::min(pause, next_arrival_ - now);
  return std::min(pause, std::max<Clock::duration>(limit - now, Clock::duration::zero()));
}

void Worker::loop(Clock::time_point limit) {
  std::array<epoll_event, 256> events{};
  for (;;) {
    Clock::duration pause = begin_what_is_due(limit);
    if (busy_ == 0 && (command_ != Command::rate || next_arrival_ >= until_)) break;
    if (!more_.empty()) pause = Clock::duration::zero();
    const auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(pause).count();
    const timespec wait{nanoseconds / 1'000'000'000, nanoseconds % 1'000'000'000};
    const int count = epoll_pwait2(epoll_, events.data(), static_cast<int>(events.size()), &wait, nullptr);
    std::vector<Session*> turn;
    turn.swap(more_);
    for (int i = 0; i < count; ++i) {
      auto* session = static_cast<Session*>(events[static_cast<size_t>(i)].data.ptr);
      if (std::find(turn.begin(), turn.end(), session) == turn.end()) turn.push_back(session);
    }
    for (Session* session : turn) serve(*session);
    if (Clock::now() < limit) continue;
    command_ = Command::check;  // nothing is begun any more
    for (const auto& session : sessions_)
      if (session->state != State::idle && session->state != State::closed) fail(*session, "time is up");
    for (const Retry& retry : retries_) fail(*retry.session, "time is up, and the session is not back");
    break;
  }
  busy_ = 0;
  more_.clear();
  retries_.clear();
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

void Worker::finished(Session& session) {
  if (command_ == Command::open || command_ == Command::check)
    tally_.count(session.moved, Clock::duration::zero());
  else
    tally_.count(session.moved, options_.work == Work::login ? session.took : Clock::now() - session.started);
  if (!standing()) {
    // OpenSSL spoils the ticket of a session that was not shut down.
    if (SSL* ssl = session.stream.ssl()) SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    session.stream.close();
    session.state = State::closed;
  } else {
    session.state = State::idle;
  }
  if (command_ == Command::run && Clock::now() < until_) {
    session.started = Clock::now();
    if (standing())
      request(session, verb_of(options_.work), options_.size);
    else
      start(session);
    return;
  }
  --busy_;
  if (command_ == Command::rate) free_.push_back(&session);
  if (command_ == Command::open) open_next();
}

void Worker::fail(Session& session, const std::string& why) {
  // An idle session that is not part of the command was not counted in busy_.
  const bool idle = session.state == State::idle;
  session.stream.close();
  session.state = State::closed;
  if (command_ == Command::storm) {
    if (idle) {
      session.started = Clock::now();
    } else {
      ++tally_.retries;
      if (tally_.first_failure.empty()) tally_.first_failure = why;
    }
    retries_.push_back({Clock::now() + (idle ? Clock::duration::zero() : before_next_try), &session});
    return;
  }
  ++tally_.failed;
  if (tally_.first_failure.empty()) tally_.first_failure = why;
  if (!idle && busy_ > 0) --busy_;
  if (command_ == Command::rate) free_.push_back(&session);
}

Worker::Session& Worker::new_session() {
  sessions_.push_back(std::make_unique<Session>());
  Session& session = *sessions_.back();
  session.index = sessions_.size();
  session.position = (index_ * 1'000'003 + session.index) * 4099;
  return session;
}

void Worker::open_next() {
  if (sessions_.size() >= wanted_ || tally_.failed > 0) return;
  Session& session = new_session();
  session.started = Clock::now();
  ++busy_;
  start(session);
}

void Worker::start(Session& session) {
  session.head.clear();
  session.head_sent = 0;
  if (!connect(session)) fail(session, std::string("connect: ") + std::strerror(errno));
}

}  // namespace postern::bench
