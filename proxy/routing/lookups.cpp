// SPDX-License-Identifier: GPL-3.0-or-later
// Invariant: a name has one flight at most, and every waiter stands in one flight and in deadlines_. The
// breaker is open while the store is down; what goes through it are attempts of our own, one after another,
// so that no client waits for a store that is not there.
#include "proxy/routing/lookups.hpp"

#include <algorithm>
#include <chrono>

#include "proxy/base/guard.hpp"

namespace postern::proxy {
namespace {

uint64_t steady_us() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(now).count());
}

size_t index(StoreAnswer::Kind kind) {
  using enum StoreAnswer::Kind;
  switch (kind) {
    case found:
      return static_cast<size_t>(Lookup::found);
    case absent:
      return static_cast<size_t>(Lookup::absent);
    case timeout:
      return static_cast<size_t>(Lookup::timeout);
    case failed:
      break;
  }
  return static_cast<size_t>(Lookup::error);
}

LookupAnswer from_cache(const RouteCache::Kept& kept, int64_t positive_ms, Origin origin) {
  LookupAnswer answer;
  answer.kind = kept.destination ? LookupAnswer::Kind::mapped : LookupAnswer::Kind::unmapped;
  answer.origin = kept.from_disk ? Origin::snapshot : origin;
  if (kept.destination) answer.destination = *kept.destination;
  answer.left_ms = kept.left_ms;
  answer.age_ms = kept.destination ? positive_ms - kept.left_ms : 0;
  return answer;
}

}  // namespace

LookupRules LookupRules::of(const conf::Config& config, uint64_t era) {
  LookupRules rules;
  rules.timeout_ms = static_cast<uint64_t>(config.mapping.lookup_timeout.count());
  rules.on_error = config.mapping.on_error;
  rules.era = era;
  rules.positive_ms = config.mapping.positive_ttl.count();
  for (const conf::DestinationConf& destination : config.destinations)
    rules.destinations.insert(destination.name);
  return rules;
}

LookupAnswer without_store(RouteCache& cache, const LookupRules& rules, std::string_view name,
                           uint64_t now_ms, bool may_be_stale, std::string why) {
  LookupAnswer answer;
  if (may_be_stale && rules.on_error == conf::OnError::stale)
    if (const auto kept = cache.look(name, now_ms); kept && (kept->left_ms > 0 || kept->destination))
      answer = from_cache(*kept, rules.positive_ms, kept->left_ms > 0 ? Origin::cache : Origin::stale);
  if (may_be_stale && rules.on_error == conf::OnError::fallback) {
    answer.kind = LookupAnswer::Kind::unmapped;
    answer.origin = Origin::fallback;
  }
  answer.why = std::move(why);
  return answer;
}

Lookups::Lookups(RouteCache& cache, WorkerCells& cells, LookupEvents& events, Clock clock, Random random)
    : cache_(cache), cells_(cells), events_(events), clock_(std::move(clock)), random_(std::move(random)) {}

Lookups::~Lookups() {
  flights_.clear();  // what the store says as it goes is for nobody
  store_.reset();
}

void Lookups::use(std::unique_ptr<Store> store, LookupRules rules) {
  now_ = clock_();
  rules_ = std::move(rules);
  flights_.clear();
  unsent_.clear();
  outstanding_ = 0;
  store_ = std::move(store);  // the old one's last answers find no flight
  failures_ = 0;
  down_ = reached_ = attempting_ = false;
  attempt_at_ = UINT64_MAX;
  pause_ms_ = shortest_pause_ms;
  patience_ms_ = silence_ms;
  while (!waiters_.empty()) {
    LookupAnswer answer;
    answer.kind = LookupAnswer::Kind::again;
    give(waiters_.begin()->first, std::move(answer));
  }
  if (!store_) return;
  attempt_name_ = trial_name;  // whether it can be reached is known before anybody logs in
  attempt_at_ = now_;
}

// --- asking -----------------------------------------------------------------------------------------

void Lookups::ask(std::string_view name, uint64_t deadline_ms, bool may_be_stale, Answered answered) {
  now_ = clock_();
  if (!store_) {
    LookupAnswer answer;
    answer.kind = LookupAnswer::Kind::again;
    return answered(std::move(answer));
  }
  const auto kept = cache_.look(name, now_);
  if (kept && kept->left_ms > 0 && may_be_stale)  // the answer to somebody else has come meanwhile
    return answered(from_cache(*kept, rules_.positive_ms, Origin::cache));
  const bool known = kept && may_be_stale && rules_.on_error == conf::OnError::stale;
  if (down_ || (known && silent()) || flights_.size() >= most_flights) {
    if (down_ || known) want_attempt(name);
    return answered(refuse(name, may_be_stale));
  }
  auto at = flights_.find(name);
  if (at == flights_.end()) {
    unsent_.emplace_back(name);  // first: a flight that nobody sends would never end
    at = begin_flight(name, Purpose::logins);
  }
  const uint64_t number = next_++;
  at->second.waiters.push_back(number);
  waiters_.emplace(number, Waiter{at->first, deadline_ms, may_be_stale, std::move(answered)});
  deadlines_.emplace(deadline_ms, number);
}

