// SPDX-License-Identifier: GPL-3.0-or-later
#include "protocols/opening.hpp"

#include "protocols/refusal.hpp"
#include "protocols/registry.hpp"

namespace postern::protocols {

void ReplayOpening::begin() { replay_ = row(protocol_).replay(rules, login_); }

ReplayStep ReplayOpening::advance(Input& in, std::string& out) {
  const size_t asked = out.size();
  const ReplayStep step = replay_->advance(in, out);
  if (out.size() == asked || !is_premature(protocol_, in.view())) return step;
  out.resize(asked);
  return {ReplayWant::failed, ReplayFault::premature};
}

ReplayStep ReplayOpening::tls_started(std::string& out) { return replay_->tls_started(out); }

}  // namespace postern::protocols
