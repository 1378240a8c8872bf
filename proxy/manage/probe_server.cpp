// SPDX-License-Identifier: GPL-3.0-or-later
// Each connection is in one phase with one deadline: waiting for a request, reading its head, writing the
// answer, or parting. Memory is given back in the last close callback and nowhere else. When there are as
// many as may be, each new one ends an old one, so nobody can keep others out by holding connections.
#include "proxy/manage/probe_server.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <exception>
#include <list>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "proxy/base/guard.hpp"
#include "proxy/limits/admission.hpp"
#include "proxy/loop/loop_memory.hpp"
#include "proxy/manage/probe_request.hpp"
#include "proxy/observe/status_page.hpp"

namespace postern::proxy {
namespace {

constexpr size_t connections_max = 128;
constexpr unsigned requests_max = 1000;  // on one connection
constexpr int backlog = 1024;
/// Taken a turn of the loop. Fewer than connections_max, so that whoever is taken is read from, and answered
/// if its request has come, before a crowd behind it can push it out.
constexpr unsigned batch = 16;
constexpr uint64_t idle_ms = 90'000;  // between requests: longer than usual scrape intervals
constexpr uint64_t head_ms = 10'000;
constexpr uint64_t answer_ms = 10'000;
constexpr uint64_t parting_ms = 1'000;

template <class Handle>
uv_handle_t* base(Handle* handle) {
  return reinterpret_cast<uv_handle_t*>(handle);
}
template <class Handle>
uv_stream_t* stream(Handle* handle) {
  return reinterpret_cast<uv_stream_t*>(handle);
}

class Connection;

struct Listener {
  explicit Listener(std::shared_ptr<ProbeState> owner) : state(std::move(owner)) {}
  std::shared_ptr<ProbeState> state;
  uv_tcp_t tcp{};
  uv_tcp_t refused{};      // takes the connection that there is no memory for, and closes it
  bool refusing = false;   // it is not closed yet
  uv_idle_t turn{};        // runs once in every turn of the loop in which connections are taken
  unsigned taken = 0;      // in this turn
  bool one_waits = false;  // libuv holds one, and asks the kernel for no more until it is taken
  int open_handles = 2;
};

}  // namespace

/// Shared by the server and everything libuv still holds, so that either may go first.
struct ProbeState {
  ProbeState(uv_loop_t* on, Handlers with) : loop(on), handlers(std::move(with)) {}

  uv_loop_t* loop;
  Handlers handlers;
  bool closing = false;
  std::list<Listener*> listeners;
  std::unordered_map<uint64_t, unsigned, PrefixHash> clients;  // how many connections each has
  std::list<Connection*> connections;  // in the order of their last request: idle ones first
  size_t handles = 0;                  // objects libuv has not let go of
  std::array<char, 8192> scratch{};    // reads land here: one at a time

  ProbeAnswer answer(const ProbeRequest& request) const;
  bool accept(Listener& listener) noexcept;
  void make_room(const Connection* newcomer);
};

namespace {

class Connection {
 public:
  /// False: there was no memory, and libuv still has it.
  static bool accept(const std::shared_ptr<ProbeState>& state, uv_stream_t* listener) noexcept {
    Connection* c = nullptr;
    const bool made = best_effort([&] {
      std::unique_ptr<Connection> owned(new Connection(state));
      owned->place_ = state->connections.insert(state->connections.end(), owned.get());
      c = owned.release();
    });
    if (!made) return false;
    uv_tcp_init(state->loop, &c->tcp_);
    uv_timer_init(state->loop, &c->timer_);
    c->tcp_.data = c->timer_.data = c->write_.data = c->shutdown_.data = c;
    ++state->handles;
    if (uv_accept(listener, stream(&c->tcp_)) != 0 || !c->watchable()) {
      c->close();
      return true;
    }
    c->safely([&] {
      c->look_at_peer();
      state->make_room(c);
      if (c->phase_ == Phase::closed) return;
      ++state->clients[c->prefix_];
      c->counted_ = true;
      c->enter(Phase::head);
      c->read();
    });
    return true;
  }

  [[nodiscard]] uint64_t prefix() const { return prefix_; }
  [[nodiscard]] bool local() const { return local_; }
  [[nodiscard]] bool answering() const { return phase_ == Phase::answer; }

  void close() {
    if (phase_ == Phase::closed) return;
    phase_ = Phase::closed;
    state_->connections.erase(place_);
    if (counted_ && --state_->clients[prefix_] == 0) state_->clients.erase(prefix_);
    uv_close(base(&timer_), on_closed);
    uv_close(base(&tcp_), on_closed);
  }

 private:
  enum class Phase : uint8_t { idle, head, answer, parting, closed };

  explicit Connection(std::shared_ptr<ProbeState> state) : state_(std::move(state)) {}

