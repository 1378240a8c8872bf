// SPDX-License-Identifier: GPL-3.0-or-later
#include "proxy/loop/name_record.hpp"

#include <utility>

namespace postern::proxy {

NameRecord::Advice NameRecord::ask(uint64_t now, uint64_t stale, bool retry, const NameTimes& times) const {
  const uint64_t ago = since(now, looked_at_);
  if (looked_ && last_ == NameResult::found && ago < (retry ? times.fresh_retry : times.fresh))
    return {What::use};
  const bool just_failed = looked_ && last_ != NameResult::found && ago < times.again;
  const bool look_up = !looking_ && !just_failed;
  if (!good_ || age(now) >= stale) {
    if (just_failed && !looking_) return {What::give_up};
    return {What::wait, look_up};
  }
  const uint64_t waited = looking_ ? since(now, began_) : 0;
  const bool silent = looked_ && last_ == NameResult::silent && ago < times.silence;
  if (just_failed || silent || waited >= times.patience) return {What::use_last, look_up};
  return {What::wait, look_up, times.patience - waited};
}

void NameRecord::begin(uint64_t now) {
  looking_ = true;
  began_ = now;
}

void NameRecord::learn(NameAnswer answer, uint64_t now) {
  looking_ = false;
  looked_ = true;
  looked_at_ = now;
  last_ = answer.result;
  error_ = std::move(answer.error);
  if (last_ == NameResult::found) {
    good_ = std::move(answer.addresses);
    good_at_ = now;
    absences_ = 0;
  } else if (last_ == NameResult::absent && ++absences_ >= absences_believed) {
    good_.reset();
  }
}

bool NameRecord::forgettable(uint64_t now, uint64_t stale) const {
  return !looking_ && (!good_ || age(now) >= stale) && since(now, looked_at_) >= 60'000;
}

}  // namespace postern::proxy
