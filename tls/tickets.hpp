// SPDX-License-Identifier: GPL-3.0-or-later
// The keys behind stateless session tickets: own ones that rotate, or those of a file that replicas share.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "conf/config.hpp"
#include "conf/result.hpp"

namespace postern::tls {

/// One key: public name, secret, and when it came into use.
struct TicketKey {
  std::array<uint8_t, 16> name{};
  std::array<uint8_t, 32> key{};
  std::chrono::system_clock::time_point since;
};

/// Reads a key file: one key a line, 48 bytes (16 of name, 32 of secret) as 96 hexadecimal digits or 64
/// characters of base64; the first line makes tickets, all lines open them. Empty lines and lines that begin
/// with '#' do not count. How replicas rotate is in deploy/tickets.md.
conf::Result<std::vector<TicketKey>> parse_ticket_keys(std::string_view text);

/// The keys all loops read without a lock: the first makes tickets, every one opens them.
class TicketKeys {
 public:
  static constexpr size_t max_keys = 64;

  TicketKeys();
  ~TicketKeys();
  TicketKeys(const TicketKeys&) = delete;
  TicketKeys& operator=(const TicketKeys&) = delete;

  /// Applies settings: reads the file or keeps/creates own keys. On error everything stays as it was.
  conf::Result<void> configure(const conf::TicketConf& conf);
  /// Re-reads the file, or makes a new own key when the first is older than `rotate`; wipes outlived ones.
  /// True if the keys changed. Called now and then from the thread that calls configure().
  conf::Result<bool> refresh(std::chrono::system_clock::time_point now);
  [[nodiscard]] std::chrono::seconds age(
      std::chrono::system_clock::time_point now) const;  // of the making key
  [[nodiscard]] bool enabled() const;
  [[nodiscard]] std::chrono::seconds lifetime() const;
  /// What the operator should know about the file, or empty. Valid until the next configure() or refresh().
  [[nodiscard]] const std::string& warning() const;

  // From any thread, without a lock. The copy is the caller's to wipe. False: there is no such key.
  [[nodiscard]] bool making(TicketKey& key) const;
  [[nodiscard]] bool named(std::span<const uint8_t, 16> name, TicketKey& key, bool& newest) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace postern::tls