  static Connection* self(void* data) { return static_cast<Connection*>(data); }

  /// Whatever libuv calls leads through here: without memory the connection ends.
  template <class Work>
  void safely(Work&& work) noexcept {
    guarded(work, [this](const char*) { close(); });
  }

  [[nodiscard]] bool watchable() const {
    uv_os_fd_t fd = -1;
    return uv_fileno(reinterpret_cast<const uv_handle_t*>(&tcp_), &fd) == 0 && can_watch(*state_->loop, fd);
  }

  void enter(Phase phase) {
    constexpr std::array<uint64_t, 4> limits = {idle_ms, head_ms, answer_ms, parting_ms};
    phase_ = phase;
    uv_timer_start(
        &timer_, [](uv_timer_t* t) { self(t->data)->close(); }, limits[static_cast<size_t>(phase)], 0);
  }

  void look_at_peer() {
    sockaddr_storage address{};
    int size = sizeof address;
    if (uv_tcp_getpeername(&tcp_, reinterpret_cast<sockaddr*>(&address), &size) != 0) return;
    const conf::Ip ip = conf::SocketAddress::from(reinterpret_cast<const sockaddr*>(&address)).ip;
    prefix_ = client_prefix(ip);
    local_ = ip.is_loopback();
  }

  void read() {
    const auto give = [](uv_handle_t* h, size_t, uv_buf_t* buffer) {
      auto& scratch = self(h->data)->state_->scratch;
      *buffer = uv_buf_init(scratch.data(), static_cast<unsigned>(scratch.size()));
    };
    const auto take = [](uv_stream_t* s, ssize_t n, const uv_buf_t* buffer) {
      Connection* const c = self(s->data);
      if (n < 0) return c->close();
      c->safely([&] { c->received({buffer->base, static_cast<size_t>(n)}); });
    };
    if (uv_read_start(stream(&tcp_), give, take) != 0) close();
  }

  void received(std::string_view bytes) {
    if (phase_ == Phase::parting || bytes.empty()) return;  // what comes late is dropped
    if (phase_ == Phase::idle) enter(Phase::head);
    in_ += bytes;
    next();
  }

  /// Answers the request at the front of what was read, if it is whole.
  void next() {
    const ProbeRequest request = parse_probe_request(in_);
    if (request.verdict == ProbeVerdict::more) return;
    const bool last =
        request.verdict != ProbeVerdict::complete || !request.keep_alive || ++served_ >= requests_max;
    const std::string answer = write_probe_answer(state_->answer(request), request.method, !last);
    in_.erase(0, request.consumed);
    send(answer, last);
  }

  void send(std::string bytes, bool last) {
    uv_read_stop(stream(&tcp_));  // one answer at a time
    enter(Phase::answer);
    last_ = last;
    out_ = std::move(bytes);
    const uv_buf_t buffer = uv_buf_init(out_.data(), static_cast<unsigned>(out_.size()));
    const auto written = [](uv_write_t* w, int status) {
      Connection* const c = self(w->data);
      if (status != 0) return c->close();
      c->safely([c] { c->sent(); });
    };
    if (uv_write(&write_, stream(&tcp_), &buffer, 1, written) != 0) close();
  }

  void sent() {
    if (phase_ != Phase::answer) return;
    out_ = {};
    if (last_) return part();
    // To the end of the list: who asked last is closed last when room is needed.
    state_->connections.splice(state_->connections.end(), state_->connections, place_);
    if (in_.empty()) {
      in_ = {};
      enter(Phase::idle);
      return read();
    }
    enter(Phase::head);
    read();
    if (phase_ == Phase::head) next();
  }

  /// Lets the answer arrive: closing over unread input would reset the connection and take it away.
  void part() {
    enter(Phase::parting);
    if (uv_shutdown(&shutdown_, stream(&tcp_), [](uv_shutdown_t*, int) {}) != 0) return close();
    read();
  }

  static void on_closed(uv_handle_t* handle) {
    Connection* c = self(handle->data);
    if (--c->open_handles_ != 0) return;
    --c->state_->handles;
    delete c;
  }

