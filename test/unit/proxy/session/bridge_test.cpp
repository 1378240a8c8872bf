// SPDX-License-Identifier: GPL-3.0-or-later
// Streams and the bridge over real loopback sockets, with peers in threads of their own: bytes exact in any
// chunking, ends passed on, last words delivered, silence and stalls bounded.
#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "proxy/loop/loop.hpp"
#include "proxy/session/bridge.hpp"
#include "proxy/system/process.hpp"

using namespace postern::proxy;

namespace {

/// A connected pair: the first end is for a Stream (non-blocking), the second for a blocking peer.
std::array<int, 2> tcp_pair(int buffer = 0) {
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  REQUIRE(::bind(listener, reinterpret_cast<sockaddr*>(&address), size) == 0);
  REQUIRE(::listen(listener, 1) == 0);
  REQUIRE(::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  const int peer = ::socket(AF_INET, SOCK_STREAM, 0);
  if (buffer) {
    ::setsockopt(peer, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    ::setsockopt(listener, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
  }
  REQUIRE(::connect(peer, reinterpret_cast<sockaddr*>(&address), size) == 0);
  const int ours = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK);
  REQUIRE(ours >= 0);
  ::close(listener);
  return {ours, peer};
}

struct Fnv {
  uint64_t hash = 1469598103934665603u;
  size_t bytes = 0;
  void add(const uint8_t* data, size_t size) {
    bytes += size;
    for (size_t i = 0; i < size; ++i) hash = (hash ^ data[i]) * 1099511628211u;
  }
  bool operator==(const Fnv&) const = default;
};

Fnv send_random(int fd, size_t total, unsigned seed) {
  std::mt19937 random(seed);
  Fnv fnv;
  std::vector<uint8_t> chunk(70'000);
  while (fnv.bytes < total) {
    const size_t size = std::min(total - fnv.bytes, 1 + random() % (random() % 4 ? 3000 : chunk.size()));
    for (size_t i = 0; i < size; ++i) chunk[i] = static_cast<uint8_t>(random());
    size_t sent = 0;
    while (sent < size) {
      const ssize_t n = ::send(fd, chunk.data() + sent, size - sent, MSG_NOSIGNAL);
      if (n <= 0) return fnv;
      sent += static_cast<size_t>(n);
    }
    fnv.add(chunk.data(), size);
  }
  return fnv;
}

Fnv receive_all(int fd) {
  Fnv fnv;
  std::vector<uint8_t> buffer(30'000);
  for (;;) {
    const ssize_t n = ::recv(fd, buffer.data(), buffer.size(), 0);
    if (n <= 0) return fnv;
    fnv.add(buffer.data(), static_cast<size_t>(n));
  }
}

void reset(int fd) {
  const linger hard{1, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
  ::close(fd);
}

const bool prepared = (ignore_sigpipe(), true);  // as main() does

/// A loop run on the test's thread, two streams and a bridge between them.
struct Bridged final : BridgeEvents {
  Counters counters{1};
  NameService names;
  Loop loop{0, counters.workers[0], names};
  struct Unowned final : StreamEvents {
    void stream_secured(Stream&) noexcept override {}
    void stream_data(Stream&, std::span<const uint8_t>) noexcept override {}
    void stream_ended(Stream&, StreamEnd) noexcept override {}
    void stream_drained(Stream&) noexcept override {}
  } nobody;
  Stream client{loop, nobody}, backend{loop, nobody};
  std::optional<Bridge> bridge;
  std::optional<Fault> fault;
  int client_peer, backend_peer;

  explicit Bridged(uint64_t idle_ms = 10'000, int buffer = 0) {
    REQUIRE(prepared);
    const auto a = tcp_pair(buffer), b = tcp_pair(buffer);
    client_peer = a[1];
    backend_peer = b[1];
    REQUIRE(client.open(a[0]) == 0);
    REQUIRE(backend.open(b[0]) == 0);
    auto& cells = loop.cells;
    BridgeEvents& events = *this;
    bridge.emplace(loop, client, backend, idle_ms, cells.bytes_to_backend[4], cells.bytes_to_client[4],
                   events);
  }
  ~Bridged() {
    bridge.reset();
    client.close();
    backend.close();
    loop.stop();
    uv_run(loop.uv(), UV_RUN_DEFAULT);
    if (client_peer >= 0) ::close(client_peer);
    if (backend_peer >= 0) ::close(backend_peer);
  }
  void bridge_over(Fault why) noexcept override {
    fault = why;
    for (Stream* stream : {&client, &backend}) {  // as a session does: say goodbye, and read on for a moment
      stream->belong_to(nobody);
      if (!stream->finish(false)) stream->close();
      stream->forget_input();
    }
  }
  void backend_spoke() noexcept override {}
  void begin(const Bridge::Before& before) {
    bridge_started = true;
    bridge->run(before);
  }
  /// Runs the loop until the bridge is over or `ms` have passed; returns the milliseconds it took.
  uint64_t run(uint64_t ms, std::span<const uint8_t> early = {}) {
    if (!bridge_started) begin({early, {}, false, true});
    const auto start = std::chrono::steady_clock::now();
    const auto passed = [&] {
      return static_cast<uint64_t>(
          std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - start)
              .count());
    };
    const auto turn = [&] {
      if (between) between();
      uv_run(loop.uv(), UV_RUN_NOWAIT);
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    };
    while (!fault && passed() < ms) turn();
    const uint64_t took = passed();
    const auto over = [](const Stream& stream) {
      return !stream.is_open() || (stream.input_over() && !stream.queued());
    };
    while (fault && !(over(client) && over(backend)) && passed() < took + 300) turn();
    if (fault) {
      client.close();
      backend.close();
      turn();
    }
    return took;
  }
  bool bridge_started = false;
  std::function<void()> between;  // what the peers do, once a turn
};

}  // namespace

TEST_CASE("bytes pass unchanged in both directions at once, in any chunking") {
  Bridged world;
  constexpr size_t total = 12'000'000;
  Fnv sent[2], got[2];
  std::thread threads[] = {std::thread([&] {
                             sent[0] = send_random(world.client_peer, total, 1);
                             ::shutdown(world.client_peer, SHUT_WR);
                           }),
                           std::thread([&] {
                             sent[1] = send_random(world.backend_peer, total, 2);
                             ::shutdown(world.backend_peer, SHUT_WR);
                           }),
                           std::thread([&] { got[0] = receive_all(world.backend_peer); }),
                           std::thread([&] { got[1] = receive_all(world.client_peer); })};
  world.run(20'000);
  for (auto& thread : threads) thread.join();
  REQUIRE(world.fault);
  CHECK(*world.fault == Fault::none);
  CHECK(got[0] == sent[0]);
  CHECK(got[1] == sent[1]);
  CHECK(world.bridge->to_backend() == total);
  CHECK(world.bridge->to_client() == total);
  CHECK(world.loop.cells.bytes_to_client[4].get() == total);
}

TEST_CASE("input that came early goes first") {
  Bridged world;
  const std::string early = "EHLO early\r\n";
  REQUIRE(::send(world.client_peer, "QUIT\r\n", 6, 0) == 6);
  ::shutdown(world.client_peer, SHUT_WR);
  ::shutdown(world.backend_peer, SHUT_WR);
  world.run(5000, {reinterpret_cast<const uint8_t*>(early.data()), early.size()});
  char buffer[64];
  std::string all;
  for (ssize_t n; (n = ::recv(world.backend_peer, buffer, sizeof buffer, 0)) > 0;)
    all.append(buffer, static_cast<size_t>(n));
  CHECK(all == "EHLO early\r\nQUIT\r\n");
  CHECK(world.bridge->to_backend() == 18);
}

TEST_CASE("an end of one side is passed on and the other direction keeps running") {
  Bridged world;
  Fnv got, sent;
  REQUIRE(::send(world.client_peer, "data", 4, 0) == 4);
  ::shutdown(world.client_peer, SHUT_WR);
  std::thread backend([&] {
    CHECK(receive_all(world.backend_peer).bytes == 4);  // and its end
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    sent = send_random(world.backend_peer, 300'000, 3);
    ::shutdown(world.backend_peer, SHUT_WR);
  });
  std::thread client([&] { got = receive_all(world.client_peer); });
  world.run(5000);
  backend.join();
  client.join();
  CHECK(got == sent);
  CHECK(world.fault == Fault::none);
}

TEST_CASE("a backend that refuses and closes is heard to the last byte") {
  Bridged world;
  Fnv got;
  const std::string words(200'000, 'x');
  std::thread backend([&] {
    size_t sent = 0;
    while (sent < words.size()) {
      const ssize_t n = ::send(world.backend_peer, words.data() + sent, words.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) break;
      sent += static_cast<size_t>(n);
    }
    // What the peer's own kernel still holds dies with its reset; wait until all is on our side.
    for (int left = 1; left > 0; std::this_thread::sleep_for(std::chrono::milliseconds(1)))
      if (::ioctl(world.backend_peer, SIOCOUTQ, &left) != 0) break;
    ::close(world.backend_peer);  // with unread input: a reset follows
    world.backend_peer = -1;
  });
  std::atomic<bool> done{false};
  std::thread client([&] { got = receive_all(world.client_peer); });
  std::thread talker([&] {
    const std::string noise(4000, 'n');
    while (!done && ::send(world.client_peer, noise.data(), noise.size(), MSG_NOSIGNAL) > 0)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
  });
  world.run(5000);
  done = true;
  backend.join();
  talker.join();
  ::shutdown(world.client_peer, SHUT_RD);
  client.join();
  REQUIRE(world.fault);
  CHECK(got.bytes == words.size());
}

TEST_CASE("a reset of either side ends both at once") {
  for (const bool by_client : {true, false}) {
    Bridged world;
    world.run(50);
    int& peer = by_client ? world.client_peer : world.backend_peer;
    reset(peer);
    peer = -1;
    CHECK(world.run(3000) < 1000);
    CHECK(world.fault == (by_client ? Fault::client_reset : Fault::backend_reset));
  }
}

TEST_CASE("a client that was told of the end may answer with an alert: that is no error") {
  for (const bool told : {true, false}) {
    Bridged world;
    if (told) ::shutdown(world.backend_peer, SHUT_WR);
    world.run(100);
    REQUIRE(!world.fault);
    static_cast<StreamEvents&>(*world.bridge).stream_ended(world.client, StreamEnd::tls);
    CHECK(world.fault == (told ? Fault::none : Fault::client_tls));
  }
}

TEST_CASE("silence ends the bridge after its limit and a byte starts the time anew") {
  Bridged world(300);
  std::thread client([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    CHECK(::send(world.client_peer, ".", 1, 0) == 1);
  });
  const uint64_t took = world.run(5000);
  client.join();
  CHECK(world.fault == Fault::idle);
  CHECK(took >= 450);
  CHECK(took < 1500);
}

TEST_CASE("a reader that stalls stops the other side and holds little memory") {
  Bridged world(10'000, 8192);
  std::atomic<size_t> sent{0};
  std::atomic<bool> stop{false};
  std::thread backend([&] {
    const std::vector<uint8_t> chunk(16'384, 'y');
    while (!stop) {
      pollfd ready{world.backend_peer, POLLOUT, 0};
      if (::poll(&ready, 1, 50) <= 0) continue;
      const ssize_t n = ::send(world.backend_peer, chunk.data(), chunk.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (n > 0) sent += static_cast<size_t>(n);
    }
    ::shutdown(world.backend_peer, SHUT_WR);
  });
  world.run(500);
  const size_t before = world.bridge->to_client();
  world.run(500);
  CHECK(world.bridge->to_client() == before);  // nothing moves
  CHECK_FALSE(world.backend.reading());
  stop = true;
  ::shutdown(world.client_peer, SHUT_WR);
  Fnv got;
  std::thread client([&] { got = receive_all(world.client_peer); });
  world.run(10'000);
  backend.join();
  client.join();
  CHECK(world.fault == Fault::none);
  CHECK(got.bytes == sent);
}

TEST_CASE("a stalled source that breaks is noticed though it is not read") {
  Bridged world(10'000, 8192);
  std::thread backend([&] {
    const std::vector<uint8_t> chunk(1'000'000, 'y');
    ::send(world.backend_peer, chunk.data(), chunk.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  });
  backend.join();
  world.run(300);
  REQUIRE_FALSE(world.backend.reading());
  reset(world.backend_peer);
  world.backend_peer = -1;
  CHECK(world.run(5000) < 2500);
  CHECK(world.fault == Fault::backend_reset);
}

// --- a client that is gone ----------------------------------------------------------------------------

namespace {

enum class Leaves { closes, resets, ends_then_closes };           // the client
enum class Moment { before_the_bridge, at_once, during };         // relative to the hand-over
enum class Says { behind_the_login, once, trickle, flood, end };  // the backend, when the client is gone
constexpr const char* leaves_names[] = {"closes", "resets", "ends, then closes"};
constexpr const char* moment_names[] = {"before the bridge", "at the hand-over", "during the bridge"};
constexpr const char* says_names[] = {"bytes behind the login", "once", "now and then", "without end",
                                      "and ends"};

struct Departure {
  Bridged world{20'000, 8192};

  void leave(Leaves how) {
    if (how == Leaves::resets) {
      reset(world.client_peer);
    } else {
      if (how == Leaves::ends_then_closes) ::shutdown(world.client_peer, SHUT_WR);
      ::close(world.client_peer);
    }
    world.client_peer = -1;
  }
  void turn(int ms) {
    for (int i = 0; i < ms; ++i) {
      uv_run(world.loop.uv(), UV_RUN_NOWAIT);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  void say(std::string_view words) const {
    (void)!::send(world.backend_peer, words.data(), words.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  }
  void hear(std::string_view words) { (void)world.client.write(bytes(words)); }
  static std::span<const uint8_t> bytes(std::string_view text) {
    return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
  }
};

constexpr std::string_view ok = "a OK in\r\n", behind = "* 1 EXISTS\r\n";

/// One order of events; many of them run side by side.
struct Order {
  Leaves how;
  Moment when;
  Says what;
  bool deaf;  // the backend does not read, and the client has said more than fits into a socket
  Departure trial = {};
  std::string much = std::string(deaf ? 3'000'000 : 0, 'u');
  int turns = 0;
  uint64_t took = 0;

  /// The login's OK is the first thing that a closed client answers with a reset.
  void log_in() {
    if (when == Moment::before_the_bridge) {
      trial.leave(how);
      trial.world.client.read(true);
      trial.turn(3);
      REQUIRE(trial.world.client.input_over());
    }
    trial.hear(ok);
    if (when == Moment::at_once) trial.leave(how);
    trial.turn(2);
  }
  void hand_over() {
    Bridge::Before before;
    before.client_over = trial.world.client.input_over();
    before.from_client = Departure::bytes(much);
    if (what == Says::behind_the_login) before.from_backend = Departure::bytes(behind);
    trial.world.begin(before);
    if (when != Moment::during) return;
    trial.turn(2);
    trial.leave(how);
  }
  void turn(uint64_t now) {
    if (trial.world.fault) return;
    const int at = turns++;
    if (what == Says::flood) trial.say(std::string(20'000, 'f'));
    if (what == Says::trickle && at % 5 == 0) trial.say("* 2 EXISTS\r\n");
    if ((what == Says::once || what == Says::end) && at == 0) trial.say("* 2 EXISTS\r\n");
    if (what == Says::end && at == 0) ::shutdown(trial.world.backend_peer, SHUT_WR);
    uv_run(trial.world.loop.uv(), UV_RUN_NOWAIT);
    took = now;
  }
};

}  // namespace

TEST_CASE("a client that is gone ends the bridge within a second, in every order of events") {
  std::vector<std::unique_ptr<Order>> orders;
  for (const Leaves how : {Leaves::closes, Leaves::resets, Leaves::ends_then_closes})
    for (const Moment when : {Moment::before_the_bridge, Moment::at_once, Moment::during})
      for (const Says what : {Says::behind_the_login, Says::once, Says::trickle, Says::flood, Says::end})
        for (const bool deaf : {false, true}) {
          if (when == Moment::before_the_bridge && how == Leaves::resets) continue;  // no bridge is made then
          if (when == Moment::during && what == Says::behind_the_login) continue;
          orders.push_back(std::unique_ptr<Order>(new Order{how, when, what, deaf}));
        }
  for (const auto& order : orders) {
    order->log_in();
    order->hand_over();
  }
  const uint64_t began = uv_hrtime();
  for (bool all = false; !all;) {
    const uint64_t now = (uv_hrtime() - began) / 1'000'000;
    if (now > 5000) break;
    all = true;
    for (const auto& order : orders) {
      order->turn(now);
      all = all && order->trial.world.fault;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  for (const auto& order : orders) {
    INFO("the client ", leaves_names[static_cast<int>(order->how)], " ",
         moment_names[static_cast<int>(order->when)],
         "; the backend speaks: ", says_names[static_cast<int>(order->what)],
         order->deaf ? ", and does not read" : "");
    CHECK(order->trial.world.fault);
    CHECK(order->took < 1500);  // a second, and a shared machine
  }
}

TEST_CASE("a client that only ended its direction is not taken for gone") {
  Departure trial;
  Bridged& world = trial.world;
  world.run(20);
  ::shutdown(world.client_peer, SHUT_WR);
  int turns = 0;
  size_t said = 0;
  world.between = [&] {
    if (++turns % 400 == 0 && said < 20) {
      trial.say("x");
      ++said;
    }
  };
  world.run(1500);
  CHECK_FALSE(world.fault);
  world.between = nullptr;
  ::shutdown(world.backend_peer, SHUT_WR);
  world.run(1000);
  CHECK(world.fault == Fault::none);
  CHECK(receive_all(world.client_peer).bytes == said);
}

TEST_CASE("a client that closed while nobody speaks is found out by asking its kernel") {
  Departure trial;
  Bridged& world = trial.world;
  world.run(20);
  const int second = 1;  // how long the kernel remembers a connection that nobody owns
  ::setsockopt(world.client_peer, IPPROTO_TCP, TCP_LINGER2, &second, sizeof second);
  trial.leave(Leaves::closes);
  const uint64_t took = world.run(15'000);
  CHECK(world.fault == Fault::client_reset);
  CHECK(took < 12'000);
}

TEST_CASE("the last words of a client that is gone reach the backend") {
  for (const bool over : {false, true}) {
    Departure trial;
    Bridged& world = trial.world;
    const std::string words = "b LOGOUT\r\n";
    if (!over) REQUIRE(::send(world.client_peer, words.data(), words.size(), 0) == ssize_t(words.size()));
    trial.leave(Leaves::closes);
    if (over) {
      world.client.read(true);
      trial.turn(10);
    }
    trial.hear(ok);
    trial.turn(5);
    Bridge::Before before;
    before.client_over = over;
    if (over) before.from_client = Departure::bytes(words);
    before.from_backend = Departure::bytes(behind);
    world.begin(before);
    CHECK(world.run(5000) < 1500);
    CHECK(receive_all(world.backend_peer).bytes == words.size());
  }
}
