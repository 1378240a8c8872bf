// SPDX-License-Identifier: GPL-3.0-or-later
// The loop keeps the deadlines: an answer that comes later finds nobody. Threads are started as they are
// needed and share nothing with the store but a queue that outlives both.
#include "proxy/stores/blocking.hpp"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>

#include "proxy/loop/loop.hpp"
#include "proxy/loop/timers.hpp"
#include "proxy/stores/value.hpp"

namespace postern::proxy {
namespace {

using Clock = std::chrono::steady_clock;
constexpr size_t most_queued = 8192;

enum class What : uint8_t { find, put, erase };

struct Job {
  uint64_t id = 0;
  What what = What::find;
  std::string name, destination;
  Clock::time_point deadline;
};

class BlockingStore;

/// What store and threads share.
struct Shared {
  std::mutex mutex;
  std::condition_variable wake;
  std::deque<Job> queue;
  size_t idle = 0, threads = 0, connected = 0;
  BlockingStore* store = nullptr;  // null: it is gone, and the threads shall go
  Loop* loop = nullptr;
  std::function<std::unique_ptr<BlockingClient>()> make;
};

class BlockingStore final : public Store {
 public:
  BlockingStore(Loop& loop, size_t threads, bool writable, const char* thread_name,
                std::function<std::unique_ptr<BlockingClient>()> make)
      : loop_(loop),
        most_threads_(std::max<size_t>(1, threads)),
        writable_(writable),
        thread_name_(thread_name) {
    shared_->store = this;
    shared_->loop = &loop;
    shared_->make = std::move(make);
  }
  ~BlockingStore() override {
    {
      const std::lock_guard lock(shared_->mutex);
      shared_->store = nullptr;
      shared_->loop = nullptr;
      shared_->queue.clear();
    }
    shared_->wake.notify_all();
    for (auto& [id, asked] : std::exchange(asked_, {})) asked->answered(failed("the store was closed"));
  }

  void find(std::vector<Question> questions, uint64_t deadline_ms) override {
    for (Question& question : questions)
      admit(What::find, std::move(question.name), {}, deadline_ms, std::move(question.answered));
  }
  void put(std::string name, std::string destination, uint64_t deadline_ms, Answered answered) override {
    if (!writable_) return answered(failed("the store is read-only"));
    admit(What::put, std::move(name), std::move(destination), deadline_ms, std::move(answered));
  }
  void erase(std::string name, uint64_t deadline_ms, Answered answered) override {
    if (!writable_) return answered(failed("the store is read-only"));
    admit(What::erase, std::move(name), {}, deadline_ms, std::move(answered));
  }
  [[nodiscard]] StoreState state() const override {
    const std::lock_guard lock(shared_->mutex);
    return {up_, shared_->connected, last_error_};
  }

 private:
  struct Asked {
    Asked(BlockingStore& store, uint64_t number, Answered answer)
        : owner(store),
          id(number),
          timer(
              *store.loop_.timers,
              [](void* self) {
                const auto* asked = static_cast<Asked*>(self);
                asked->owner.finish(asked->id, {too_late(), false});
              },
              this),
          answered(std::move(answer)) {}
    BlockingStore& owner;
    const uint64_t id;
    Timer timer;
    Answered answered;
  };

  void admit(What what, std::string name, std::string destination, uint64_t deadline_ms, Answered answered) {
    const uint64_t id = ++last_id_;
    asked_[id] = std::make_unique<Asked>(*this, id, std::move(answered));
    asked_[id]->timer.at(deadline_ms);
    const uint64_t left = deadline_ms - std::min(deadline_ms, loop_.now());
    bool full = false, start = false;
    {
      const std::lock_guard lock(shared_->mutex);
      full = shared_->queue.size() >= most_queued;
      if (!full)
        shared_->queue.push_back({id, what, std::move(name), std::move(destination),
                                  Clock::now() + std::chrono::milliseconds(left)});
      start = !full && shared_->idle < shared_->queue.size() && shared_->threads < most_threads_;
      if (start) ++shared_->threads;
    }
    if (full) return finish(id, {failed("the store does not keep up"), false});
    if (start) start_thread();
    shared_->wake.notify_one();
  }

  void start_thread() {
    std::thread([shared = shared_, name = thread_name_] {
      ::pthread_setname_np(::pthread_self(), name);
      serve(*shared);
    }).detach();
  }

  static void serve(Shared& shared) {
    std::unique_ptr<BlockingClient> client = shared.make();
    bool counted = false;
    std::unique_lock lock(shared.mutex);
    for (;;) {
      ++shared.idle;
      shared.wake.wait(lock, [&shared] { return !shared.store || !shared.queue.empty(); });
      --shared.idle;
      if (!shared.store) break;
      const Job job = std::move(shared.queue.front());
      shared.queue.pop_front();
      const auto left =
          std::chrono::duration_cast<std::chrono::milliseconds>(job.deadline - Clock::now()).count();
      if (left <= 0) continue;  // the loop has said so
      lock.unlock();
      const auto ms = static_cast<uint64_t>(left);
      BlockingClient::Said said = job.what == What::find  ? client->find(job.name, ms)
                                  : job.what == What::put ? client->put(job.name, job.destination, ms)
                                                          : client->erase(job.name, ms);
      lock.lock();
      if (client->connected() != counted) {
        counted = !counted;
        shared.connected = counted ? shared.connected + 1 : shared.connected - 1;
      }
      if (!shared.store) break;
      // The store is told on its loop, and only if it is still there by then.
      shared.loop->post([kept = shared.store->shared_, id = job.id, said = std::move(said)]() mutable {
        BlockingStore* store = nullptr;
        {
          const std::lock_guard now(kept->mutex);
          store = kept->store;
        }
        if (store) store->finish(id, std::move(said));
      });
    }
    if (counted) --shared.connected;
    lock.unlock();
    client.reset();
  }

  void finish(uint64_t id, BlockingClient::Said said) {
    const auto at = asked_.find(id);
    if (at == asked_.end()) return;
    std::unique_ptr<Asked> asked = std::move(at->second);
    asked_.erase(at);
    asked->timer.stop();
    if (!said.about_key) {
      up_ = said.answer.kind == StoreAnswer::Kind::found || said.answer.kind == StoreAnswer::Kind::absent;
      last_error_ = up_ ? std::string() : said.answer.text;
    }
    const Answered answered = std::move(asked->answered);
    asked.reset();
    answered(std::move(said.answer));
  }

  Loop& loop_;
  const size_t most_threads_;
  const bool writable_;
  const char* const thread_name_;
  const std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
  std::unordered_map<uint64_t, std::unique_ptr<Asked>> asked_;
  uint64_t last_id_ = 0;
  bool up_ = false;
  std::string last_error_ = "not asked yet";
};

}  // namespace

std::unique_ptr<Store> make_blocking_store(Loop& loop, size_t threads, bool writable, const char* thread_name,
                                           std::function<std::unique_ptr<BlockingClient>()> make) {
  return std::make_unique<BlockingStore>(loop, threads, writable, thread_name, std::move(make));
}

}  // namespace postern::proxy
