// SPDX-License-Identifier: GPL-3.0-or-later
// What the turn brought is sent at its end: questions to the store, answers to the mail loops.
#include "proxy/server/store_loop.hpp"

#include <pthread.h>
#include <sys/random.h>

#include <algorithm>
#include <future>
#include <utility>

#include "proxy/base/guard.hpp"
#include "proxy/base/log.hpp"

namespace postern::proxy {
namespace {

constexpr uint64_t look_ms = 1000;  // how often what operators see is renewed while nothing changes

uint64_t random_number() {
  uint64_t number = 0;
  return ::getrandom(&number, sizeof number, 0) == sizeof number ? number : uv_hrtime();
}

}  // namespace

StoreLoop::StoreLoop(Counters& counters, NameService& names, std::shared_ptr<RouteCache> cache,
                     Deliver deliver)
    : cache_(std::move(cache)),
      deliver_(std::move(deliver)),
      loop_(counters.workers.size(), counters.store, names),
      lookups_(
          *cache_, counters.store, *this, [this] { return loop_.now(); }, random_number),
      timer_(
          *loop_.timers,
          [](void* data) noexcept {
            auto* const self = static_cast<StoreLoop*>(data);
            guarded([self] { self->lookups_.tick(); },
                    [self](const char* why) {
                      self->loop_.starved("lookups are put off for want of memory", {}, {}, why);
                    });
          },
          this),
      answers_(counters.workers.size()) {
  loop_.each_turn([this] { turn_over(); });
  thread_ = std::thread([this] {
    ::pthread_setname_np(::pthread_self(), "store");
    loop_.run();
  });
}

StoreLoop::~StoreLoop() {
  {
    const std::lock_guard lock(orders_mutex_);
    to_stop_ = true;
  }
  loop_.post(std::shared_ptr<Errand>(std::shared_ptr<Errand>(), this));
  thread_.join();
}

void StoreLoop::use(std::shared_ptr<const StorePlan> plan, LookupRules rules) noexcept {
  want({true, std::move(plan), std::move(rules)});
}

void StoreLoop::use(LookupRules rules) noexcept { want({false, nullptr, std::move(rules)}); }

void StoreLoop::want(Wanted wanted) noexcept {
  {
    const std::lock_guard lock(orders_mutex_);
    if (!wanted_ || wanted.store)
      wanted_ = std::move(wanted);
    else
      wanted_->rules = std::move(wanted.rules);
  }
  loop_.post(std::shared_ptr<Errand>(std::shared_ptr<Errand>(), this));
}

void StoreLoop::ask(size_t worker, std::vector<LookupDesk::Question> questions) {
  loop_.post([this, worker, questions = std::move(questions)] {
    for (const LookupDesk::Question& question : questions) {
      const auto answer = [this, worker, number = question.number](LookupAnswer found) {
        answers_[worker].push_back({number, std::move(found)});
      };
      if (pending_) {
        answer({});  // for want of memory
        continue;
      }
      guarded([&] { lookups_.ask(question.name, question.deadline_ms, true, answer); },
              [&](const char*) { best_effort([&] { answer({}); }); });
    }
  });
}

void StoreLoop::drop(std::string name) {
  loop_.post([this, name = std::move(name)] { lookups_.drop(name); });
}

LookupAnswer StoreLoop::ask_and_wait(std::string name, uint64_t timeout_ms) {
  const auto given = std::make_shared<std::promise<LookupAnswer>>();
  auto answer = given->get_future();
  loop_.post([this, given, name = std::move(name), timeout_ms] {
    lookups_.ask(name, loop_.now() + timeout_ms, false,
                 [given](LookupAnswer heard) { given->set_value(std::move(heard)); });
  });
  return answer.get();
}

StoreLoop::Facts StoreLoop::facts() const {
  const std::lock_guard lock(facts_mutex_);
  return facts_;
}

// --- on the loop ------------------------------------------------------------------------------------

void StoreLoop::perform() noexcept {
  std::optional<Wanted> wanted;
  bool stop = false;
  {
    const std::lock_guard lock(orders_mutex_);
    wanted.swap(wanted_);
    stop = to_stop_;
  }
  if (wanted && pending_ && !wanted->store) {
    pending_->rules = std::move(wanted->rules);
  } else if (wanted && !wanted->store) {
    lookups_.use(std::move(wanted->rules));
  } else if (wanted) {
    pending_ = std::move(wanted);
    make_store();
  }
  if (!stop) return;
  lookups_.use(nullptr, {});
  timer_.stop();
  loop_.stop();
}

/// Of pending_, which is nothing afterwards unless there was no memory.
void StoreLoop::make_store() noexcept {
  const auto make = [this] {
    std::string name = pending_->plan ? pending_->plan->name : std::string();
    std::unique_ptr<Store> store = pending_->plan ? pending_->plan->make(loop_) : nullptr;
    name_.swap(name);
    lookups_.use(std::move(store), std::move(pending_->rules));
    pending_.reset();
    look_at_store();
  };
  guarded(make, [this](const char* why) {
    try_again_at_ = loop_.now() + look_ms;
    loop_.starved("the mapping store is not asked for want of memory", {}, {}, why);
  });
}

void StoreLoop::turn_over() {
  if (pending_ && loop_.now() >= try_again_at_) make_store();
  lookups_.flush();
  if (loop_.now() >= looked_at_ + look_ms || lookups_.reached() != facts_.reached)
    best_effort([this] { look_at_store(); });
  for (size_t worker = 0; worker < answers_.size(); ++worker) {
    if (answers_[worker].empty()) continue;
    guarded([&] { deliver_(worker, std::exchange(answers_[worker], {})); },
            [this](const char* why) {
              loop_.starved("answers of the mapping store are lost for want of memory", {}, {}, why);
            });
  }
  const uint64_t due = std::min(lookups_.due(), pending_ ? try_again_at_ : UINT64_MAX);
  if (due != UINT64_MAX)
    timer_.at(due);
  else
    timer_.stop();
}

void StoreLoop::look_at_store() {
  looked_at_ = loop_.now();
  Facts facts;
  facts.name = name_;
  if (const Store* store = lookups_.store()) {
    StoreState state = store->state();
    facts.reached = lookups_.reached();
    facts.up = facts.reached && !lookups_.down();
    facts.connections = state.connections;
    if (!facts.up) facts.error = std::move(state.last_error);
  }
  const std::lock_guard lock(facts_mutex_);
  facts_ = std::move(facts);
}

void StoreLoop::store_lost(const Outage& outage) {
  log::warn("mapping store does not answer", {{"store", name_}, {"error", outage.why}});
  looked_at_ = 0;
}

void StoreLoop::store_back(const Outage& outage, uint64_t now_ms) {
  log::info("mapping store answers again", {{"store", name_},
                                            {"secs", static_cast<double>(now_ms - outage.began_ms) / 1000.0},
                                            {"served_stale", outage.served_stale},
                                            {"refused", outage.refused}});
  looked_at_ = 0;
}

void StoreLoop::undeclared(const std::string& destination) {
  uint64_t suppressed = 0;
  if (undeclared_.allow(loop_.now(), suppressed))
    log::warn("mapping names an undeclared destination",
              {{"destination", destination}, {"suppressed", suppressed}});
}

}  // namespace postern::proxy
