// SPDX-License-Identifier: GPL-3.0-or-later
// `postern healthcheck`: one GET for container probes, so that an image needs no other client.
#include <fmt/core.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <string_view>

#include "conf/load.hpp"
#include "proxy/command/commands.hpp"
#include "proxy/system/sockets.hpp"

namespace postern::proxy {
namespace {

constexpr timeval patience{3, 0};

int complain(const std::string& text) {
  std::fprintf(stderr, "postern healthcheck: %s\n", text.c_str());
  return 1;
}

Fd connect_to(const std::string& host, const std::string& port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  if (::getaddrinfo(host.c_str(), port.c_str(), &hints, &list) != 0) return Fd();
  Fd connected;
  for (const addrinfo* at = list; at && !connected; at = at->ai_next) {
    Fd fd(::socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd) continue;
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (::connect(fd.get(), at->ai_addr, at->ai_addrlen) == 0) connected = std::move(fd);
  }
  ::freeaddrinfo(list);
  return connected;
}

}  // namespace

std::string health_url(const std::string& file) {
  const conf::Loaded loaded = conf::load(file, conf::Environment::of_process());
  if (!loaded.config.metrics) return {};
  conf::SocketAddress bind = loaded.config.metrics->bind;
  if (bind.ip.is_any()) bind.ip = *conf::Ip::parse(bind.ip.is_v4() ? "127.0.0.1" : "::1");
  return fmt::format("http://{}/healthz", bind.text());
}

int command_healthcheck(const std::string& url) {
  constexpr std::string_view scheme = "http://";
  std::string_view rest = url;
  if (!rest.starts_with(scheme))
    return complain(fmt::format("{}: only http:// is supported by this build", url));
  rest.remove_prefix(scheme.size());
  const size_t slash = rest.find('/');
  const std::string path(slash == std::string_view::npos ? "/healthz" : rest.substr(slash));
  const std::string_view authority = rest.substr(0, slash);
  const size_t colon = authority.rfind(':');
  const bool has_port =
      colon != std::string_view::npos && authority.find(']', colon) == std::string_view::npos;
  std::string host(has_port ? authority.substr(0, colon) : authority);
  const std::string port(has_port ? authority.substr(colon + 1) : "80");
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);

  const Fd fd = connect_to(host, port);
  if (!fd) return complain(fmt::format("{}: no connection", url));
  const std::string request =
      fmt::format("GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", path, authority);
  if (::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size()))
    return complain(fmt::format("{}: the request could not be sent", url));
  std::string answer;
  char buffer[1024];
  while (answer.size() < sizeof buffer) {
    const ssize_t n = ::recv(fd.get(), buffer, sizeof buffer, 0);
    if (n <= 0) break;
    answer.append(buffer, static_cast<size_t>(n));
  }
  const std::string first = answer.substr(0, answer.find("\r\n"));
  if (!first.starts_with("HTTP/1.1 200"))
    return complain(fmt::format("{}: {}", url, first.empty() ? "no answer" : first));
  std::printf("%s\n", first.c_str());
  return 0;
}

}  // namespace postern::proxy
