// SPDX-License-Identifier: GPL-3.0-or-later
// What load generator and stub backend share: the request line, the pattern every byte of payload is
// checked against, and a non-blocking stream that is plain or TLS (OpenSSL, on purpose not our wolfSSL).
#pragma once

#include <openssl/ssl.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace postern::bench {

// An endless stream of bytes, addressed by position. The period is prime, so that bytes lost, repeated or
// swapped between two sessions (each starts at its own position) do not compare equal.
namespace pattern {
constexpr size_t period = 65521;
constexpr size_t max_chunk = 256 * 1024;
const char* at(uint64_t position);  // max_chunk bytes may be read
bool matches(uint64_t position, const char* data, size_t size);
}  // namespace pattern

// One line `VERB size position\n`, from the client. Every answer is a slice of the pattern:
//   get   size bytes from position
//   put   is followed by size bytes from position; the answer is put_answer bytes from position + size
//   echo  is followed by size bytes, which come back
//   bye   size bytes from position, then the backend closes
enum class Verb { get, put, echo, bye };
struct Request {
  Verb verb{};
  uint64_t size = 0;
  uint64_t position = 0;
};
constexpr uint64_t put_answer = 16;
constexpr size_t max_line = 64;
std::optional<Request> parse_request(std::string_view line);  // without the line feed
std::string request_line(const Request& request);

struct CloseSsl {
  void operator()(SSL* ssl) const { SSL_free(ssl); }
};
struct CloseContext {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
using Context = std::unique_ptr<SSL_CTX, CloseContext>;

enum class Io { done, again, end, failed };
struct Outcome {
  Io state;
  size_t size = 0;
};

// Owns the socket. Every call is tried until `again`; the socket is watched edge-triggered.
class Stream {
 public:
  Stream() = default;
  Stream(int fd, SSL_CTX* context);
  Stream(Stream&& other) noexcept;
  Stream& operator=(Stream&& other) noexcept;
  ~Stream();

  int fd() const { return fd_; }
  SSL* ssl() const { return ssl_.get(); }
  Outcome handshake();
  Outcome read(char* data, size_t size);
  Outcome write(const char* data, size_t size);
  void say_goodbye();  // close_notify, if this is TLS
  void close();

 private:
  Outcome judge(int result) const;
  int fd_ = -1;
  std::unique_ptr<SSL, CloseSsl> ssl_;
};

std::string tls_errors();
[[noreturn]] void die(const std::string& why);
void allow_many_files();

}  // namespace postern::bench
