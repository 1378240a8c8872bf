// SPDX-License-Identifier: GPL-3.0-or-later
// socket, setsockopt, bind for all; listen only when all are bound, so that no client meets half a start.
#include "proxy/system/sockets.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace postern::proxy {
namespace {

std::string reason(int error) {
  char buffer[128];
  return ::strerror_r(error, buffer, sizeof buffer);
}

conf::SocketAddress address_of(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return {};
  return conf::SocketAddress::from(reinterpret_cast<const sockaddr*>(&address));
}

/// One socket being set up; refused options become warnings.
class Setup {
 public:
  Setup(int fd, bool v6, const std::string& key, std::vector<std::string>& warnings)
      : fd_(fd), v6_(v6), key_(key), warnings_(warnings) {}

  void options(const conf::SocketOptions& wanted) {
    if (wanted.reuse_addr) set(SOL_SOCKET, SO_REUSEADDR, 1, "reuse_addr");
    if (wanted.reuse_port) set(SOL_SOCKET, SO_REUSEPORT, 1, "reuse_port");
    if (wanted.send_buffer_size)
      set(SOL_SOCKET, SO_SNDBUF, number(*wanted.send_buffer_size), "send_buffer_size");
    if (wanted.recv_buffer_size)
      set(SOL_SOCKET, SO_RCVBUF, number(*wanted.recv_buffer_size), "recv_buffer_size");
    if (wanted.nodelay) set(IPPROTO_TCP, TCP_NODELAY, 1, "nodelay");
    // An IPv6 socket also carries IPv4 clients, whose packets follow the IPv4 options.
    if (wanted.ttl) set(IPPROTO_IP, IP_TTL, number(*wanted.ttl), "ttl");
    if (wanted.ttl && v6_) set(IPPROTO_IPV6, IPV6_UNICAST_HOPS, number(*wanted.ttl), "ttl");
    if (wanted.tos) set(IPPROTO_IP, IP_TOS, number(*wanted.tos), "tos");
    if (wanted.tos && v6_) set(IPPROTO_IPV6, IPV6_TCLASS, number(*wanted.tos), "tos");
    if (wanted.linger.count() > 0) {
      const linger value{1, static_cast<int>(std::min<int64_t>((wanted.linger.count() + 999) / 1000, 65535))};
      note(::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &value, sizeof value), "linger");
    }
  }
  void set(int level, int option, int value, const char* name) {
    note(::setsockopt(fd_, level, option, &value, sizeof value), name);
  }

 private:
  static int number(uint32_t value) { return static_cast<int>(std::min<uint32_t>(value, INT32_MAX)); }
  void note(int result, const char* name) {
    if (result != 0) warnings_.push_back(fmt::format("{}.socket.{}: {}", key_, name, reason(errno)));
  }
  int fd_;
  bool v6_;
  const std::string& key_;
  std::vector<std::string>& warnings_;
};

struct Wanted {
  conf::SocketAddress address;
  const conf::SocketOptions& options;
  const std::string& key;
  bool v6_only = false;
};

conf::Result<Fd> bind_one(const Wanted& wanted, std::vector<std::string>& warnings) {
  const bool v6 = !wanted.address.ip.is_v4();
  const auto failed = [&](const char* what) {
    return conf::error(fmt::format("{}: {}: {}", wanted.address.text(), what, reason(errno)));
  };
  Fd fd(::socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return failed("socket");
  Setup setup(fd.get(), v6, wanted.key, warnings);
  setup.options(wanted.options);
  if (v6) setup.set(IPPROTO_IPV6, IPV6_V6ONLY, wanted.v6_only ? 1 : 0, "v6only");
  sockaddr_storage address{};
  const socklen_t size = wanted.address.to(address);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0) return failed("cannot bind");
  return fd;
}

/// [::]:p takes IPv4 as well, unless 0.0.0.0:p is bound too (configuration.md 4.4).
bool needs_v6_only(const conf::Config& config, const conf::SocketAddress& address) {
  if (address.ip.is_v4() || !address.ip.is_any() || address.port == 0)
    return !address.ip.is_v4() && !address.ip.is_any();
  return std::ranges::any_of(config.listeners, [&](const conf::ListenerConf& listener) {
    return std::ranges::any_of(listener.bind, [&](const conf::SocketAddress& other) {
      return other.ip.is_v4() && other.ip.is_any() && other.port == address.port;
    });
  });
}