  std::shared_ptr<ProbeState> state_;
  std::list<Connection*>::iterator place_;
  uv_tcp_t tcp_{};
  uv_timer_t timer_{};
  uv_write_t write_{};
  uv_shutdown_t shutdown_{};
  int open_handles_ = 2;
  Phase phase_ = Phase::head;
  unsigned served_ = 0;
  uint64_t prefix_ = 0;   // whom the peer counts as
  bool counted_ = false;  // among its client's
  bool local_ = false;    // it is on this machine, or in this pod
  bool last_ = false;
  std::string in_;   // at most a head and a read
  std::string out_;  // while it is written
};

void let_go(uv_handle_t* handle) {
  auto* gone = static_cast<Listener*>(handle->data);
  if (--gone->open_handles != 0) return;
  --gone->state->handles;
  delete gone;
}

void close_listener(Listener* listener) {
  for (uv_handle_t* handle : {base(&listener->tcp), base(&listener->turn)}) uv_close(handle, let_go);
}

/// Nobody waits in vain, and libuv does not stop to listen.
void refuse(Listener& listener) {
  if (listener.refusing) {
    listener.one_waits = true;
    return;
  }
  uv_tcp_init(listener.state->loop, &listener.refused);
  listener.refused.data = &listener;
  listener.refusing = true;
  ++listener.open_handles;
  (void)uv_accept(stream(&listener.tcp), stream(&listener.refused));
  uv_close(base(&listener.refused), [](uv_handle_t* h) {
    static_cast<Listener*>(h->data)->refusing = false;
    let_go(h);
  });
}

void take(Listener& listener) {
  ++listener.taken;
  uv_idle_start(&listener.turn, [](uv_idle_t* turn) {
    auto* self = static_cast<Listener*>(turn->data);
    self->taken = 0;
    if (!std::exchange(self->one_waits, false)) {
      uv_idle_stop(turn);
    } else if (!self->state->closing) {
      take(*self);
    }
  });
  if (!listener.state->accept(listener)) refuse(listener);
}

}  // namespace

ProbeAnswer ProbeState::answer(const ProbeRequest& request) const {
  if (request.verdict == ProbeVerdict::malformed) return {400, "bad request\n"};
  if (request.verdict == ProbeVerdict::too_large) return {431, "request head too large\n"};
  const bool metrics = request.path == "/metrics";
  const bool health = request.path == "/healthz";
  const bool page = request.path == "/" && handlers.status;
  if (!metrics && !health && !page && request.path != "/readyz") return {404, "not found\n"};
  if (request.method == ProbeMethod::other) return {405, "method not allowed\n"};
  if (health) return {200, "ok\n"};
  try {
    if (metrics) return {200, handlers.metrics(), "text/plain; version=0.0.4; charset=utf-8"};
    if (page) return {200, handlers.status(), "text/html; charset=utf-8", status_headers};
    const Readiness readiness = handlers.ready();
    if (readiness.ready) return {200, "ready\n"};
    return {503, readiness.reason + "\n"};
  } catch (const std::exception&) {  // none may pass through libuv
    return {500, "internal error\n"};
  }
}

bool ProbeState::accept(Listener& listener) noexcept {
  return Connection::accept(listener.state, stream(&listener.tcp));
}

/// Ends the oldest connection of the client that has most of them, where several have as many the oldest of
/// theirs; one that is being answered only if they all are. The newcomer does not count. A local connection
/// never goes for one from elsewhere: it is a probe of the pod's own, or the operator.
void ProbeState::make_room(const Connection* newcomer) {
  if (connections.size() <= connections_max) return;
  const auto spared = [&](const Connection* c) {
    return c == newcomer || (c->local() && !newcomer->local());
  };
  Connection* chosen = nullptr;
  std::pair<unsigned, bool> most;  // connections of its client; not being answered
  for (Connection* c : connections) {
    if (spared(c)) continue;
    const std::pair weight(clients[c->prefix()], !c->answering());
    if (chosen && weight <= most) continue;
    chosen = c;
    most = weight;
  }
  (chosen ? chosen : connections.back())->close();
}

ProbeServer::ProbeServer(uv_loop_t* loop, Handlers handlers)
    : state_(std::make_shared<ProbeState>(loop, std::move(handlers))) {}

ProbeServer::~ProbeServer() { close(); }

conf::Result<void> ProbeServer::open(int fd) {
  auto* listener = new Listener(state_);
  uv_tcp_init(state_->loop, &listener->tcp);
  uv_idle_init(state_->loop, &listener->turn);
  listener->tcp.data = listener->turn.data = listener;
  ++state_->handles;
  int failed = uv_tcp_open(&listener->tcp, fd);
  if (failed != 0) {
    ::close(fd);
  } else {
    failed = uv_listen(stream(&listener->tcp), backlog, [](uv_stream_t* s, int status) {
      auto* self = static_cast<Listener*>(s->data);
      if (status != 0 || self->state->closing) return;
      if (self->taken < batch) return take(*self);
      self->one_waits = true;
    });
  }
  if (failed != 0) {
    close_listener(listener);
    return conf::error(uv_strerror(failed));
  }
  state_->listeners.push_back(listener);
  return {};
}

void ProbeServer::close() {
  if (std::exchange(state_->closing, true)) return;
  for (Listener* listener : std::exchange(state_->listeners, {})) close_listener(listener);
  while (!state_->connections.empty()) state_->connections.front()->close();
}

bool ProbeServer::closed() const { return state_->closing && state_->handles == 0; }

}  // namespace postern::proxy