/// The store is not asked: what is there without it.
LookupAnswer Lookups::refuse(std::string_view name, bool may_be_stale) {
  std::string why = down_ ? outage_.why : silent() ? "it is silent" : "too many lookups are under way";
  LookupAnswer answer = without_store(cache_, rules_, name, now_, may_be_stale, std::move(why));
  if (answer.kind == LookupAnswer::Kind::mapped) {
    cells_.served_stale.add();
    ++outage_.served_stale;
  } else {
    cells_.lookups[static_cast<size_t>(Lookup::refused)].add();
    ++outage_.refused;
  }
  return answer;
}

Lookups::Flights::iterator Lookups::begin_flight(std::string_view name, Purpose purpose) {
  const auto at = flights_.try_emplace(std::string(name)).first;
  at->second.number = next_++;
  at->second.purpose = purpose;
  return at;
}

Store::Question Lookups::question(Flights::value_type& flight) {
  flight.second.sent = true;
  flight.second.sent_us = steady_us();
  if (outstanding_++ == 0) {
    heard_ms_ = now_;
    silence_served_ = false;
  }
  return {flight.first, [this, name = flight.first, number = flight.second.number](StoreAnswer answer) {
            heard(name, number, std::move(answer));
          }};
}

void Lookups::flush() {
  now_ = clock_();
  if (unsent_.empty()) return;
  const std::vector<std::string> names = std::exchange(unsent_, {});
  const auto send = [&] {
    std::vector<Store::Question> questions;
    questions.reserve(names.size());
    for (const std::string& name : names)
      if (const auto at = flights_.find(name); at != flights_.end() && !at->second.sent)
        questions.push_back(question(*at));
    if (!questions.empty()) store_->find(std::move(questions), now_ + rules_.timeout_ms);
  };
  guarded(send, [&](const char* why) {
    for (const std::string& name : names)
      if (const auto at = flights_.find(name); at != flights_.end()) abandon(at, why);
  });
}

/// The flight ends for want of memory: it says nothing about the store, and what the store may still say of
/// it is for nobody.
void Lookups::abandon(Flights::iterator at, std::string_view why) noexcept {
  if (at->second.sent) --outstanding_;
  if (at->second.purpose == Purpose::attempt) attempting_ = false;
  const auto over = flights_.extract(at);
  for (const uint64_t waiter : over.mapped().waiters) serve_without(waiter, why);
}

void Lookups::drop(std::string_view name) {
  cache_.drop(name);
  if (const auto at = flights_.find(name); at != flights_.end() && at->second.sent)
    at->second.outdated = true;
}

// --- answers ----------------------------------------------------------------------------------------

void Lookups::heard(const std::string& name, uint64_t number, StoreAnswer answer) {
  const auto at = flights_.find(name);
  if (at == flights_.end() || at->second.number != number) return;
  now_ = clock_();
  --outstanding_;
  const uint64_t took = steady_us() - at->second.sent_us;
  cells_.lookup_seconds.observe(lookup_bounds, took);
  cells_.lookups[index(answer.kind)].add();
  if (answer.kind != StoreAnswer::Kind::timeout) {
    heard_ms_ = now_;
    silence_served_ = false;
  }
  if (at->second.purpose == Purpose::attempt) attempting_ = false;
  const bool answers = answer.kind == StoreAnswer::Kind::found || answer.kind == StoreAnswer::Kind::absent;
  const auto take = [&] {
    if (answers)
      succeeded(at, std::move(answer));
    else
      failed(at, answer);
  };
  guarded(take, [&](const char* why) {
    const auto left = flights_.find(name);
    if (left == flights_.end() || left->second.number != number) return;
    left->second.sent = false;  // it counts as heard
    abandon(left, why);
  });
}

void Lookups::succeeded(Flights::iterator at, StoreAnswer answer) {
  failures_ = 0;
  reached_ = true;
  attempt_at_ = UINT64_MAX;
  pause_ms_ = shortest_pause_ms;
  patience_ms_ = silence_ms;
  if (std::exchange(down_, false)) events_.store_back(std::exchange(outage_, {}), now_);
  outage_ = {};

  Flight& flight = at->second;
  if (flight.outdated) return land(at);
  LookupAnswer given;
  given.kind = LookupAnswer::Kind::unmapped;
  if (answer.kind == StoreAnswer::Kind::found && !answer.text.empty()) {
    if (rules_.destinations.contains(answer.text)) {
      given.kind = LookupAnswer::Kind::mapped;
      given.destination = std::move(answer.text);
    } else {
      events_.undeclared(answer.text);
    }
  }
  if (at->first != trial_name)
    best_effort([&] {
      cache_.put(at->first, given.kind == LookupAnswer::Kind::mapped ? &given.destination : nullptr, now_,
                 rules_.era);
    });
  const auto over = flights_.extract(at);
  for (const uint64_t waiter : over.mapped().waiters)
    if (!best_effort([&] { give(waiter, LookupAnswer(given)); })) serve_without(waiter, "out of memory");
}

