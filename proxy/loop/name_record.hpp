// SPDX-License-Identifier: GPL-3.0-or-later
// What is known of one name, and what a login that needs it shall do: use addresses, wait, or give up. Pure:
// no clock, no lock, no lookup.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "conf/address.hpp"
#include "proxy/observe/counters.hpp"

namespace postern::proxy {

/// In the resolver's order, without duplicates, at most `most_addresses`.
using Addresses = std::shared_ptr<const std::vector<conf::Ip>>;
inline constexpr size_t most_addresses = 64;

struct NameAnswer {
  NameResult result = NameResult::silent;
  Addresses addresses;  // of found: never null, never empty
  std::string error;    // of the others
};

/// Milliseconds.
struct NameTimes {
  uint64_t fresh = 5'000;        // an answer this young is used without asking again
  uint64_t fresh_retry = 1'000;  // the same after its addresses have failed somebody
  uint64_t again = 1'000;        // after an answer without addresses, or none: until the next lookup
  uint64_t patience = 500;       // how long who has last good addresses waits for newer ones
  uint64_t silence = 30'000;     // a name server that was silent is not waited for in this time
};

class NameRecord {
 public:
  enum class What : uint8_t {
    use,       // these addresses are fresh
    use_last,  // no answer to be had: the last good ones
    wait,      // a lookup is, or shall be, under way
    give_up,   // the last lookup brought nothing, and that was a moment ago
  };
  struct Advice {
    What what = What::wait;
    bool look_up = false;   // begin a lookup
    uint64_t patience = 0;  // of wait: ask again after this long; 0: there is nothing to fall back on
  };
  /// `stale`: how old last good addresses may be. `retry`: addresses that were used have just failed.
  [[nodiscard]] Advice ask(uint64_t now, uint64_t stale, bool retry, const NameTimes& times) const;

  void begin(uint64_t now);
  void learn(NameAnswer answer, uint64_t now);

  [[nodiscard]] const Addresses& addresses() const { return good_; }
  [[nodiscard]] NameResult last() const { return last_; }
  [[nodiscard]] const std::string& error() const { return error_; }
  [[nodiscard]] bool looking() const { return looking_; }
  /// Since the addresses were last confirmed.
  [[nodiscard]] uint64_t age(uint64_t now) const { return since(now, good_at_); }
  /// Nobody waits and nothing here would be used any more.
  [[nodiscard]] bool forgettable(uint64_t now, uint64_t stale) const;

 private:
  /// A name that vanishes is given up after this many answers that say so. One may be a fluke: glibc says
  /// "unknown" as well when it cannot open a file.
  static constexpr uint32_t absences_believed = 2;
  static uint64_t since(uint64_t now, uint64_t then) { return now > then ? now - then : 0; }

  Addresses good_;  // null: none, or not to be used any more
  uint64_t good_at_ = 0;
  NameResult last_ = NameResult::silent;
  std::string error_;
  bool looked_ = false;   // there is a last_
  bool looking_ = false;  // a lookup is under way or queued, since began_
  uint64_t looked_at_ = 0, began_ = 0;
  uint32_t absences_ = 0;  // in a row
};

}  // namespace postern::proxy
