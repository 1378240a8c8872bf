// SPDX-License-Identifier: GPL-3.0-or-later
// A thread begins with a lookup, takes what else is queued, and ends; between lookups there is none.
#include "proxy/loop/name_service.hpp"

#include <netdb.h>
#include <pthread.h>
#include <uv.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

namespace postern::proxy {
namespace {

constexpr size_t stack_size = 1024 * 1024;  // of a thread: modules of name services are other people's code
constexpr uint64_t tell_every_ms = 60'000;
constexpr uint64_t day_ms = 86'400'000;  // a name nobody has asked for in this time may be forgotten

uint64_t now_ms() { return uv_hrtime() / 1'000'000; }

}  // namespace

struct NameService::State {
  struct Entry {
    NameRecord record;
    std::vector<Asker*> askers;  // wait for the lookup under way
    uint64_t told_at = 0;  // when people were told of last good addresses; 0: not, or they are fresh again
    bool slow = true;      // the last lookup brought no answer, or there was none yet
  };
  using Entries = std::map<std::string, Entry, std::less<>>;

  State(Lookup function, size_t limit, NameTimes limits)
      : lookup(std::move(function)), most(limit), times(limits) {}

  /// The next that may be looked up, taken from the queue; end: none may.
  Entries::iterator next() {
    const auto found = std::ranges::find_if(queue, [this](const std::string& name) {
      return !entries.at(name).slow || slow_running < std::max<size_t>(most / 2, 1);
    });
    if (found == queue.end()) return entries.end();
    const auto entry = entries.find(*found);
    queue.erase(found);
    return entry;
  }

  /// Body of a thread.
  void work() {
    std::unique_lock lock(mutex);
    for (auto at = next(); at != entries.end(); at = next()) {
      const std::string& name = at->first;  // an entry that is looked up is not forgotten
      const bool slow = at->second.slow;
      slow_running += slow;
      lock.unlock();
      NameAnswer answer;
      try {
        answer = lookup(name);
      } catch (const std::exception&) {
        answer = {NameResult::silent, nullptr, "out of memory"};
      }
      lock.lock();
      slow_running -= slow;
      finish(name, std::move(answer));
    }
    --threads;
  }

  void finish(const std::string& name, NameAnswer answer) noexcept {
    ++counts.lookups[static_cast<size_t>(answer.result)];
    Entry& entry = entries.at(name);
    entry.slow = answer.result == NameResult::silent;
    entry.record.learn(std::move(answer), now_ms());
    for (Asker* asker : std::exchange(entry.askers, {})) asker->learned(name);
  }

  /// A thread for what is queued, unless there are enough. False: nobody will look it up.
  bool attend(const std::shared_ptr<State>& self) noexcept {
    if (threads >= most) return true;
    std::unique_ptr<std::shared_ptr<State>> mine(new (std::nothrow) std::shared_ptr<State>(self));
    if (!mine) return threads != 0;
    pthread_attr_t attributes;
    if (::pthread_attr_init(&attributes) != 0) return threads != 0;
    ::pthread_attr_setstacksize(&attributes, stack_size);
    ::pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    // Signals are the main loop's; a new thread has the mask of the one that makes it.
    sigset_t all, before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    const int error = ::pthread_create(
        &thread, &attributes,
        [](void* argument) -> void* {
          ::pthread_setname_np(::pthread_self(), "names");
          const std::unique_ptr<std::shared_ptr<State>> state(static_cast<std::shared_ptr<State>*>(argument));
          (*state)->work();
          return nullptr;
        },
        mine.get());
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    ::pthread_attr_destroy(&attributes);
    if (error != 0) return threads != 0;
    static_cast<void>(mine.release());
    ++threads;
    return true;
  }

  /// Names of configurations that are gone; looked for only when there are twice as many as last time.
  void sweep(uint64_t now) {
    if (entries.size() < sweep_at) return;
    std::erase_if(entries, [now](const auto& e) { return e.second.record.forgettable(now, day_ms); });
    sweep_at = std::max<size_t>(2 * entries.size(), 256);
  }

