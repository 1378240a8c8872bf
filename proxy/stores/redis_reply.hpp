// SPDX-License-Identifier: GPL-3.0-or-later
// What Redis says, taken from any split of bytes by hiredis' reader, and what it is told, written by hiredis'
// formatter. However a server behaves, what it can make us hold is bounded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace postern::proxy {

struct RedisReply {
  enum class Kind : uint8_t { nil, text, status, error, number, list };
  Kind kind = Kind::nil;
  uint8_t depth = 0;  // of the lists around it
  std::string text;   // of text, status and error
  int64_t number = 0;
  std::vector<RedisReply> items;

  [[nodiscard]] bool is_text() const { return kind == Kind::text || kind == Kind::status; }
};

class RedisReader {
 public:
  static constexpr size_t most_bytes = 1024 * 1024;  // of a reply that is not complete
  static constexpr size_t most_items = 1024;         // of one list, and of a reply in all
  static constexpr size_t most_depth = 4;

  RedisReader();
  ~RedisReader();
  RedisReader(const RedisReader&) = delete;
  RedisReader& operator=(const RedisReader&) = delete;

  enum class Got : uint8_t { reply, more, broken };
  /// False: more than may ever come at once; the reader is broken from then on.
  [[nodiscard]] bool feed(std::span<const uint8_t> bytes);
  /// The next complete reply. Once broken, always broken.
  [[nodiscard]] Got next(RedisReply& reply);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// One command, ready to be sent: every argument goes with its length, so that any byte may be in it.
void append_command(std::string& out, std::span<const std::string_view> arguments);
inline void append_command(std::string& out, std::initializer_list<std::string_view> arguments) {
  append_command(out, std::span(arguments.begin(), arguments.size()));
}

}  // namespace postern::proxy
