// SPDX-License-Identifier: GPL-3.0-or-later
// The loop's life: tasks from the inbox, and the dead buried before it waits again.
#include "proxy/loop/loop.hpp"

#include <string>
#include <utility>

#include "proxy/base/guard.hpp"

namespace postern::proxy {

Loop::Loop(size_t number, WorkerCells& counted, NameService& names) : index(number), cells(counted) {
  uv_loop_init(&uv_);
  timers.emplace(&uv_);
  resolver.emplace(names, [this](const std::string& name) {
    const auto tell = [&] {
      post([this, name] {
        if (resolver) resolver->tell(name);
      });
    };
    if (best_effort(tell)) return;
    const std::lock_guard lock(inbox_mutex_);
    if (std::exchange(names_lost_, true) || closed_) return;
    uv_async_send(&inbox_signal_);
  });
  uv_async_init(&uv_, &inbox_signal_,
                [](uv_async_t* handle) { static_cast<Loop*>(handle->data)->run_inbox(); });
  inbox_signal_.data = this;
  uv_prepare_init(&uv_, &undertaker_);
  undertaker_.data = this;
  uv_prepare_start(&undertaker_, [](uv_prepare_t* handle) {
    auto* self = static_cast<Loop*>(handle->data);
    for (const auto& run : self->each_turn_)
      guarded(run, [self](const char* why) { self->starved("a turn is cut short", {}, {}, why); });
    self->bury_all();
  });
}

Loop::~Loop() {
  bury_all();
  while (errands_) errands_ = std::exchange(errands_->next_, nullptr);  // one by one: a chain may be long
  uv_loop_close(&uv_);
}

void Loop::run() {
  uv_update_time(&uv_);
  uv_run(&uv_, UV_RUN_DEFAULT);
}

void Loop::post(std::function<void()> task) {
  {
    const std::lock_guard lock(inbox_mutex_);
    if (closed_) return;
    inbox_.push_back(std::move(task));
    uv_async_send(&inbox_signal_);
  }
}

void Loop::post(std::shared_ptr<Errand> errand) noexcept {
  {
    const std::lock_guard lock(inbox_mutex_);
    if (closed_ || std::exchange(errand->waits_, true)) return;
    errand->next_ = std::move(errands_);
    errands_ = std::move(errand);
    uv_async_send(&inbox_signal_);
  }
}

void Loop::run_inbox() {
  std::vector<std::function<void()>> tasks;
  bool names_lost = false;
  {
    const std::lock_guard lock(inbox_mutex_);
    tasks.swap(inbox_);
    names_lost = std::exchange(names_lost_, false);
  }
  for (const auto& task : tasks)
    guarded(task, [this](const char* why) { starved("a task is not done", {}, {}, why); });
  if (names_lost && resolver) resolver->tell_all();
  while (const auto errand = next_errand()) errand->perform();
}

/// One at a time, since whoever is off the list may be asked for again, from any thread.
std::shared_ptr<Errand> Loop::next_errand() noexcept {
  const std::lock_guard lock(inbox_mutex_);
  if (!errands_) return nullptr;
  errands_->waits_ = false;
  return std::exchange(errands_, std::exchange(errands_->next_, nullptr));
}

void Loop::starved(std::string_view what, std::string_view listener, std::string_view session,
                   std::string_view why) noexcept {
  cells.out_of_memory.add();
  uint64_t suppressed = 0;
  if (starvations.allow(now(), suppressed))
    log::error(what,
               {{"listener", listener}, {"session", session}, {"error", why}, {"suppressed", suppressed}});
}

Loop::Graves& Loop::graves_of(void (*destroy)(void*) noexcept) noexcept {
  size_t i = 0;
  while (graves_[i].destroy && graves_[i].destroy != destroy) ++i;
  graves_[i].destroy = destroy;
  return graves_[i];
}

void Loop::bury_all() noexcept {
  for (size_t i = 0; i < graves_.size() && graves_[i].destroy; ++i) {
    if (!graves_[i].first) continue;
    graves_[i].destroy(std::exchange(graves_[i].first, nullptr));
    i = SIZE_MAX;  // the death of one may bury others: once more from the beginning
  }
}

void Loop::stop() {
  bury_all();
  resolver.reset();
  timers->close();
  each_turn_.clear();
  {
    const std::lock_guard lock(inbox_mutex_);
    closed_ = true;
  }
  for (uv_handle_t* handle :
       {reinterpret_cast<uv_handle_t*>(&inbox_signal_), reinterpret_cast<uv_handle_t*>(&undertaker_)})
    uv_close(handle, nullptr);
}

}  // namespace postern::proxy
