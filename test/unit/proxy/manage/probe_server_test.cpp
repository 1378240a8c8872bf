// SPDX-License-Identifier: GPL-3.0-or-later
// The metrics listener: its request heads as a table, and a real server on loopback against callers of every
// kind.
#include "proxy/manage/probe_server.hpp"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "proxy/manage/probe_request.hpp"
#include "test/unit/pace.hpp"

using namespace postern::proxy;
using namespace std::chrono_literals;

TEST_CASE("a request head is understood as a whole, at its last byte, and no earlier") {
  struct Row {
    std::string head;
    ProbeMethod method;
    const char* path;
    bool keep_alive;
  };
  const std::vector<Row> rows = {
      {"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", ProbeMethod::get, "/metrics", true},
      {"HEAD /healthz HTTP/1.1\r\nhost:x:9100\r\n\r\n", ProbeMethod::head, "/healthz", true},
      {"GET /readyz?verbose=1 HTTP/1.1\r\nHost: x\r\n\r\n", ProbeMethod::get, "/readyz", true},
      {"GET http://127.0.0.1:9100/metrics HTTP/1.1\r\nHost: x\r\n\r\n", ProbeMethod::get, "/metrics", true},
      {"GET HTTP://x HTTP/1.1\r\nHost: x\r\n\r\n", ProbeMethod::get, "/", true},
      {"GET / HTTP/1.0\r\n\r\n", ProbeMethod::get, "/", false},
      {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", ProbeMethod::get, "/", true},
      {"GET / HTTP/1.1\r\nHost: x\r\nConnection: foo , CLOSE\r\n\r\n", ProbeMethod::get, "/", false},
      {"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", ProbeMethod::get, "/", true},
      {"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n", ProbeMethod::get, "/", false},
      {"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", ProbeMethod::get, "/", false},
      {"POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n", ProbeMethod::other, "/metrics", true},
      {"get / HTTP/1.1\r\nHost: x\r\n\r\n", ProbeMethod::other, "/", true},
      {"GET / HTTP/1.1\r\nHost:\r\nX: \t caf\xC3\xA9 \r\n\r\n", ProbeMethod::get, "/", true},
  };
  for (const auto& row : rows) {
    CAPTURE(row.head);
    const std::string input = row.head + "GET /next";
    const ProbeRequest r = parse_probe_request(input);
    REQUIRE(r.verdict == ProbeVerdict::complete);
    CHECK(r.consumed == row.head.size());
    CHECK(r.method == row.method);
    CHECK(r.path == row.path);
    CHECK(r.keep_alive == row.keep_alive);
    for (size_t n = 0; n < row.head.size(); ++n)
      CHECK(parse_probe_request(std::string_view(input).substr(0, n)).verdict == ProbeVerdict::more);
  }
}

TEST_CASE("a head that leaves room for doubt is malformed") {
  for (const std::string& head : {
           std::string("GET /metrics\r\n\r\n"),
           std::string("GET  /metrics HTTP/1.1\r\nHost: x\r\n\r\n"),
           std::string("GET /a b HTTP/1.1\r\nHost: x\r\n\r\n"),
           std::string("GET metrics HTTP/1.1\r\nHost: x\r\n\r\n"),
           std::string("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"),
           std::string("GET / HTTP/1.1\r\n\r\n"),
           std::string("GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n"),
           std::string("GET / HTTP/2.0\r\nHost: x\r\n\r\n"),
           std::string("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
           std::string("GET / HTTP/1.1 \r\nHost: x\r\n\r\n"),
           std::string("GET / HTTP/1.1\r\nHost : x\r\n\r\n"),
           std::string("GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n"),
           std::string("GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n"),
           std::string("GET / HTTP/1.1\r\nHost: x\r\n: empty\r\n\r\n"),
           std::string("GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n"),
           std::string("GET / HTTP/1.1\r\nHost: x\r\nA: b\nc: d\r\n\r\n"),
           std::string("GET / HTTP/1.1\r\nHost: x\r\nA: \0\r\n\r\n", 33),
           std::string("GET /\x80 HTTP/1.1\r\nHost: x\r\n\r\n"),
           std::string("\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"),
           std::string("\x16\x03\x01\x02"),
           std::string(" "),
       }) {
    CAPTURE(head);
    CHECK(parse_probe_request(head).verdict == ProbeVerdict::malformed);
  }
}

TEST_CASE("a head without end is too large at its limit") {
  const std::string head = "GET / HTTP/1.1\r\nX: " + std::string(probe_head_max, 'x');
  CHECK(parse_probe_request(head.substr(0, probe_head_max - 1)).verdict == ProbeVerdict::more);
  CHECK(parse_probe_request(head.substr(0, probe_head_max)).verdict == ProbeVerdict::too_large);
}

namespace {

/// A server on a free port of loopback, its loop in a thread of its own.
class Running {
 public:
  Running() {
    uv_loop_init(&loop_);
    Handlers handlers;
    handlers.metrics = [this] {
      if (fail) throw std::runtime_error("no metrics");
      return page;
    };
    handlers.ready = [this] { return ready ? Readiness{true, "ready"} : Readiness{false, "draining"}; };
    server_ = std::make_unique<ProbeServer>(&loop_, std::move(handlers));
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    socklen_t length = sizeof address;
    REQUIRE(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0);
    address_ = address;
    REQUIRE(server_->open(fd).has_value());
    uv_async_init(&loop_, &stop_, [](uv_async_t* handle) {
      auto* self = static_cast<Running*>(handle->data);
      self->server_->close();
      uv_close(reinterpret_cast<uv_handle_t*>(handle), nullptr);
    });
    stop_.data = this;
    thread_ = std::thread([this] { uv_run(&loop_, UV_RUN_DEFAULT); });
  }
  ~Running() {
    uv_async_send(&stop_);
    thread_.join();  // ends only when every handle is gone
    CHECK(server_->closed());
    server_.reset();
    CHECK(uv_loop_close(&loop_) == 0);
  }
  /// From 127.0.0.`from`.
  [[nodiscard]] int connect(int from = 1) const {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in own{};
    own.sin_family = AF_INET;
    own.sin_addr.s_addr = htonl(0x7f000000U + static_cast<unsigned>(from));
    REQUIRE(::bind(fd, reinterpret_cast<const sockaddr*>(&own), sizeof own) == 0);
    REQUIRE(::connect(fd, reinterpret_cast<const sockaddr*>(&address_), sizeof address_) == 0);
    const timeval limit{5, 0};
    ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return fd;
  }

  // Set before the request that needs them, so never while the loop reads them.
  std::string page = "postern_x 1\n";
  bool ready = true;
  bool fail = false;

 private:
  uv_loop_t loop_{};
  uv_async_t stop_{};
  std::unique_ptr<ProbeServer> server_;
  sockaddr_in address_{};
  std::thread thread_;
};

void send_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

/// Until the server closes, or five seconds pass.
std::string read_all(int fd) {
  std::string text;
  char buffer[65536];
  for (ssize_t n = 0; (n = ::recv(fd, buffer, sizeof buffer, 0)) > 0;)
    text.append(buffer, static_cast<size_t>(n));
  if (errno == EAGAIN) text += "<still open>";
  return text;
}
/// One answer with `body` bytes of body.
std::string read_answer(int fd, size_t body) {
  std::string text;
  char byte = 0;
  while (!text.ends_with("\r\n\r\n") && ::recv(fd, &byte, 1, 0) == 1) text += byte;
  for (size_t i = 0; i < body && ::recv(fd, &byte, 1, 0) == 1; ++i) text += byte;
  return text;
}

std::string ask(const Running& server, std::string_view request, int from = 1) {
  const int fd = server.connect(from);
  errno = 0;
  send_all(fd, request);
  std::string answer = read_all(fd);
  ::close(fd);
  return answer;
}
std::string get(const Running& server, const std::string& path, const std::string& method = "GET") {
  return ask(server, method + " " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
}

}  // namespace

TEST_CASE("probes and metrics are answered with status, type, length and body") {
  Running server;
  CHECK(get(server, "/metrics") ==
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: 12\r\n"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\npostern_x 1\n");
  CHECK(get(server, "/metrics", "HEAD") ==
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: 12\r\n"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n");
  CHECK(get(server, "/healthz").ends_with("\r\n\r\nok\n"));
  CHECK(get(server, "/readyz").ends_with("\r\n\r\nready\n"));
  server.ready = false;
  const std::string draining = get(server, "/readyz");
  CHECK(draining.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
  CHECK(draining.ends_with("\r\n\r\ndraining\n"));
  CHECK(get(server, "/healthz").starts_with("HTTP/1.1 200 OK\r\n"));
  server.fail = true;
  CHECK(get(server, "/metrics").starts_with("HTTP/1.1 500 "));
}

TEST_CASE("what is not there, not allowed or not HTTP is refused in its own way") {
  Running server;
  CHECK(get(server, "/").starts_with("HTTP/1.1 404 Not Found\r\n"));
  CHECK(get(server, "/metrics/").starts_with("HTTP/1.1 404 "));
  CHECK(get(server, "/etc/../metrics").starts_with("HTTP/1.1 404 "));
  const std::string post = get(server, "/metrics", "POST");
  CHECK(post.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"));
  CHECK(post.find("\r\nAllow: GET, HEAD\r\n") != std::string::npos);
  CHECK(get(server, "/nowhere", "DELETE").starts_with("HTTP/1.1 404 "));
  CHECK(ask(server, "GET /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 400 Bad Request\r\n"));
  CHECK(ask(server, "\x16\x03\x01\x02\x05").starts_with("HTTP/1.1 400 "));
  CHECK(ask(server, "GET / HTTP/1.1\r\nX: " + std::string(100'000, 'x')).starts_with("HTTP/1.1 431 "));
}

TEST_CASE("a body is not taken for the next request") {
  Running server;
  const std::string answer = ask(server,
                                 "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 44\r\n\r\n"
                                 "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
  CHECK(answer.starts_with("HTTP/1.1 405 "));
  CHECK(answer.find("HTTP/1.1 200") == std::string::npos);
}

TEST_CASE("a connection is kept alive, byte by byte and pipelined") {
  Running server;
  const int fd = server.connect();
  const std::string request = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
  for (int round = 0; round < 3; ++round) {
    for (const char c : request) send_all(fd, {&c, 1});
    const std::string answer = read_answer(fd, 3);
    CHECK(answer.starts_with("HTTP/1.1 200 OK\r\n"));
    CHECK(answer.find("Connection: keep-alive\r\n") != std::string::npos);
    CHECK(answer.ends_with("\r\n\r\nok\n"));
  }
  std::string many;
  for (int i = 0; i < 300; ++i) many += request;
  send_all(fd, many + "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const std::string answers = read_all(fd);
  size_t ok = 0;
  for (size_t at = 0; (at = answers.find("\r\n\r\nok\n", at)) != std::string::npos; ++at) ++ok;
  CHECK(ok == 300);
  CHECK(answers.ends_with("\r\n\r\nready\n"));
  ::close(fd);
}

TEST_CASE("a large page arrives whole") {
  Running server;
  server.page = std::string(8'000'000, 'x');
  const std::string answer = get(server, "/metrics");
  CHECK(answer.find("Content-Length: 8000000\r\n") != std::string::npos);
  CHECK(answer.size() > 8'000'000);
  CHECK(answer.size() < 8'000'300);
}

TEST_CASE("callers that vanish at any point leave nothing behind") {
  Running server;
  server.page = std::string(5'000'000, 'x');
  const std::string request = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
  for (size_t n = 0; n <= request.size(); ++n) {
    const int fd = server.connect();
    send_all(fd, request.substr(0, n));
    if (n % 2 != 0) {
      const linger reset{1, 0};
      ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
    ::close(fd);
  }
  CHECK(get(server, "/healthz").ends_with("ok\n"));
}

TEST_CASE("whoever holds connections, idle or half asked, makes room for the next") {
  Running server;
  std::vector<int> idle;
  for (int i = 0; i < 160; ++i) {
    const int fd = server.connect();
    send_all(fd, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    CHECK(read_answer(fd, 3).ends_with("ok\n"));
    idle.push_back(fd);
  }
  CHECK(get(server, "/healthz").ends_with("ok\n"));
  CHECK(read_all(idle.front()).empty());  // the oldest went first
  for (const int fd : idle) ::close(fd);

  std::vector<int> busy;
  for (int i = 0; i < 200; ++i) {
    busy.push_back(server.connect());
    send_all(busy.back(), "GET /hea");
  }
  CHECK(get(server, "/healthz").ends_with("ok\n"));
  CHECK(read_all(busy.front()).empty());
  send_all(busy.back(), "lthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  CHECK(read_all(busy.back()).ends_with("ok\n"));  // the youngest are still there
  for (const int fd : busy) ::close(fd);
}

TEST_CASE("a client with few connections keeps them, whatever clients with many do") {
  Running server;
  const int kept = server.connect(2);
  send_all(kept, "GET /hea");
  std::this_thread::sleep_for(20ms);  // the oldest of all
  std::vector<int> many;
  for (int i = 0; i < 300; ++i) {
    many.push_back(server.connect(i % 2 == 0 ? 3 : 4));
    send_all(many.back(), "GET /hea");
  }
  CHECK(get(server, "/readyz").ends_with("ready\n"));
  send_all(kept, "lthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  CHECK(read_all(kept).ends_with("ok\n"));
  for (const int fd : many) ::close(fd);
  ::close(kept);
}

TEST_CASE("probes get through while a crowd of addresses comes, holds what it can, and goes") {
  // Where all threads share one slow processor, a crowd this fast would be a test of that processor.
  const bool slow = postern::slow_machine();
  const int asked = slow ? 20 : 100;
  Running server;
  server.page = std::string(slow ? 200'000 : 1'000'000, 'x');  // and some never read what they asked for
  std::atomic<bool> over = false;
  std::vector<std::thread> crowd;
  for (int n = 0; n < 3; ++n)
    crowd.emplace_back([&, n] {
      std::vector<int> held;
      for (int i = 0; !over; ++i) {
        held.push_back(server.connect(10 + (i * 3 + n) % 240));
        send_all(held.back(), i % 8 == 0 ? "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" : "GET /hea");
        std::this_thread::sleep_for(
            slow ? 40ms : 1ms);  // what is tried is who gets a place, not who gets the processor
        if (held.size() < 250) continue;
        for (const int fd : held) ::close(fd);
        held.clear();
      }
      for (const int fd : held) ::close(fd);
    });
  int answered = 0;
  for (int i = 0; i < asked; ++i, std::this_thread::sleep_for(slow ? 100ms : 2ms))
    answered += get(server, "/healthz").ends_with("ok\n") ? 1 : 0;
  over = true;
  for (std::thread& thread : crowd) thread.join();
  CHECK(answered == asked);
}

TEST_CASE("shutdown ends everything at once, whatever callers are doing") {
  std::vector<int> fds;
  const auto begin = std::chrono::steady_clock::now();
  {
    Running server;
    server.page = std::string(8'000'000, 'x');
    for (const char* part : {"", "GET /metr", "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
                             "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03"}) {
      fds.push_back(server.connect());
      send_all(fds.back(), part);
    }
    CHECK(get(server, "/healthz").ends_with("ok\n"));
  }
  CHECK(std::chrono::steady_clock::now() - begin < 2s);
  for (const int fd : fds) ::close(fd);
}

TEST_CASE("a descriptor that is no socket is an error, not an end") {
  uv_loop_t loop;
  uv_loop_init(&loop);
  {
    ProbeServer server(&loop, {[] { return std::string(); }, [] { return Readiness{true, ""}; }});
    CHECK_FALSE(server.open(::open("/dev/null", O_RDONLY | O_CLOEXEC)).has_value());
    CHECK_FALSE(server.open(-1).has_value());
  }
  uv_run(&loop, UV_RUN_DEFAULT);
  CHECK(uv_loop_close(&loop) == 0);
}