void Lookups::failed(Flights::iterator at, const StoreAnswer& answer) {
  const bool late = answer.kind == StoreAnswer::Kind::timeout;
  const std::string why = answer.text.empty() && late ? "it does not answer in time" : answer.text;
  ++failures_;
  outage_.why = why;
  if (failures_ >= failures_to_break && !std::exchange(down_, true)) {
    outage_.began_ms = now_;
    events_.store_lost(outage_);
  }
  const bool attempt = at->second.purpose == Purpose::attempt;
  if (attempt && late) patience_ms_ = std::min(patience_ms_ * 2, std::max(rules_.timeout_ms, patience_ms_));
  want_attempt(at->first);
  // An attempt has less time than the logins that joined it.
  if (at->second.outdated || (attempt && late && !down_)) return land(at);
  const auto over = flights_.extract(at);  // the waiters' names are in it
  for (const uint64_t waiter : over.mapped().waiters) serve_without(waiter, why);
}

/// The flight ends without an answer that counts: whoever still waits is asked for once more.
void Lookups::land(Flights::iterator at) {
  std::erase_if(at->second.waiters,
                [this](uint64_t waiter) { return waiters_.find(waiter) == waiters_.end(); });
  if (at->second.waiters.empty()) {
    flights_.erase(at);
    return;
  }
  unsent_.push_back(at->first);
  std::vector<uint64_t> waiters = std::move(at->second.waiters);
  at->second = Flight{};
  at->second.number = next_++;
  at->second.waiters = std::move(waiters);
}

void Lookups::give(uint64_t waiter, LookupAnswer answer) noexcept {
  const auto at = waiters_.find(waiter);
  if (at == waiters_.end()) return;  // its time was up before
  const Answered answered = std::move(at->second.answered);
  deadlines_.erase({at->second.deadline, waiter});
  waiters_.erase(at);
  best_effort([&] { answered(std::move(answer)); });  // whoever hears nothing has a deadline of its own
}

void Lookups::serve_without(uint64_t waiter, std::string_view why) noexcept {
  const auto at = waiters_.find(waiter);
  if (at == waiters_.end()) return;
  LookupAnswer answer;  // without memory: failed, and no word why
  best_effort([&] {
    answer = without_store(cache_, rules_, at->second.name, now_, at->second.may_be_stale, std::string(why));
  });
  if (answer.kind == LookupAnswer::Kind::mapped) {
    cells_.served_stale.add();
    ++outage_.served_stale;
  }
  give(waiter, std::move(answer));
}

// --- time -------------------------------------------------------------------------------------------

bool Lookups::silent() const {
  return outstanding_ > 0 && now_ - heard_ms_ >= std::min(silence_ms, rules_.timeout_ms);
}

/// The store has said nothing for a while: whoever has a last known answer goes on with it. The questions
/// stay.
void Lookups::serve_those_with_a_known_answer() {
  silence_served_ = true;
  if (rules_.on_error != conf::OnError::stale) return;
  std::vector<uint64_t> served;
  for (const auto& [number, waiter] : waiters_)
    if (const auto kept = cache_.look(waiter.name, now_); kept && kept->destination && waiter.may_be_stale)
      served.push_back(number);
  for (const uint64_t number : served) serve_without(number, "it is silent");
}

void Lookups::want_attempt(std::string_view name) {
  if (attempt_name_.empty() || name != trial_name) attempt_name_ = name;
  if (attempting_ || attempt_at_ != UINT64_MAX) return;
  attempt_at_ = now_ + pause_ms_ / 2 + random_() % (pause_ms_ / 2 + 1);
  pause_ms_ = std::min(pause_ms_ * 2, longest_pause_ms);
}

void Lookups::attempt() {
  attempt_at_ = UINT64_MAX;
  auto at = flights_.find(attempt_name_);
  if (at != flights_.end()) return want_attempt(attempt_name_);  // it is asked about already
  const auto send = [&] {
    at = begin_flight(attempt_name_, Purpose::attempt);
    attempting_ = true;
    std::vector<Store::Question> questions;
    questions.push_back(question(*at));
    store_->find(std::move(questions), now_ + std::min(patience_ms_, rules_.timeout_ms));
  };
  guarded(send, [&](const char* why) {
    if (const auto begun = flights_.find(attempt_name_); begun != flights_.end()) abandon(begun, why);
    attempting_ = false;
    attempt_at_ = now_ + longest_pause_ms;
  });
}

uint64_t Lookups::due() const {
  uint64_t due = attempt_at_;
  if (!deadlines_.empty()) due = std::min(due, deadlines_.begin()->first);
  if (outstanding_ > 0 && !silence_served_ && !waiters_.empty())
    due = std::min(due, heard_ms_ + std::min(silence_ms, rules_.timeout_ms));
  return due;
}

void Lookups::tick() {
  now_ = clock_();
  while (!deadlines_.empty() && deadlines_.begin()->first <= now_)
    serve_without(deadlines_.begin()->second, "it does not answer in time");
  if (silent() && !silence_served_) serve_those_with_a_known_answer();
  if (store_ && attempt_at_ <= now_) attempt();
}

}  // namespace postern::proxy