conf::Result<BoundAddress> bind_address(const conf::Config& config, size_t index,
                                        const conf::SocketAddress& address, size_t workers,
                                        Inherited& inherited, std::vector<std::string>& warnings) {
  const conf::ListenerConf& listener = config.listeners[index];
  BoundAddress bound;
  bound.listener = index;
  if (Fd given = inherited.claim(address, listener.name)) {
    bound.inherited = true;
    conf::SocketOptions options = listener.socket;
    options.reuse_addr = options.reuse_port = false;  // too late, it is bound
    Setup(given.get(), !address.ip.is_v4(), listener.path, warnings).options(options);
    bound.sockets.push_back(std::move(given));
  } else {
    Wanted wanted{address, listener.socket, listener.path, needs_v6_only(config, address)};
    const size_t count = listener.socket.reuse_port ? workers : 1;
    for (size_t i = 0; i < count; ++i) {
      auto fd = bind_one(wanted, warnings);
      if (!fd) return tl::unexpected(fd.error());
      wanted.address.port = address_of(fd->get()).port;  // port 0: all of them on the one the kernel chose
      bound.sockets.push_back(std::move(*fd));
    }
  }
  bound.address = address_of(bound.sockets.front().get());
  while (bound.sockets.size() < workers) {  // one socket shared by all
    Fd copy(::fcntl(bound.sockets.front().get(), F_DUPFD_CLOEXEC, 0));
    if (!copy) return conf::error(fmt::format("{}: {}", address.text(), reason(errno)));
    bound.sockets.push_back(std::move(copy));
  }
  return bound;
}

}  // namespace

Fd::~Fd() {
  if (fd_ >= 0) ::close(fd_);
}

Inherited Inherited::take() {
  Inherited all;
  char** names = nullptr;
  const int count = ::sd_listen_fds_with_names(1, &names);
  for (int i = 0; i < count; ++i) {
    const int fd = SD_LISTEN_FDS_START + i;
    const char* name = names ? names[i] : nullptr;
    ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
    all.entries_.push_back({Fd(fd), name ? name : "", address_of(fd)});
  }
  if (names)
    for (char** at = names; *at; ++at) ::free(*at);
  ::free(names);
  return all;
}

Fd Inherited::claim(const conf::SocketAddress& address, const std::string& name) {
  auto found = std::ranges::find(entries_, address, &Entry::address);
  if (found == entries_.end()) found = std::ranges::find(entries_, name, &Entry::name);
  if (found == entries_.end()) return Fd();
  Fd fd = std::move(found->fd);
  entries_.erase(found);
  return fd;
}

std::vector<std::string> Inherited::unclaimed() const {
  std::vector<std::string> texts;
  for (const Entry& entry : entries_)
    texts.push_back(fmt::format("{} ({})", entry.name, entry.address.text()));
  return texts;
}

std::optional<Bound> bind_all(const conf::Config& config, size_t workers, Inherited& inherited,
                              conf::Problems& problems) {
  Bound bound;
  for (size_t i = 0; i < config.listeners.size(); ++i)
    for (const conf::SocketAddress& address : config.listeners[i].bind) {
      auto one = bind_address(config, i, address, workers, inherited, bound.warnings);
      if (!one) {
        problems.add(config.listeners[i].path + ".bind", one.error().text);
        continue;
      }
      bound.all.push_back(one->address);
      bound.listeners.push_back(std::move(*one));
    }
  if (config.metrics) {
    static const std::string key = "metrics";
    conf::SocketOptions options;
    options.reuse_port = false;
    bound.metrics = inherited.claim(config.metrics->bind, key);
    if (!bound.metrics) {
      auto fd = bind_one({config.metrics->bind, options, key, false}, bound.warnings);
      if (fd)
        bound.metrics = std::move(*fd);
      else
        problems.add("metrics.bind", fd.error().text);
    }
    bound.metrics_address = address_of(bound.metrics.get());
    bound.all.push_back(bound.metrics_address);
  }
  if (!problems.ok()) return std::nullopt;
  for (const BoundAddress& address : bound.listeners) {
    const conf::ListenerConf& listener = config.listeners[address.listener];
    for (const Fd& fd : address.sockets)
      if (::listen(fd.get(), static_cast<int>(std::min<uint32_t>(listener.socket.backlog, INT32_MAX))) != 0)
        problems.add(listener.path + ".bind",
                     fmt::format("{}: cannot listen: {}", address.address.text(), reason(errno)));
  }
  if (!problems.ok()) return std::nullopt;
  return bound;
}

}  // namespace postern::proxy
