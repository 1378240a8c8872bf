// SPDX-License-Identifier: GPL-3.0-or-later
// A conversation with a backend until it is ready to be used, as a value: bytes in, commands and a wish out.
// It may begin several times, each time with another connection.
#pragma once

#include <memory>
#include <string>

#include "conf/config.hpp"
#include "protocols/input.hpp"
#include "protocols/replay.hpp"

namespace postern::protocols {

class Opening {
 public:
  virtual ~Opening() = default;
  /// A connection stands. What an earlier one had come to is forgotten.
  virtual void begin() = 0;
  /// Goes no further than one question. Wants input, start_tls, ready or failed.
  virtual ReplayStep advance(Input& in, std::string& out) = 0;
  virtual ReplayStep tls_started(std::string& out) = 0;
};

/// A replay, up to the credentials. An answer that stands there before its question fails it: the answer to
/// the last question would be taken for a verdict on the login.
class ReplayOpening : public Opening {
 public:
  explicit ReplayOpening(conf::Protocol protocol) : protocol_(protocol) {}
  ReplayOpening(const ReplayOpening&) = delete;
  ReplayOpening& operator=(const ReplayOpening&) = delete;

  ReplayRules rules;  // set before begin()

  void begin() override;
  ReplayStep advance(Input& in, std::string& out) override;
  ReplayStep tls_started(std::string& out) override;

 protected:
  const conf::Protocol protocol_;
  Login login_;  // whose
  std::unique_ptr<Replay> replay_;
};

}  // namespace postern::protocols