  const Lookup lookup;
  const size_t most;
  const NameTimes times;
  std::mutex mutex;  // of all below
  Entries entries;
  std::deque<std::string> queue;  // looked for, no thread yet; each has an entry whose record is looking
  size_t threads = 0, slow_running = 0;
  size_t sweep_at = 256;
  NameCounts counts;
};

NameService::NameService(Lookup lookup, size_t threads, NameTimes times)
    : state_(std::make_shared<State>(std::move(lookup), threads, times)) {}

NameService::~NameService() {
  const std::lock_guard lock(state_->mutex);
  state_->queue.clear();  // threads end with what they are at
}

NameService::Reply NameService::ask(const std::string& name, uint64_t stale, bool retry, Asker& asker) {
  State& state = *state_;
  const std::lock_guard lock(state.mutex);
  const uint64_t now = now_ms();
  auto at = state.entries.find(name);
  if (at == state.entries.end()) {
    state.sweep(now);
    at = state.entries.try_emplace(name).first;
  }
  State::Entry& entry = at->second;
  NameRecord::Advice advice = entry.record.ask(now, stale, retry, state.times);
  if (advice.look_up) {
    state.queue.push_back(name);
    entry.record.begin(now);
    if (!state.attend(state_)) {
      state.queue.pop_back();
      state.finish(name, {NameResult::silent, nullptr, "no thread"});
      advice = entry.record.ask(now, stale, retry, state.times);
    }
  }
  Reply reply;
  reply.what = advice.what;
  reply.patience = advice.patience;
  switch (advice.what) {
    case NameRecord::What::use:
      reply.addresses = entry.record.addresses();
      reply.tell = std::exchange(entry.told_at, 0) != 0;
      break;
    case NameRecord::What::use_last:
      reply.addresses = entry.record.addresses();
      reply.age = entry.record.age(now);
      reply.why = entry.record.last();
      reply.error = entry.record.looking() ? "no answer yet" : entry.record.error();
      ++state.counts.last_good_uses;
      reply.tell = entry.told_at == 0 || now - entry.told_at >= tell_every_ms;
      if (reply.tell) entry.told_at = now;
      break;
    case NameRecord::What::wait:
      if (std::ranges::find(entry.askers, &asker) == entry.askers.end()) entry.askers.push_back(&asker);
      break;
    case NameRecord::What::give_up:
      reply.why = entry.record.last();
      reply.error = entry.record.error();
      break;
  }
  return reply;
}

void NameService::forget(Asker& asker) {
  const std::lock_guard lock(state_->mutex);
  for (auto& [name, entry] : state_->entries) std::erase(entry.askers, &asker);
}

NameCounts NameService::counts() const {
  const std::lock_guard lock(state_->mutex);
  NameCounts counts = state_->counts;
  counts.in_flight = state_->threads + state_->queue.size();
  return counts;
}

size_t NameService::in_flight() const { return counts().in_flight; }

NameAnswer NameService::system_lookup(const std::string& name) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  errno = 0;
  const int status = ::getaddrinfo(name.c_str(), nullptr, &hints, &list);
  const int error = errno;
  if (status != 0) {
    // glibc also says that there is no such name when it is out of descriptors or memory, or cannot read the
    // answer; errno tells.
    const bool unable = error == EMFILE || error == ENFILE || error == ENOMEM || error == EMSGSIZE;
    const bool absent = status == EAI_NONAME || status == EAI_NODATA || status == EAI_ADDRFAMILY;
    if (absent && !unable) return {NameResult::absent, nullptr, ::gai_strerror(status)};
    return {NameResult::silent, nullptr, unable ? std::strerror(error) : ::gai_strerror(status)};
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owned(list, ::freeaddrinfo);
  std::vector<conf::Ip> addresses;
  for (const addrinfo* at = list; at && addresses.size() < most_addresses; at = at->ai_next) {
    if (at->ai_family != AF_INET && at->ai_family != AF_INET6) continue;
    const conf::Ip ip = conf::SocketAddress::from(at->ai_addr).ip;
    if (std::ranges::find(addresses, ip) == addresses.end()) addresses.push_back(ip);
  }
  if (addresses.empty()) return {NameResult::absent, nullptr, "no address"};
  return {NameResult::found, std::make_shared<const std::vector<conf::Ip>>(std::move(addresses)), {}};
}

}  // namespace postern::proxy
