// SPDX-License-Identifier: GPL-3.0-or-later
// The HTTP server nginx's mail proxy asks for every login: yes, and the backend is on this port. One thread;
// a process of its own, so that its CPU time can be told from everybody else's.
//   bench_auth PORT BACKEND_PORT
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <string>

#include "test/bench/wire.hpp"

namespace postern::bench {
namespace {

int listen_on(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || listen(fd, 4096) != 0)
    die("auth: cannot listen");
  return fd;
}

void watch(int epoll, int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) die("auth: epoll_ctl");
}

}  // namespace
}  // namespace postern::bench

int main(int argc, char** argv) {
  using namespace postern::bench;
  if (argc != 3) die("usage: bench_auth PORT BACKEND_PORT");
  std::signal(SIGPIPE, SIG_IGN);
  allow_many_files();
  const std::string reply =
      "HTTP/1.0 200 OK\r\nAuth-Status: OK\r\nAuth-Server: 127.0.0.1\r\nAuth-Port: " + std::string(argv[2]) +
      "\r\n\r\n";
  const int listener = listen_on(static_cast<uint16_t>(std::strtoul(argv[1], nullptr, 10)));
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  watch(epoll, listener);
  std::array<epoll_event, 256> events{};
  std::array<char, 4096> buffer{};  // nginx sends its request, some 300 bytes, in one piece
  for (;;) {
    const int count = epoll_wait(epoll, events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < count; ++i) {
      const int fd = events[static_cast<size_t>(i)].data.fd;
      if (fd != listener) {
        if (recv(fd, buffer.data(), buffer.size(), 0) > 0) send(fd, reply.data(), reply.size(), MSG_NOSIGNAL);
        close(fd);
        continue;
      }
      for (;;) {
        const int client = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (client < 0) break;
        watch(epoll, client);
      }
    }
  }
}
