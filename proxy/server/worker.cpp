// SPDX-License-Identifier: GPL-3.0-or-later
// A thread's beginning and end; what happens in between is its loop's.
#include "proxy/server/worker.hpp"

#include <pthread.h>

#include <string>
#include <utility>

namespace postern::proxy {
namespace {

constexpr uint64_t lag_period_ms = 1000;

}  // namespace

Worker::Worker(size_t index, Counters& counters, NameService& names, std::function<void()> idle)
    : loop_(index, counters.workers[index], names),
      roster_(loop_),
      lag_probe_(
          *loop_.timers, [](void* self) { static_cast<Worker*>(self)->measure_lag(); }, this),
      idle_(std::move(idle)) {}

Worker::~Worker() { join(); }

void Worker::start() {
  thread_ = std::thread([this] {
    const std::string name = "worker-" + std::to_string(loop_.index);
    ::pthread_setname_np(::pthread_self(), name.c_str());
    uv_update_time(loop_.uv());
    lag_due_ = loop_.now() + lag_period_ms;
    lag_probe_.at(lag_due_);
    loop_.run();
  });
}

void Worker::join() {
  if (thread_.joinable()) thread_.join();
}

/// How late a timer fires is how long a byte waits for this loop.
void Worker::measure_lag() {
  const uint64_t at = uv_hrtime() / 1000;
  const uint64_t due = (lag_due_ + Timers::slack_ms) * 1000;
  loop_.cells.loop_lag.observe(lag_bounds, at > due ? at - due : 0);
  lag_due_ = at / 1000 + lag_period_ms;
  lag_probe_.at(lag_due_);
}

void Worker::listen(int fd, std::shared_ptr<Listener> listener) {
  acceptors_.push_back(std::make_unique<Acceptor>(roster_, fd, std::move(listener)));
}

void Worker::drain() {
  acceptors_.clear();
  if (idle_) roster_.when_empty(std::exchange(idle_, nullptr));
}

void Worker::stop() {
  if (std::exchange(stopping_, true)) return;
  acceptors_.clear();
  roster_.clear();
  lag_probe_.stop();
  loop_.stop();
}

}  // namespace postern::proxy
