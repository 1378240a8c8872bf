// SPDX-License-Identifier: GPL-3.0-or-later
#include "proxy/trial.hpp"

#include <utility>

#include "proxy/log.hpp"
#include "proxy/worker.hpp"

namespace postern::proxy {

Trial::Trial(Worker& worker, std::shared_ptr<const Snapshot> snapshot,
             std::shared_ptr<const Destination> destination, conf::Protocol protocol, const Caller& caller)
    : worker_(worker),
      snapshot_(std::move(snapshot)),
      destination_(std::move(destination)),
      protocol_(protocol),
      caller_(caller) {}

Trial::~Trial() { abandon(); }

DestinationCells::PerProtocol& Trial::cells() const {
  return destination_->counters->workers[worker_.index].protocol[static_cast<size_t>(protocol_)];
}

bool Trial::admit() {
  admission_ = destination_->health->admit(snapshot_->health, worker_.now());
  return admission_ != Health::Admission::refuse;
}

void Trial::success() {
  if (std::exchange(told_, true)) return;
  cells().attempts[static_cast<size_t>(AttemptResult::ok)].add();
  if (destination_->health->success())
    log::info("destination is up again", {{"destination", destination_->conf.name}});
}

void Trial::failure(Fault fault, const std::string& detail) {
  if (std::exchange(told_, true)) return;
  const FaultRow& what = row(fault);
  AttemptResult result = AttemptResult::refused;
  if (what.stage == Stage::none) {
    destination_->health->abandon(admission_);
  } else {
    result = what.stage == Stage::connect ? AttemptResult::connect : AttemptResult::later;
    if (destination_->health->failure(snapshot_->health, admission_, what.stage, caller_.peer.ip,
                                      worker_.now()))
      log::warn("destination marked down", {{"destination", destination_->conf.name}, {"error", detail}});
  }
  cells().attempts[static_cast<size_t>(result)].add();
  uint64_t suppressed = 0;
  if (worker_.refusals.allow(worker_.now(), suppressed))
    log::warn("backend unavailable", {{"session", caller_.session},
                                      {"listener", caller_.listener},
                                      {"protocol", conf::name(protocol_)},
                                      {"peer", caller_.peer.text()},
                                      {"destination", destination_->conf.name},
                                      {"fault", what.label},
                                      {"error", detail},
                                      {"suppressed", suppressed}});
}

void Trial::abandon() {
  if (std::exchange(told_, true)) return;
  destination_->health->abandon(admission_);
}

}  // namespace postern::proxy
