// SPDX-License-Identifier: GPL-3.0-or-later
// libuv underneath, tls::Engine in between. The rule for every path: after an owner was told something,
// look whether the stream is still open before going on.
#include "proxy/loop/stream.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "proxy/loop/loop.hpp"
#include "proxy/loop/loop_memory.hpp"

namespace postern::proxy {
namespace {

constexpr unsigned sip_size = 8 * 1024;
constexpr unsigned small_gulp = 64 * 1024;
constexpr uint8_t free_flow = 4;  // full reads in a row

}  // namespace

/// Bytes the socket refused, behind the request that will send them. Owns itself until libuv is done with it.
struct Stream::Queued {
  uv_write_t request;
  size_t size;
  [[nodiscard]] uint8_t* data() { return reinterpret_cast<uint8_t*>(this + 1); }

  static Queued* copy(std::span<const uint8_t> bytes) {
    void* memory = std::malloc(sizeof(Queued) + bytes.size());
    if (!memory) return nullptr;
    auto* made = new (memory) Queued{};
    made->size = bytes.size();
    std::memcpy(made->data(), bytes.data(), bytes.size());
    return made;
  }
};

int Stream::open(int fd) {
  auto* tcp = can_watch(*loop_.uv(), fd) ? new (std::nothrow) uv_tcp_t : nullptr;
  if (!tcp) {
    ::close(fd);
    return UV_ENOMEM;
  }
  uv_tcp_init(loop_.uv(), tcp);
  if (const int status = uv_tcp_open(tcp, fd); status != 0) {
    ::close(fd);
    uv_close(reinterpret_cast<uv_handle_t*>(tcp),
             [](uv_handle_t* h) { delete reinterpret_cast<uv_tcp_t*>(h); });
    return status;
  }
  adopt(tcp);
  return 0;
}

void Stream::adopt(uv_tcp_t* tcp) {
  tcp_ = tcp;
  tcp_->data = this;
}

void Stream::close() {
  if (!tcp_) return;
  uv_tcp_t* tcp = std::exchange(tcp_, nullptr);
  tcp->data = nullptr;
  reading_ = false;
  uv_close(reinterpret_cast<uv_handle_t*>(tcp),
           [](uv_handle_t* h) { delete reinterpret_cast<uv_tcp_t*>(h); });
}

bool Stream::broken() const {
  uv_os_fd_t fd = -1;
  if (!tcp_ || uv_fileno(reinterpret_cast<const uv_handle_t*>(tcp_), &fd) != 0) return true;
  pollfd poll_for{fd, 0, 0};
  return ::poll(&poll_for, 1, 0) > 0 && (poll_for.revents & (POLLERR | POLLHUP)) == (POLLERR | POLLHUP);
}

/// A peer that shut down one direction and one that closed look the same until something is sent to them.
void Stream::probe() {
  uv_os_fd_t fd = -1;
  if (!tcp_ || uv_fileno(reinterpret_cast<const uv_handle_t*>(tcp_), &fd) != 0) return;
  const int on = 1, seconds = 5, times = 4;
  ::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof seconds);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &seconds, sizeof seconds);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &times, sizeof times);
}

size_t Stream::held() const { return sizeof(uv_tcp_t) + queued_ + (engine_ ? engine_->held() : 0); }

// --- input ------------------------------------------------------------------------------------------

void Stream::read(bool on) {
  wanted_ = on;
  apply();
}

void Stream::forget_input() {
  forgetting_ = true;
  choked_ = false;
  read(true);
}

