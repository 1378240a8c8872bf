// SPDX-License-Identifier: GPL-3.0-or-later
// The two directions are independent; they meet only where one ends and where both are done. Nothing here
// takes memory but through streams, which say when there was none.
#include "proxy/session/bridge.hpp"

#include <algorithm>

#include "proxy/loop/loop.hpp"

namespace postern::proxy {

Bridge::Bridge(Loop& loop, Stream& client, Stream& backend, uint64_t idle_ms, Cell& to_backend,
               Cell& to_client, BridgeEvents& owner)
    : loop_(loop),
      owner_(owner),
      client_{client, Fault::client_reset, Fault::client_tls, to_backend},
      backend_{backend, Fault::backend_reset, Fault::backend_tls, to_client},
      timer_(
          *loop.timers, [](void* self) noexcept { static_cast<Bridge*>(self)->tick(); }, this),
      idle_ms_(idle_ms),
      last_byte_(loop.now()) {}

/// The client's bytes and its end go first: if the client is gone, the first write to it ends everything.
void Bridge::run(const Before& before) {
  client_.stream.belong_to(*this);
  backend_.stream.belong_to(*this);
  client_.input_over = before.client_over;
  arm();
  backend_.stream.read(true);
  if (!before.from_client.empty()) stream_data(client_.stream, before.from_client);
  if (!over_ && before.client_over) pass_end(client_, before.client_clean);
  if (!over_ && !before.from_backend.empty()) stream_data(backend_.stream, before.from_backend);
  if (!over_ && !client_.input_over && !client_.stalled && !backend_.output_dead) client_.stream.read(true);
}

void Bridge::stop() {
  over_ = true;
  timer_.stop();
}

void Bridge::stream_data(Stream& stream, std::span<const uint8_t> plain) noexcept {
  if (over_) return;
  Side& from = side(stream);
  Side& to = other(from);
  last_byte_ = loop_.now();
  if (&from == &backend_ && !heard_backend_) {
    heard_backend_ = true;
    owner_.backend_spoke();
  }
  if (to.output_dead) return;
  if (!to.stream.write(plain)) return output_failed(to);
  from.sent_on += plain.size();
  from.counted.add(plain.size());
  if (!to.stream.queued() || from.stalled || from.input_over) return;
  from.stalled = true;
  from.stream.read(false);
  arm();
}

/// The peer may have said its last words before it stopped listening (a refusal, then a close): they still
/// go to the other side, for a moment. Its end or its reset comes by reading.
void Bridge::output_failed(Side& to) {
  if (to.output_dead) return;
  to.output_dead = true;
  failed_at_ = loop_.now();
  other(to).stream.read(false);
  if (to.input_over || other(to).output_dead)
    return over(to.reset);  // nobody is left to hear or to say anything
  if (!to.stalled) to.stream.read(true);
  arm();
}

void Bridge::stream_ended(Stream& stream, StreamEnd end) noexcept {
  if (over_) return;
  Side& from = side(stream);
  if (end == StreamEnd::tls && from.stream.flooded())
    return over(&from == &client_ ? Fault::key_updates : Fault::backend_key_updates);
  // A peer that was told everything, the end included, may leave as rudely as it likes: with a reset, or with
  // an alert about an end that came without close_notify, because the other side had sent none.
  const bool told_all = other(from).input_over && from.stream.finished() && !from.stream.queued();
  if ((end == StreamEnd::reset || end == StreamEnd::tls) && told_all) return over(Fault::none);
  if (end == StreamEnd::tls) return over(from.tls);
  if (end == StreamEnd::reset || from.output_dead) return over(from.reset);
  last_byte_ = loop_.now();
  pass_end(from, end == StreamEnd::eof);
}

void Bridge::pass_end(Side& from, bool clean) {
  from.input_over = true;
  from.stalled = false;
  Side& to = other(from);
  from.stream.probe();
  if (!to.output_dead && !to.stream.finish(clean)) {
    if (to.input_over && !to.stream.queued()) return over(Fault::none);  // nobody is left to hear of the end
    return output_failed(to);
  }
  maybe_over();
  if (!over_) arm();
}

void Bridge::stream_drained(Stream& stream) noexcept {
  if (over_) return;
  if (stream.write_failed()) return output_failed(side(stream));
  Side& from = other(side(stream));
  last_byte_ = loop_.now();
  if (from.stalled) {
    from.stalled = false;
    from.stream.read(true);
  }
  maybe_over();
}

void Bridge::maybe_over() {
  if (client_.input_over && backend_.input_over && client_.stream.finished() && backend_.stream.finished())
    over(Fault::none);
}

/// Nothing is read from it, and it is not done with.
bool Bridge::unread(const Side& side) const {
  return side.stalled || (side.input_over && !side.stream.finished());
}

/// Writing to this side failed, and the time for its last words is over. A client is gone, so it has that
/// long in all; what a backend said goes to a client who is there, as long as it keeps coming.
bool Bridge::said_all(const Side& side) const {
  if (!side.output_dead) return false;
  if (&side == &client_) return loop_.now() - failed_at_ >= last_words_ms;
  return !side.stalled && loop_.now() - std::max(failed_at_, last_byte_) >= last_words_ms;
}

void Bridge::arm() {
  uint64_t due = last_byte_ + idle_ms_;
  const uint64_t now = loop_.now();
  if (unread(client_) || unread(backend_)) due = std::min(due, now + look_ms);
  if (client_.output_dead || backend_.output_dead) due = std::min(due, now + last_words_ms);
  timer_.at(due);
}

void Bridge::tick() {
  if (loop_.now() - last_byte_ >= idle_ms_) return over(Fault::idle);
  for (const Side* side : {&client_, &backend_}) {
    if (said_all(*side)) return over(side->reset);
    if (unread(*side) && side->stream.broken()) return over(side->reset);
  }
  arm();
}

void Bridge::over(Fault fault) {
  stop();
  owner_.bridge_over(fault);
}

}  // namespace postern::proxy
