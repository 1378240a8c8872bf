// SPDX-License-Identifier: GPL-3.0-or-later
// A binary heap by due time; each timer knows its slot, so moving and removing are O(log n).
#include "proxy/loop/timers.hpp"

#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace postern::proxy {

Timer::Timer(Timers& timers, Run run, void* self) : timers_(timers), run_(run), self_(self) {
  std::vector<Timer*>& heap = timers.heap_;
  if (heap.capacity() <= timers.timers_) heap.reserve(std::max<size_t>(64, 2 * heap.capacity()));
  ++timers.timers_;
}

Timer::~Timer() {
  stop();
  --timers_.timers_;
}

void Timer::at(uint64_t due) {
  stop();
  due_ = due;
  timers_.insert(*this);
}

void Timer::in(uint64_t ms) { at(timers_.now() + ms); }

void Timer::stop() {
  if (armed()) timers_.remove(*this);
}

Timers::Timers(uv_loop_t* loop)
    : loop_(loop), clock_(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)) {
  if (clock_ < 0) throw std::system_error(errno, std::generic_category(), "a timer for deadlines");
  uv_poll_init(loop, &handle_, clock_);
  handle_.data = this;
  uv_poll_start(&handle_, UV_READABLE,
                [](uv_poll_t* handle, int, int) { static_cast<Timers*>(handle->data)->fire(); });
  uv_unref(reinterpret_cast<uv_handle_t*>(&handle_));
}

Timers::~Timers() { ::close(clock_); }

void Timers::close() {
  if (closed_) return;
  closed_ = true;
  uv_close(reinterpret_cast<uv_handle_t*>(&handle_), nullptr);
}

void Timers::place(Timer* timer, size_t slot) {
  heap_[slot] = timer;
  timer->slot_ = static_cast<uint32_t>(slot);
}

void Timers::up(size_t slot) {
  Timer* timer = heap_[slot];
  while (slot > 0) {
    const size_t parent = (slot - 1) / 2;
    if (heap_[parent]->due_ <= timer->due_) break;
    place(heap_[parent], slot);
    slot = parent;
  }
  place(timer, slot);
}

void Timers::down(size_t slot) {
  Timer* timer = heap_[slot];
  for (;;) {
    size_t child = 2 * slot + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && heap_[child + 1]->due_ < heap_[child]->due_) ++child;
    if (timer->due_ <= heap_[child]->due_) break;
    place(heap_[child], slot);
    slot = child;
  }
  place(timer, slot);
}

void Timers::insert(Timer& timer) {
  if (heap_.empty()) uv_ref(reinterpret_cast<uv_handle_t*>(&handle_));
  heap_.push_back(&timer);
  up(heap_.size() - 1);
  arm();
}

void Timers::remove(Timer& timer) {
  const size_t slot = timer.slot_;
  timer.slot_ = Timer::unarmed;
  Timer* last = heap_.back();
  heap_.pop_back();
  if (heap_.empty()) uv_unref(reinterpret_cast<uv_handle_t*>(&handle_));
  if (last == &timer) return;
  place(last, slot);
  up(slot);
  down(last->slot_);
  // The clock may now fire too early; fire() then finds nothing due and arms anew. Cheaper than a re-arm
  // each time.
}

/// At this time of the monotonic clock, which is the loop's; 0: never. What has expired unread is forgotten.
void Timers::set(uint64_t ns) {
  itimerspec when{};
  when.it_value.tv_sec = static_cast<time_t>(ns / 1'000'000'000);
  when.it_value.tv_nsec = static_cast<long>(ns % 1'000'000'000);
  ::timerfd_settime(clock_, TFD_TIMER_ABSTIME, &when, nullptr);
}

void Timers::arm() {
  if (firing_ || closed_ || heap_.empty()) return;
  const uint64_t due = heap_.front()->due_;
  if (due >= armed_for_) return;
  armed_for_ = due;
  constexpr uint64_t far_ms = 1'000'000'000'000;  // further than that it looks again
  set((std::min(due, far_ms) + slack_ms) * 1'000'000);
}

void Timers::fire() {
  firing_ = true;
  const uint64_t now = uv_now(loop_);
  while (!heap_.empty() && heap_.front()->due_ <= now) {
    Timer* timer = heap_.front();
    remove(*timer);
    timer->run_(timer->self_);  // may arm, stop or destroy any timer, this one included
  }
  firing_ = false;
  armed_for_ = UINT64_MAX;
  if (heap_.empty())
    set(0);
  else
    arm();
}

}  // namespace postern::proxy