void Stream::apply() {
  const bool on = wanted_ && !choked_ && !input_over_;
  if (!tcp_ || on == reading_) return;
  reading_ = on;
  if (!on) {
    full_reads_ = 0;
    uv_read_stop(reinterpret_cast<uv_stream_t*>(tcp_));
    return;
  }
  uv_read_start(
      reinterpret_cast<uv_stream_t*>(tcp_),
      [](uv_handle_t* handle, size_t, uv_buf_t* buffer) {
        // One buffer for all: what is in it is used up before the next read.
        const auto* self = static_cast<Stream*>(handle->data);
        *buffer = uv_buf_init(reinterpret_cast<char*>(self->loop_.wire.get()), self->gulp());
      },
      [](uv_stream_t* handle, ssize_t n, const uv_buf_t* buffer) {
        if (auto* self = static_cast<Stream*>(handle->data); self && n != 0)
          self->received(n, reinterpret_cast<const uint8_t*>(buffer->base));
      });
}

/// Large reads save system calls where bytes flow freely. Where the other side is slow, what it has not taken
/// yet is held in memory: there, and where there is little to read, small ones.
unsigned Stream::gulp() const {
  if (sipping_) return sip_size;
  return full_reads_ < free_flow ? small_gulp : Loop::wire_size;
}

void Stream::received(ssize_t n, const uint8_t* data) {
  full_reads_ = n < small_gulp ? 0 : std::min<uint8_t>(free_flow, full_reads_ + 1);
  if (n < 0) {
    if (n != UV_EOF) return fail(StreamEnd::reset);
    read(false);
    input_over_ = true;
    return owner_->stream_ended(*this, engine_ ? StreamEnd::truncated : StreamEnd::eof);
  }
  const auto size = static_cast<size_t>(n);
  if (forgetting_) return;
  if (!engine_) return owner_->stream_data(*this, {data, size});
  if (secured_) return decrypt({data, size});
  shake({data, size});
}

void Stream::start_tls(std::unique_ptr<tls::Engine> engine, std::span<const uint8_t> early,
                       std::string_view prefix) {
  engine_ = std::move(engine);
  if (!loop_.outbox.append(reinterpret_cast<const uint8_t*>(prefix.data()), prefix.size())) {
    starved_ = true;
    return fail(StreamEnd::reset);
  }
  shake({early.data(), early.size()});
}

void Stream::shake(tls::Input in) {
  const tls::Progress progress = engine_->handshake(in, loop_.outbox);
  // The last flight leaves together with what the owner says first: a greeting behind the tickets.
  if (progress == tls::Progress::established && !loop_.flight_of &&
      loop_.flight.append(loop_.outbox.bytes().data(), loop_.outbox.size())) {
    loop_.flight_of = this;
    loop_.outbox.clear();
  }
  const bool written = flush();
  if (progress == tls::Progress::failed) return fail(StreamEnd::tls);
  if (!written) return fail(StreamEnd::reset);
  if (progress != tls::Progress::established) return owner_->stream_shaking(*this);
  secured_ = true;
  owner_->stream_secured(*this);
  if (loop_.flight_of == this && !send({}) && tcp_ && !finishing_) return fail(StreamEnd::reset);
  // Data may have come in the same segment as the last flight, and records may wait inside the engine.
  if (tcp_) decrypt(in);
}

void Stream::decrypt(tls::Input in) {
  for (;;) {
    const tls::Moment moment{static_cast<uint32_t>(loop_.now()), queued_ != 0};
    const tls::ReadResult got =
        engine_->read(in, {loop_.plain.get(), Loop::plain_size}, loop_.outbox, moment);
    // Before the owner hears of it: what it then writes to another leg goes through the same outbox.
    const bool answered = !loop_.outbox.empty();
    const bool written = flush();
    if (answered && queued_) {
      // A peer that asks for key updates and reads no answer must not fill our memory with them.
      choked_ = true;
      apply();
    }
    if (got.bytes) {
      owner_->stream_data(*this, {loop_.plain.get(), got.bytes});
      if (!tcp_) return;
    }
    if (got.end == tls::ReadEnd::full) continue;
    if (got.end == tls::ReadEnd::failed) {
      if (flooded())
        (engine_->is_client() ? loop_.cells.backend : loop_.cells.client).key_update_floods.add();
      return fail(StreamEnd::tls);
    }
    if (!written) return fail(StreamEnd::reset);
    if (got.end == tls::ReadEnd::closed) {
      read(false);
      input_over_ = true;
      owner_->stream_ended(*this, StreamEnd::eof);
    }
    return;
  }
}

