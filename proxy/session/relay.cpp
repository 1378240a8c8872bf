// SPDX-License-Identifier: GPL-3.0-or-later
#include "proxy/session/relay.hpp"

#include <utility>

namespace postern::proxy {

void RelaySession::client_ready() {
  destination_ = listener().passthrough;
  if (!destination_) return close(Fault::no_leg, "no destination");
  dial();
}

void RelaySession::client_said(std::span<const uint8_t> plain) {
  keep_early(plain);
  if (!ahead()) return;
  client_.read(false);
  watch_client();
}

void RelaySession::backend_ready(Leg&) {
  if (const Fault fault = admission_.established(); fault != Fault::none) return close(fault);
  if (!backend_->tls()) destination_.reset();  // else it is the place for the tickets that are to come
  const std::vector<uint8_t> early = std::exchange(early_, {});
  bridge({early, {}, client_over_, client_clean_});
}

}  // namespace postern::proxy
