// SPDX-License-Identifier: GPL-3.0-or-later
// The keys behind stateless session tickets: own ones that rotate, or those of a file that replicas share.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
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

/// A ring all loops read without a lock: the first key makes tickets, every key opens them.
class TicketKeys {
 public:
  TicketKeys();
  ~TicketKeys();

  /// Applies settings: reads the file or keeps/creates own keys. On error the ring stays as it was.
  conf::Result<void> configure(const conf::TicketConf& conf);
  /// Re-reads the file, or makes a new own key when the first is older than `rotate`; wipes outlived ones.
  /// True if the ring changed. Called now and then from one thread.
  conf::Result<bool> refresh(std::chrono::system_clock::time_point now);
  [[nodiscard]] std::chrono::seconds age(std::chrono::system_clock::time_point now) const;  // of the making key
  [[nodiscard]] bool enabled() const;
  [[nodiscard]] std::chrono::seconds lifetime() const;

  struct Ring;
  [[nodiscard]] std::shared_ptr<const Ring> ring() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace postern::tls
