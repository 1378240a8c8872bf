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
#include <utility>
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

/// What a configuration wants of tickets, read and checked aside. Nothing is changed by making one: that is
/// TicketKeys::adopt(), when the configuration is published. Its keys are wiped with it.
struct TicketPlan {
  conf::TicketConf conf{.enable = false, .file = {}};
  std::vector<TicketKey> keys;  // the file's; or one of our own, should one be due
  std::string warning;          // what the operator should know about the file, or empty

  static conf::Result<TicketPlan> make(const conf::TicketConf& conf);
  TicketPlan() = default;
  TicketPlan(TicketPlan&&) = default;
  TicketPlan& operator=(TicketPlan&& other) noexcept;
  ~TicketPlan();
};

/// The keys all loops read without a lock: the first makes tickets, every one opens them. They are replaced
/// by one thread, which is the one that publishes configurations.
class TicketKeys {
 public:
  static constexpr size_t max_keys = 64;

  TicketKeys();
  ~TicketKeys();
  TicketKeys(const TicketKeys&) = delete;
  TicketKeys& operator=(const TicketKeys&) = delete;

  /// The plan's settings and keys hold from now on; own keys go on over it. Cannot fail.
  void adopt(TicketPlan plan,
             std::chrono::system_clock::time_point now = std::chrono::system_clock::now()) noexcept;
  /// Re-reads the file, or makes a new own key when the first is older than `rotate`; wipes outlived ones.
  /// True if the keys changed; after an error they are as they were.
  conf::Result<bool> refresh(std::chrono::system_clock::time_point now);
  [[nodiscard]] std::chrono::seconds age(
      std::chrono::system_clock::time_point now) const;  // of the making key
  /// What the operator should know about the file, or empty. Valid until the next adopt() or refresh().
  [[nodiscard]] const std::string& warning() const;

  // From any thread, without a lock. The copy is the caller's to wipe. False: there is no such key; contexts
  // made while tickets were on may still ask once they are off.
  [[nodiscard]] bool making(TicketKey& key) const;
  [[nodiscard]] bool named(std::span<const uint8_t, 16> name, TicketKey& key, bool& newest) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Tickets of one server context: sealed with these keys, accepted for so long. Without keys there are none.
struct TicketUse {
  std::shared_ptr<const TicketKeys> keys;
  std::chrono::seconds lifetime{0};

  static TicketUse of(std::shared_ptr<const TicketKeys> keys, const conf::TicketConf& conf) {
    if (!keys || !conf.enable) return {};
    return {std::move(keys), std::chrono::duration_cast<std::chrono::seconds>(conf.lifetime)};
  }
};

}  // namespace postern::tls
