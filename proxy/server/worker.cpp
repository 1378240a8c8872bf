// SPDX-License-Identifier: GPL-3.0-or-later
// The loop's life: tasks from the inbox, sessions in a list, the dead buried before the loop waits again.
#include "proxy/server/worker.hpp"

#include <pthread.h>

#include <utility>

#include "proxy/backend/probe.hpp"
#include "proxy/server/acceptor.hpp"
#include "proxy/session/session.hpp"
#include "proxy/session/snapshot.hpp"

namespace postern::proxy {
namespace {

constexpr uint64_t lag_period_ms = 1000;

}  // namespace

Worker::Worker(size_t number, Counters& counters, NameService& names, std::function<void()> idle)
    : index(number), cells(counters.workers[number]), idle_(std::move(idle)) {
  uv_loop_init(&loop_);
  timers.emplace(&loop_);
  resolver.emplace(names, [this](std::string name) {
    post([this, name = std::move(name)] {
      if (resolver) resolver->tell(name);
    });
  });
  probes = std::make_unique<Probes>(*this);

  uv_async_init(&loop_, &inbox_signal_,
                [](uv_async_t* handle) { static_cast<Worker*>(handle->data)->run_inbox(); });
  inbox_signal_.data = this;
  uv_prepare_init(&loop_, &undertaker_);
  undertaker_.data = this;
  uv_prepare_start(&undertaker_, [](uv_prepare_t* handle) { static_cast<Worker*>(handle->data)->bury(); });
  lag_probe_.emplace(
      *timers, [](void* self) { static_cast<Worker*>(self)->measure_lag(); }, this);
}

Worker::~Worker() {
  join();
  uv_loop_close(&loop_);
}

void Worker::start() {
  thread_ = std::thread([this] {
    const std::string name = "worker-" + std::to_string(index);
    ::pthread_setname_np(::pthread_self(), name.c_str());
    uv_update_time(&loop_);
    lag_due_ = now() + lag_period_ms;
    lag_probe_->at(lag_due_);
    uv_run(&loop_, UV_RUN_DEFAULT);
  });
}

void Worker::join() {
  if (thread_.joinable()) thread_.join();
}

void Worker::post(std::function<void()> task) {
  {
    const std::lock_guard lock(inbox_mutex_);
    inbox_.push_back(std::move(task));
  }
  uv_async_send(&inbox_signal_);
}

void Worker::run_inbox() {
  std::vector<std::function<void()>> tasks;
  {
    const std::lock_guard lock(inbox_mutex_);
    tasks.swap(inbox_);
  }
  for (const auto& task : tasks) task();
}

/// How late a timer fires is how long a byte waits for this loop.
void Worker::measure_lag() {
  const uint64_t at = uv_hrtime() / 1000;
  const uint64_t due = (lag_due_ + Timers::slack_ms) * 1000;
  cells.loop_lag.observe(lag_bounds, at > due ? at - due : 0);
  lag_due_ = at / 1000 + lag_period_ms;
  lag_probe_->at(lag_due_);
}

// --- sessions ---------------------------------------------------------------------------------------

void Worker::listen(int fd, size_t listener) {
  acceptors_.push_back(std::make_unique<Acceptor>(*this, fd, listener));
}

void Worker::adopt(std::shared_ptr<const Snapshot> snapshot) { snapshot_ = std::move(snapshot); }

void Worker::add(std::unique_ptr<Session> session) {
  Session* added = session.release();  // the list owns it until retire()
  added->next_ = first_;
  if (first_) first_->previous_ = added;
  first_ = added;
  ++session_count_;
}

void Worker::retire(Session& session) {
  if (session.previous_)
    session.previous_->next_ = session.next_;
  else
    first_ = session.next_;
  if (session.next_) session.next_->previous_ = session.previous_;
  session.next_ = session.previous_ = nullptr;
  --session_count_;
  dead_.emplace_back(&session);
}

void Worker::bury() {
  if (!dead_.empty()) dead_.clear();
  probes->bury();
  if (draining_ && session_count_ == 0 && idle_) std::exchange(idle_, nullptr)();
}

// --- the end ----------------------------------------------------------------------------------------

void Worker::drain() {
  draining_ = true;
  acceptors_.clear();
}

void Worker::cut() {
  for (Session* at = first_; at;) {
    Session* next = at->next_;  // cut() may retire this one, no other
    at->cut(Fault::shutdown);
    at = next;
  }
}

void Worker::stop() {
  if (std::exchange(stopping_, true)) return;
  drain();
  idle_ = nullptr;
  while (first_) {
    first_->cut(Fault::shutdown);
    if (first_) retire(*first_);  // no time to linger
  }
  dead_.clear();
  probes = std::make_unique<Probes>(*this);
  resolver.reset();
  snapshot_.reset();
  lag_probe_.reset();
  timers->close();
  for (uv_handle_t* handle :
       {reinterpret_cast<uv_handle_t*>(&inbox_signal_), reinterpret_cast<uv_handle_t*>(&undertaker_)})
    uv_close(handle, nullptr);
}

}  // namespace postern::proxy
