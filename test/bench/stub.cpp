// SPDX-License-Identifier: GPL-3.0-or-later
// The backend of the benchmark: source, sink and echo, plain and TLS, at once or behind an IMAP login. It
// checks every byte it is sent and hangs up on the first wrong one, so that a proxy that spoils data cannot
// look fast.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "test/bench/imap.hpp"
#include "test/bench/wire.hpp"

namespace postern::bench {
namespace {

constexpr size_t turn_limit = 1024 * 1024;  // bytes one session may move before the others have their turn

constexpr size_t max_command = 4096;

// What a port speaks: TLS first or not; a PROXY header, then IMAP up to the login, or our requests at once.
struct Port {
  const char* name;
  bool tls;
  bool imap;
  bool forwarded;
};
constexpr std::array<Port, 5> ports{{{"plain", false, false, false},
                                     {"tls", true, false, false},
                                     {"imap", false, true, false},
                                     {"imap-tls", true, true, false},
                                     {"imap-forwarded", false, true, true}}};
struct Listener {
  const Port* port;
  int fd;
};

struct Session {
  Stream stream;
  std::unique_ptr<ImapServer> imap;
  bool header_due = false;
  bool tls_pending = false;
  bool closing = false;
  std::string line;
  Verb sink = Verb::get;  // put or echo: what to do with the payload that is due
  uint64_t due = 0;       // payload still to come
  uint64_t due_position = 0;
  uint64_t owed = 0;  // pattern still to be sent
  uint64_t owed_position = 0;
  std::string echo;
};

enum class Verdict { wait, more, drop, broken };

class Worker {
 public:
  Worker(std::array<Listener, ports.size()> listeners, SSL_CTX* context)
      : context_(context), listeners_(listeners) {
    for (Listener& listener : listeners_) watch(listener.fd, &listener, EPOLLIN);
  }

  [[noreturn]] void run() {
    std::array<epoll_event, 256> events{};
    for (;;) {
      const int count =
          epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), more_.empty() ? -1 : 0);
      std::vector<Session*> turn;
      turn.swap(more_);
      for (int i = 0; i < count; ++i) {
        void* who = events[static_cast<size_t>(i)].data.ptr;
        if (who >= listeners_.data() && who < listeners_.data() + listeners_.size())
          accept_all(*static_cast<Listener*>(who));
        else if (auto* session = static_cast<Session*>(who);
                 std::find(turn.begin(), turn.end(), session) == turn.end())
          turn.push_back(session);
      }
      for (Session* session : turn) serve(session);
    }
  }