void Stream::fail(StreamEnd end) {
  read(false);
  input_over_ = true;
  if (tcp_) owner_->stream_ended(*this, end);
}

// --- output -----------------------------------------------------------------------------------------

bool Stream::write(std::span<const uint8_t> plain) {
  if (!engine_) return send(plain);
  const bool encrypted = engine_->write(plain, loop_.outbox);
  return flush() && encrypted;
}

bool Stream::write_clear(std::span<const uint8_t> bytes) { return send(bytes); }

bool Stream::flush() {
  if (loop_.outbox.empty()) return true;
  // Behind our FIN nothing can follow; an answer to the peer's KeyUpdate is not worth the conversation.
  const bool ok = finishing_ || send(loop_.outbox.bytes());
  loop_.outbox.clear();
  return ok;
}

bool Stream::send(std::span<const uint8_t> bytes) {
  if (loop_.flight_of != this) return transmit(bytes);
  loop_.flight_of = nullptr;
  const bool joined = loop_.flight.append(bytes.data(), bytes.size());
  const bool ok = loop_.flight.empty() || transmit(loop_.flight.bytes());
  loop_.flight.clear();
  return ok && (joined || transmit(bytes));
}

bool Stream::transmit(std::span<const uint8_t> bytes) {
  if (!tcp_ || finishing_ || write_failed_) return false;
  auto* handle = reinterpret_cast<uv_stream_t*>(tcp_);
  const auto buffer_of = [](const uint8_t* data, size_t size) {
    return uv_buf_init(reinterpret_cast<char*>(const_cast<uint8_t*>(data)), static_cast<unsigned>(size));
  };
  if (queued_ == 0) {
    // Past libuv, which has nothing of ours to send before it: a shorter way into the kernel than its
    // write().
    uv_os_fd_t fd = -1;
    if (uv_fileno(reinterpret_cast<uv_handle_t*>(tcp_), &fd) != 0) return false;
    ssize_t n = 0;
    do n = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != ENOBUFS) return false;
    if (n > 0) bytes = bytes.subspan(static_cast<size_t>(n));
    if (bytes.empty()) return true;
  }
  Queued* rest = Queued::copy(bytes);
  if (!rest) {
    starved_ = true;
    return false;
  }
  const uv_buf_t buffer = buffer_of(rest->data(), rest->size);
  const int status = uv_write(&rest->request, handle, &buffer, 1, [](uv_write_t* request, int result) {
    auto* done = reinterpret_cast<Queued*>(request);
    const size_t size = done->size;
    auto* self = static_cast<Stream*>(request->handle->data);
    std::free(done);
    if (self) self->sent(size, result);
  });
  if (status != 0) {
    std::free(rest);
    return false;
  }
  queued_ += bytes.size();
  return true;
}

void Stream::sent(size_t bytes, int status) {
  queued_ -= bytes;
  if (status != 0) write_failed_ = true;
  if (queued_ != 0) return;
  choked_ = false;
  apply();
  if (finishing_ && !finished_ && !shut()) write_failed_ = true;
  owner_->stream_drained(*this);
}

bool Stream::finish(bool clean) {
  if (finishing_) return true;
  if (engine_ && secured_ && clean) {
    engine_->close(loop_.outbox);
    if (!flush()) return false;
  }
  finishing_ = true;
  return queued_ != 0 || shut();
}

bool Stream::shut() {
  finished_ = true;
  uv_os_fd_t fd = -1;
  if (!tcp_ || uv_fileno(reinterpret_cast<uv_handle_t*>(tcp_), &fd) != 0) return false;
  return ::shutdown(fd, SHUT_WR) == 0;
}

}  // namespace postern::proxy
