// SPDX-License-Identifier: GPL-3.0-or-later
#include "proxy/backend/attempt.hpp"

#include <utility>

#include "proxy/backend/probe.hpp"
#include "proxy/base/log.hpp"
#include "proxy/loop/loop.hpp"

namespace postern::proxy {

Attempt::Attempt(Probes& probes, std::shared_ptr<const BackendPolicy> policy,
                 std::shared_ptr<const Destination> destination, conf::Protocol protocol,
                 const Caller& caller)
    : probes_(probes),
      policy_(std::move(policy)),
      destination_(std::move(destination)),
      protocol_(protocol),
      caller_(caller) {}

DestinationCells::PerProtocol& Attempt::cells() const {
  return destination_->counters->workers[probes_.loop.index].protocol[static_cast<size_t>(protocol_)];
}

Health::Admission Attempt::admit() {
  return destination_->health->admit(policy_->health, probes_.loop.now());
}

void Attempt::success() {
  if (std::exchange(told_, true)) return;
  cells().attempts[static_cast<size_t>(AttemptResult::ok)].add();
  if (destination_->health->success())
    log::info("destination is up again", {{"destination", destination_->conf.name}});
}

void Attempt::failure(Fault fault, const std::string& detail) {
  const Stage stage = row(fault).stage;
  count(stage == Stage::none      ? AttemptResult::refused
        : stage == Stage::connect ? AttemptResult::connect
                                  : AttemptResult::later,
        stage, fault, detail);
}

void Attempt::unanswered(Fault fault, const std::string& detail) {
  count(AttemptResult::unanswered, Stage::later, fault, detail);
}

void Attempt::count(AttemptResult result, Stage stage, Fault fault, const std::string& detail) {
  if (std::exchange(told_, true)) return;
  cells().attempts[static_cast<size_t>(result)].add();
  uint64_t suppressed = 0;
  if (probes_.loop.complaints.allow(probes_.loop.now(), suppressed))
    log::warn("backend unavailable", {{"session", caller_.session},
                                      {"listener", caller_.listener},
                                      {"protocol", conf::name(protocol_)},
                                      {"peer", caller_.peer.text()},
                                      {"destination", destination_->conf.name},
                                      {"fault", row(fault).label},
                                      {"error", detail},
                                      {"suppressed", suppressed}});
  if (stage == Stage::none || !destination_->health->failure(policy_->health, stage, caller_.peer.ip)) return;
  uint64_t unsaid = 0;
  if (destination_->suspicions.allow(probes_.loop.now(), unsaid))
    log::info("destination suspected", {{"destination", destination_->conf.name},
                                        {"protocol", conf::name(protocol_)},
                                        {"fault", row(fault).label},
                                        {"error", detail},
                                        {"suppressed", unsaid}});
  probes_.begin(policy_, destination_, protocol_, nullptr);
}

}  // namespace postern::proxy