 private:
  void watch(int fd, void* who, uint32_t events) const {
    epoll_event event{};
    event.events = events;
    event.data.ptr = who;
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) die("epoll_ctl");
  }

  void accept_all(const Listener& listener) {
    const Port& port = *listener.port;
    for (;;) {
      const int fd = accept4(listener.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) return;
      const int on = 1;
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      auto* session = new Session;  // freed in serve(), when the stream ends
      session->stream = Stream(fd, port.tls ? context_ : nullptr);
      session->tls_pending = port.tls;
      session->header_due = port.forwarded;
      if (port.imap) session->imap = std::make_unique<ImapServer>();
      if (port.imap && !port.forwarded) session->echo = ImapServer::greeting;
      if (port.tls) SSL_set_accept_state(session->stream.ssl());
      watch(fd, session, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    }
  }

  void serve(Session* session) {
    const Verdict verdict = progress(*session);
    if (verdict == Verdict::wait) return;
    if (verdict == Verdict::more) {
      more_.push_back(session);
      return;
    }
    if (verdict == Verdict::broken)
      std::fprintf(stderr, "stub: a session broke the protocol or its data was spoilt\n");
    delete session;
  }

  Verdict progress(Session& session) {
    if (session.tls_pending) {
      const Outcome outcome = session.stream.handshake();
      if (outcome.state == Io::again) return Verdict::wait;
      if (outcome.state != Io::done) return Verdict::drop;
      session.tls_pending = false;
    }
    size_t moved = 0;
    while (moved < turn_limit) {
      if (const auto verdict = send_owed(session, moved)) return *verdict;
      const Outcome outcome = session.stream.read(buffer_.data(), buffer_.size());
      if (outcome.state == Io::again) return Verdict::wait;
      if (outcome.state != Io::done) return Verdict::drop;
      moved += outcome.size;
      if (!take(session, {buffer_.data(), outcome.size})) return Verdict::broken;
    }
    return Verdict::more;
  }

  // Nothing: all is sent, and there may be input to read.
  static std::optional<Verdict> send_owed(Session& session, size_t& moved) {
    while (!session.echo.empty()) {
      const Outcome outcome = session.stream.write(session.echo.data(), session.echo.size());
      if (outcome.state == Io::again) return Verdict::wait;
      if (outcome.state != Io::done) return Verdict::drop;
      session.echo.erase(0, outcome.size);
    }
    const size_t limit = session.stream.ssl() != nullptr ? 16384 : pattern::max_chunk;
    while (session.owed > 0) {
      if (moved >= turn_limit) return Verdict::more;
      const size_t chunk = std::min<size_t>(limit, session.owed);
      const Outcome outcome = session.stream.write(pattern::at(session.owed_position), chunk);
      if (outcome.state == Io::again) return Verdict::wait;
      if (outcome.state != Io::done) return Verdict::drop;
      session.owed -= outcome.size;
      session.owed_position += outcome.size;
      moved += outcome.size;
    }
    if (!session.closing) return std::nullopt;
    session.stream.say_goodbye();
    return Verdict::drop;
  }

  static bool take(Session& session, std::string_view input) {
    while (!input.empty()) {
      if (session.due > 0) {
        const size_t chunk = std::min<size_t>(input.size(), session.due);
        if (session.sink == Verb::echo)
          session.echo.append(input.substr(0, chunk));
        else if (!pattern::matches(session.due_position, input.data(), chunk))
          return false;
        session.due -= chunk;
        session.due_position += chunk;
        input.remove_prefix(chunk);
        if (session.due == 0 && session.sink == Verb::put) owe(session, put_answer, session.due_position);
        continue;
      }
      if (session.owed > 0) return false;  // clients wait for the answer
      if (session.header_due) {
        if (!take_header(session, input)) return false;
        continue;
      }
      if (session.imap && session.imap->literal_due() > 0) {
        const size_t chunk = std::min(input.size(), session.imap->literal_due());
        session.imap->literal(input.substr(0, chunk));
        input.remove_prefix(chunk);
        continue;
      }
      const size_t end = input.find('\n');
      session.line.append(input.substr(0, end));
      if (session.line.size() > (session.imap ? max_command : max_line)) return false;
      if (end == std::string_view::npos) return true;
      input.remove_prefix(end + 1);
      const std::string line = std::exchange(session.line, {});
      if (!take_line(session, line)) return false;
    }
    return true;
  }

  static bool take_line(Session& session, const std::string& line) {
    const bool ours = !session.imap || (session.imap->logged_in() && session.imap->between_commands());
    if (const auto request = ours ? parse_request(line) : std::nullopt) {
      begin(session, *request);
      return true;
    }
    if (!session.imap) return false;
    const auto next = session.imap->line(line, session.echo);
    session.closing = next == ImapServer::Next::leave;
    return next != ImapServer::Next::broken;
  }

  // The generator never comes from 127.0.0.1, and the proxy always does.
  static bool take_header(Session& session, std::string_view& input) {
    const size_t known = session.line.size();
    session.line.append(input);
    Forwarded header;
    const HeaderState state = read_forwarded(session.line, header);
    if (state == HeaderState::wrong) return false;
    if (state == HeaderState::partial) {
      input = {};
      return true;
    }
    if (header.address.substr(0, 4) != "127." || header.address == "127.0.0.1") return false;
    input.remove_prefix(header.size - known);
    session.line.clear();
    session.header_due = false;
    session.echo = ImapServer::greeting;
    return true;
  }

  static void begin(Session& session, const Request& request) {
    if (request.verb == Verb::put || request.verb == Verb::echo) {
      session.sink = request.verb;
      session.due = request.size;
      session.due_position = request.position;
      return;
    }
    session.closing = request.verb == Verb::bye;
    owe(session, request.size, request.position);
  }

  static void owe(Session& session, uint64_t size, uint64_t position) {
    session.owed = size;
    session.owed_position = position;
  }

  SSL_CTX* context_;
  std::array<Listener, ports.size()> listeners_;
  int epoll_ = epoll_create1(EPOLL_CLOEXEC);
  std::vector<Session*> more_;
  std::vector<char> buffer_ = std::vector<char>(pattern::max_chunk);
};

// Port 0 takes a free one; the caller learns which. Every thread has its own socket on the port.
int listen_on(uint16_t& port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  socklen_t size = sizeof address;
  if (bind(fd, generic, size) != 0 || listen(fd, 4096) != 0) die("stub: cannot listen");
  getsockname(fd, generic, &size);
  port = ntohs(address.sin_port);
  return fd;
}

Context server_context(const char* pem) {
  Context context(SSL_CTX_new(TLS_server_method()));
  if (SSL_CTX_use_certificate_chain_file(context.get(), pem) != 1 ||
      SSL_CTX_use_PrivateKey_file(context.get(), pem, SSL_FILETYPE_PEM) != 1)
    die(std::string("stub: ") + pem + ": " + tls_errors());
  SSL_CTX_set_mode(context.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                      SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_read_ahead(context.get(), 1);
  SSL_CTX_set_default_read_buffer_len(context.get(), 64 * 1024);
  return context;
}

}  // namespace
}  // namespace postern::bench

int main(int argc, char** argv) {
  using namespace postern::bench;
  if (argc != 3 + static_cast<int>(ports.size()))
    die("usage: bench_stub PEM THREADS PORT...   (port 0: a free one)");
  std::signal(SIGPIPE, SIG_IGN);
  allow_many_files();
  const Context context = server_context(argv[1]);
  std::array<uint16_t, ports.size()> numbers{};
  for (size_t i = 0; i < ports.size(); ++i)
    numbers[i] = static_cast<uint16_t>(std::strtoul(argv[3 + i], nullptr, 10));
  std::vector<std::thread> threads;
  for (unsigned long i = 0; i < std::strtoul(argv[2], nullptr, 10); ++i) {
    std::array<Listener, ports.size()> listeners{};
    for (size_t p = 0; p < ports.size(); ++p) listeners[p] = {&ports[p], listen_on(numbers[p])};
    auto worker = std::make_shared<Worker>(listeners, context.get());
    threads.emplace_back([worker] { worker->run(); });
  }
  for (size_t p = 0; p < ports.size(); ++p)
    std::printf("%s\"%s\": %d", p == 0 ? "{" : ", ", ports[p].name, numbers[p]);
  std::printf("}\n");
  std::fflush(stdout);
  for (std::thread& thread : threads) thread.join();
  return 0;
}
