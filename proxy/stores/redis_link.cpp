// SPDX-License-Identifier: GPL-3.0-or-later
// After its owner was told something, the link may be over: each loop looks before it goes on. It is
// destroyed later, never under a call of its own.
#include "proxy/stores/redis_link.hpp"

#include <utility>

#include "proxy/loop/loop.hpp"

namespace postern::proxy {
namespace {

/// What the kernel and we hold for a server that does not read.
constexpr size_t most_unsent = 4 * 1024 * 1024;

}  // namespace

RedisLink::RedisLink(Loop& loop, Reach::Where where, const std::string& key_prefix, Events& owner)
    : loop_(loop),
      owner_(owner),
      timer_(
          *loop.timers,
          [](void* self) { static_cast<RedisLink*>(self)->lose("the server does not answer the login"); },
          this),
      conversation_(key_prefix),
      used_at_(loop.now()) {
  Reach::Events& events = *this;
  reach_ = std::make_unique<Reach>(loop, std::move(where), events);
}

RedisLink::~RedisLink() { close(); }

void RedisLink::start(RedisLogin login, uint64_t deadline_ms) {
  login_ = std::move(login);
  timer_.at(deadline_ms);
  reach_->start(deadline_ms);
}

void RedisLink::reached(std::unique_ptr<Stream> stream, const conf::Ip& ip) {
  loop_.bury(std::move(reach_));
  stream_ = std::move(stream);
  StreamEvents& events = *this;
  stream_->belong_to(events);
  ip_ = ip;
  silent_since_ = loop_.now();
  conversation_.open(login_, out_);
  login_ = {};
  stream_->read(true);
  send();
  if (ready()) serve();
}

void RedisLink::serve() {
  served_ = true;
  timer_.stop();
  owner_.link_ready(*this);
}

uint64_t RedisLink::ask(uint64_t id, What what, std::string_view name, std::string_view destination,
                        bool asking) {
  if (conversation_.outstanding() == 0) silent_since_ = loop_.now();
  used_at_ = loop_.now();
  const uint64_t ticket = what == What::get   ? conversation_.get(name, asking, out_)
                          : what == What::put ? conversation_.put(name, destination, asking, out_)
                                              : conversation_.erase(name, asking, out_);
  asked_.push_back({ticket, id});
  return ticket;
}

void RedisLink::flush() {
  if (!over_ && stream_ && !out_.empty()) send();
}

void RedisLink::send() {
  if (out_.empty()) return;
  const bool sent = stream_->write({reinterpret_cast<const uint8_t*>(out_.data()), out_.size()});
  conf::wipe(out_);  // a password may have been in it
  if (!sent) return lose("the connection broke");
  if (stream_->held() > most_unsent) lose("the server does not read");
}

void RedisLink::stream_data(Stream&, std::span<const uint8_t> plain) {
  if (over_) return;
  silent_since_ = loop_.now();
  const bool was_ready = ready();
  std::vector<RedisConversation::Outcome> done;
  conversation_.receive(plain, done);
  for (auto& outcome : done) {
    if (over_) return;
    // Forgotten ones lie before it.
    while (!asked_.empty() && asked_.front().ticket < outcome.ticket) asked_.pop_front();
    if (asked_.empty() || asked_.front().ticket != outcome.ticket) continue;
    const uint64_t id = asked_.front().id;
    asked_.pop_front();
    owner_.link_answered(*this, id, std::move(outcome));
  }
  if (over_) return;
  if (conversation_.state() == RedisConversation::State::broken)
    return lose(std::string(conversation_.error()));
  if (!was_ready && ready()) serve();
  if (!over_) owner_.link_heard(*this);
}

void RedisLink::stream_ended(Stream& stream, StreamEnd end) {
  lose(end == StreamEnd::tls ? std::string("TLS: ") + stream.tls()->error()
                             : "the server closed the connection");
}

std::vector<uint64_t> RedisLink::open_ids() const {
  std::vector<uint64_t> ids;
  ids.reserve(asked_.size());
  for (const Asked& one : asked_) ids.push_back(one.id);
  return ids;
}

void RedisLink::close() {
  over_ = true;
  timer_.stop();
  if (reach_) reach_->cancel();
  loop_.bury(std::move(reach_));
  if (stream_) {
    stream_->close();
    loop_.bury(std::move(stream_));
  }
  conf::wipe(out_);
}

void RedisLink::lose(const std::string& why) {
  if (over_) return;
  const std::string said = why;
  close();
  owner_.link_lost(*this, said);
}

}  // namespace postern::proxy
