// SPDX-License-Identifier: GPL-3.0-or-later
// The loop's life: tasks from the inbox, and the dead buried before it waits again.
#include "proxy/loop/loop.hpp"

#include <string>
#include <utility>

namespace postern::proxy {

Loop::Loop(size_t number, WorkerCells& counted, NameService& names) : index(number), cells(counted) {
  uv_loop_init(&uv_);
  timers.emplace(&uv_);
  resolver.emplace(names, [this](std::string name) {
    post([this, name = std::move(name)] {
      if (resolver) resolver->tell(name);
    });
  });
  uv_async_init(&uv_, &inbox_signal_,
                [](uv_async_t* handle) { static_cast<Loop*>(handle->data)->run_inbox(); });
  inbox_signal_.data = this;
  uv_prepare_init(&uv_, &undertaker_);
  undertaker_.data = this;
  uv_prepare_start(&undertaker_, [](uv_prepare_t* handle) {
    auto* self = static_cast<Loop*>(handle->data);
    for (const auto& run : self->each_turn_) run();
    self->bury_all();
  });
}

Loop::~Loop() {
  bury_all();
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

void Loop::run_inbox() {
  std::vector<std::function<void()>> tasks;
  {
    const std::lock_guard lock(inbox_mutex_);
    tasks.swap(inbox_);
  }
  for (const auto& task : tasks) task();
}

void Loop::bury_all() {
  for (size_t i = 0; i < dead_.size(); ++i) {  // the death of one may bury another
    const Dead dead = dead_[i];
    dead.destroy(dead.what);
  }
  dead_.clear();
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
