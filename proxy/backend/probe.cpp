// SPDX-License-Identifier: GPL-3.0-or-later
// A timer, a dial and an opening. The verdict is out as soon as the backend is ready; what follows is good
// manners.
#include "proxy/backend/probe.hpp"

#include <utility>

#include "protocols/registry.hpp"
#include "proxy/base/log.hpp"

namespace postern::proxy {
namespace {

/// A backend has this long to answer the goodbye.
constexpr uint64_t parting_ms = 1000;

Caller ourselves() {
  Caller caller;
  caller.session = "probe";
  return caller;
}

}  // namespace

void ProbeWaiter::leave() {
  if (probe_) probe_->waiter_ = nullptr;
  probe_ = nullptr;
}

Probe::Probe(Probes& owner, std::shared_ptr<const BackendPolicy> policy,
             std::shared_ptr<const Destination> destination, conf::Protocol protocol, ProbeWaiter* waiter)
    : owner_(owner),
      policy_(std::move(policy)),
      destination_(std::move(destination)),
      protocol_(protocol),
      opening_(protocol),
      timer_(
          *owner.loop.timers, [](void* self) noexcept { static_cast<Probe*>(self)->over(); }, this),
      waiter_(waiter) {
  if (waiter_) waiter_->probe_ = this;
}

Probe::~Probe() {
  if (waiter_) waiter_->leave();
  if (!told_) destination_->health->tried(policy_->health, Health::Finding::unknown, owner_.loop.now());
}

void Probe::start() noexcept {
  const auto begin = [this] {
    DialEvents& events = *this;
    dial_ = std::make_unique<Dial>(owner_, policy_, destination_, protocol_, ourselves(), events);
    dial_->probe();
    const auto& leg = destination_->conf.leg(protocol_);
    if (leg && protocols::row(protocol_).replay) {
      // It stops short of the credentials and names no client, so that any leg is fit for it.
      opening_.rules.tls = leg->tls;
      opening_.rules.allow_plaintext = true;
      opening_.rules.hostname = policy_->hostname;
      dial_->open_with(opening_);
    }
    dial_->start();
  };
  guarded(begin, [this](const char* why) {
    owner_.loop.starved("a trial ends for want of memory", {}, "probe", why);
    if (dial_) dial_->cancel();
    if (!told_) found(Health::Finding::unknown, Fault::memory, {});
    over();
  });
}

void Probe::dialed(Leg leg) noexcept {
  backend_ = std::move(leg.stream);
  StreamEvents& events = *this;
  backend_->belong_to(events);
  found(Health::Finding::up, Fault::none, {});
  const std::string_view goodbye = protocols::row(protocol_).goodbye;
  const std::span bytes(reinterpret_cast<const uint8_t*>(goodbye.data()), goodbye.size());
  if ((!bytes.empty() && !backend_->write(bytes)) || !backend_->finish()) return over();
  backend_->forget_input();
  timer_.in(parting_ms);
}

void Probe::dial_failed(Fault fault, const std::string& detail) noexcept {
  const bool ours = row(fault).stage == Stage::none;
  found(ours ? Health::Finding::unknown : Health::Finding::down, fault, detail);
  over();
}

void Probe::found(Health::Finding finding, Fault fault, const std::string& detail) noexcept {
  told_ = true;
  auto& cells = destination_->counters->workers[owner_.loop.index].protocol[static_cast<size_t>(protocol_)];
  cells.probes[static_cast<size_t>(finding)].add();
  const std::string& name = destination_->conf.name;
  switch (destination_->health->tried(policy_->health, finding, owner_.loop.now())) {
    case Health::Change::went_down:
      log::warn("destination marked down", {{"destination", name},
                                            {"protocol", conf::name(protocol_)},
                                            {"fault", label(fault)},
                                            {"error", detail}});
      break;
    case Health::Change::came_up:
      log::info("destination is up again", {{"destination", name}});
      break;
    case Health::Change::none:
      log::debug("destination tried", {{"destination", name},
                                       {"protocol", conf::name(protocol_)},
                                       {"result", probe_result_names[static_cast<size_t>(finding)]},
                                       {"error", detail}});
      break;
  }
  if (ProbeWaiter* waiter = std::exchange(waiter_, nullptr)) {
    waiter->probe_ = nullptr;
    waiter->probe_over(finding == Health::Finding::up);
  }
}

void Probe::over() noexcept {
  if (std::exchange(over_, true)) return;
  timer_.stop();
  if (backend_) backend_->close();
  owner_.retire(*this);
}

void Probes::begin(const std::shared_ptr<const BackendPolicy>& policy,
                   const std::shared_ptr<const Destination>& destination, conf::Protocol protocol,
                   ProbeWaiter* waiter) noexcept {
  Probe* made = nullptr;
  guarded([&] { made = new Probe(*this, policy, destination, protocol, waiter); },
          [&](const char* why) {
            loop.starved("a trial ends for want of memory", {}, "probe", why);
            destination->health->tried(policy->health, Health::Finding::unknown, loop.now());
            if (waiter) waiter->probe_over(false);
          });
  if (!made) return;
  made->next_ = std::exchange(live_, made);
  made->start();
}

void Probes::retire(Probe& probe) noexcept {
  Probe** at = &live_;
  while (*at && *at != &probe) at = &(*at)->next_;
  if (!*at) return;
  *at = probe.next_;
  loop.bury(std::unique_ptr<Probe>(&probe));
}

void Probes::clear() noexcept {
  while (live_) {
    const std::unique_ptr<Probe> gone(live_);
    live_ = gone->next_;
  }
}

}  // namespace postern::proxy
