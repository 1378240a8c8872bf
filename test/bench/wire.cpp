// SPDX-License-Identifier: GPL-3.0-or-later
// The pattern, the request line, and one socket with or without TLS.
#include "test/bench/wire.hpp"

#include <openssl/err.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

namespace postern::bench {
namespace {

std::vector<char> make_pattern() {
  std::vector<char> bytes(pattern::period + pattern::max_chunk);
  uint64_t state = 0x9E3779B97F4A7C15U;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i >= pattern::period) {
      bytes[i] = bytes[i - pattern::period];
      continue;
    }
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    bytes[i] = static_cast<char>(state & 0xFF);
  }
  return bytes;
}

struct Spelling {
  std::string_view word;
  Verb verb;
};
constexpr std::array<Spelling, 4> spellings{
    {{"GET", Verb::get}, {"PUT", Verb::put}, {"ECHO", Verb::echo}, {"BYE", Verb::bye}}};

std::optional<uint64_t> take_number(std::string_view& text) {
  if (text.empty() || text.front() != ' ') return std::nullopt;
  text.remove_prefix(1);
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{}) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return value;
}

}  // namespace

namespace pattern {

const char* at(uint64_t position) {
  static const std::vector<char> bytes = make_pattern();
  return bytes.data() + position % period;
}

bool matches(uint64_t position, const char* data, size_t size) {
  while (size > 0) {
    const size_t chunk = std::min(size, max_chunk);
    if (std::memcmp(at(position), data, chunk) != 0) return false;
    position += chunk;
    data += chunk;
    size -= chunk;
  }
  return true;
}

}  // namespace pattern

std::optional<Request> parse_request(std::string_view line) {
  const std::string_view word = line.substr(0, line.find(' '));
  line.remove_prefix(word.size());
  for (const Spelling& spelling : spellings) {
    if (spelling.word != word) continue;
    const auto size = take_number(line);
    const auto position = take_number(line);
    if (!size || !position || !line.empty()) return std::nullopt;
    return Request{spelling.verb, *size, *position};
  }
  return std::nullopt;
}

std::string request_line(const Request& request) {
  std::string line;
  for (const Spelling& spelling : spellings)
    if (spelling.verb == request.verb) line = spelling.word;
  return line + ' ' + std::to_string(request.size) + ' ' + std::to_string(request.position) + '\n';
}

Stream::Stream(int fd, SSL_CTX* context) : fd_(fd) {
  if (context == nullptr) return;
  ssl_.reset(SSL_new(context));
  if (!ssl_ || SSL_set_fd(ssl_.get(), fd) != 1) die("SSL_new: " + tls_errors());
}

Stream::Stream(Stream&& other) noexcept : fd_(std::exchange(other.fd_, -1)), ssl_(std::move(other.ssl_)) {}

Stream& Stream::operator=(Stream&& other) noexcept {
  if (this != &other) {
    close();
    fd_ = std::exchange(other.fd_, -1);
    ssl_ = std::move(other.ssl_);
  }
  return *this;
}

Stream::~Stream() { close(); }

void Stream::close() {
  ssl_.reset();
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

void Stream::say_goodbye() {
  if (!ssl_) return;
  SSL_shutdown(ssl_.get());
  ERR_clear_error();
}

Outcome Stream::judge(int result) const {
  switch (SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
      return {Io::again};
    case SSL_ERROR_ZERO_RETURN:
      return {Io::end};
    case SSL_ERROR_SSL:
      // Not every peer says close_notify; whether the bytes were all there is for the caller to count.
      if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING) return {Io::end};
      return {Io::failed};
    default:
      return {Io::failed};
  }
}

Outcome Stream::handshake() {
  if (!ssl_) return {Io::done};
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl_.get());
  if (result == 1) return {Io::done};
  const Outcome outcome = judge(result);
  return outcome.state == Io::end ? Outcome{Io::failed} : outcome;
}

Outcome Stream::read(char* data, size_t size) {
  if (ssl_) {
    ERR_clear_error();
    size_t got = 0;
    const int result = SSL_read_ex(ssl_.get(), data, size, &got);
    return result == 1 ? Outcome{Io::done, got} : judge(result);
  }
  const ssize_t got = ::recv(fd_, data, size, 0);
  if (got > 0) return {Io::done, static_cast<size_t>(got)};
  if (got == 0) return {Io::end};
  return {errno == EAGAIN || errno == EINTR ? Io::again : Io::failed};
}

Outcome Stream::write(const char* data, size_t size) {
  if (ssl_) {
    ERR_clear_error();
    size_t put = 0;
    const int result = SSL_write_ex(ssl_.get(), data, size, &put);
    return result == 1 ? Outcome{Io::done, put} : judge(result);
  }
  const ssize_t put = ::send(fd_, data, size, MSG_NOSIGNAL);
  if (put >= 0) return {Io::done, static_cast<size_t>(put)};
  return {errno == EAGAIN || errno == EINTR ? Io::again : Io::failed};
}

std::string tls_errors() {
  std::string all;
  while (const unsigned long code = ERR_get_error()) {
    std::array<char, 200> text{};
    ERR_error_string_n(code, text.data(), text.size());
    all += all.empty() ? "" : "; ";
    all += text.data();
  }
  return all.empty() ? "no TLS error recorded" : all;
}

void die(const std::string& why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  std::exit(2);
}

void allow_many_files() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace postern::bench
