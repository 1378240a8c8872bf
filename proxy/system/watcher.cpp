// SPDX-License-Identifier: GPL-3.0-or-later
// An event only says that it is worth looking; what counts is what stat() says before and after.
#include "proxy/system/watcher.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include "proxy/base/guard.hpp"
#include "proxy/system/watch_plan.hpp"

namespace postern::proxy {
namespace {

template <class Handle>
uv_handle_t* base(Handle* handle) {
  return reinterpret_cast<uv_handle_t*>(handle);
}

/// What tells one content of a path from another. All zero: there is none.
struct Stamp {
  uint64_t device = 0;
  uint64_t inode = 0;
  int64_t size = 0;
  int64_t modified = 0;
  int64_t changed = 0;
  bool operator==(const Stamp&) const = default;
  [[nodiscard]] bool same_file(const Stamp& other) const {
    return device == other.device && inode == other.inode;
  }
};

Stamp stamp_of(const std::string& path) {
  struct stat s {};
  if (::stat(path.c_str(), &s) != 0) return {};
  const auto ns = [](const timespec& t) { return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec; };
  return {s.st_dev, s.st_ino, s.st_size, ns(s.st_mtim), ns(s.st_ctim)};
}

}  // namespace

struct Watcher::State : std::enable_shared_from_this<State> {
  struct File {
    std::string path;  // absolute
    Stamp stamp;       // as last reported, or as first seen
  };
  /// One uv_fs_event_t; freed in its close callback.
  struct Directory {
    std::shared_ptr<State> state;
    uv_fs_event_t event{};
    std::string name;             // its own, under which libuv reports events of the directory itself
    std::set<std::string> names;  // others do not matter
    Stamp identity;
    bool stale = false;  // moved or deleted: what is at its path now is not what is listened to
  };

  State(uv_loop_t* on, Report to, Timing when) : loop(on), report(std::move(to)), timing(when) {}

  void start();
  void event(Directory& directory, const char* name) noexcept;
  void postpone();
  void look();
  [[nodiscard]] bool anything_differs() const;
  bool listen();
  void add_directory(const std::string& path, const std::set<std::string>& names);
  void drop_directory(Directory* directory);
  void close();

  uv_loop_t* loop;
  Report report;
  Timing timing;
  std::map<std::string, File> files;  // by the name the caller uses
  std::map<std::string, Directory*> directories;
  // The timers keep the state alive until both are closed.
  uv_timer_t settle{};
  uv_timer_t poll{};
  std::shared_ptr<State> settle_owner, poll_owner;
  uint64_t first_event = 0;  // loop time; zero: nothing is waiting to settle
  bool closing = false;
};

void Watcher::State::start() {
  uv_timer_init(loop, &settle);
  uv_timer_init(loop, &poll);
  settle.data = poll.data = this;
  settle_owner = poll_owner = shared_from_this();
  const auto interval = static_cast<uint64_t>(timing.poll.count());
  const auto tick = [](uv_timer_t* timer) {
    auto* self = static_cast<State*>(timer->data);
    best_effort([self] {
      if (self->first_event == 0 && self->anything_differs()) self->postpone();
    });
  };
  uv_timer_start(&poll, tick, interval, interval);
}

void Watcher::State::event(Directory& directory, const char* name) noexcept {
  if (closing) return;
  bool ours = true;  // what there is no memory to find out is looked at
  best_effort([&] { ours = !name || name == directory.name || directory.names.contains(name); });
  if (!ours) return;
  if (!name || name == directory.name) directory.stale = true;
  postpone();
}

/// Waits for silence, but not for ever.
void Watcher::State::postpone() {
  constexpr uint64_t patience = 10;  // times the time to settle
  const auto silence = static_cast<uint64_t>(timing.settle.count());
  const uint64_t now = uv_now(loop);
  if (first_event == 0) first_event = std::max<uint64_t>(now, 1);
  if (uv_is_active(base(&settle)) && now - first_event > patience * silence) return;
  uv_timer_start(
      &settle,
      [](uv_timer_t* timer) {
        auto* self = static_cast<State*>(timer->data);
        // Without memory it looks again, as if something had just happened.
        guarded([self] { self->look(); },
                [self](const char*) {
                  if (!self->closing) self->postpone();
                });
      },
      silence, 0);
}

bool Watcher::State::anything_differs() const {
  return std::ranges::any_of(files, [](const auto& f) { return stamp_of(f.second.path) != f.second.stamp; });
}

void Watcher::State::look() {
  first_event = 0;
  const bool more_to_hear = listen();
  std::vector<std::string> changed;
  std::vector<std::pair<File*, Stamp>> seen;
  for (auto& [name, file] : files) {
    const Stamp now = stamp_of(file.path);
    if (now == file.stamp) continue;
    changed.push_back(name);
    seen.emplace_back(&file, now);
  }
  for (const auto& [file, stamp] : seen) file->stamp = stamp;
  // A directory that is new to us may have changed before we listened; and what was just found may have moved
  // on.
  if (more_to_hear) postpone();
  if (changed.empty()) return;
  const Report tell = report;  // the call may replace the set, or end us
  tell(changed);
}

/// Brings the directories listened to in line with the files. True if one was added.
bool Watcher::State::listen() {
  WatchPlanner planner;
  for (const auto& [name, file] : files) planner.add(file.path);
  bool added = false;
  for (auto it = directories.begin(); it != directories.end();) {
    const auto wanted = planner.plan().find(it->first);
    const bool keep = wanted != planner.plan().end() && !it->second->stale &&
                      it->second->identity.same_file(stamp_of(it->first));
    if (keep) {
      it->second->names = wanted->second;
      ++it;
    } else {
      drop_directory(it->second);
      it = directories.erase(it);
    }
  }
  for (const auto& [path, names] : planner.plan()) {
    if (directories.contains(path)) continue;
    add_directory(path, names);
    added = true;
  }
  return added;
}

void Watcher::State::add_directory(const std::string& path, const std::set<std::string>& names) {
  std::unique_ptr<Directory> made(
      new Directory{shared_from_this(), {}, path.substr(path.rfind('/') + 1), names, stamp_of(path)});
  directories.emplace(path, made.get());
  Directory* const directory = made.release();
  uv_fs_event_init(loop, &directory->event);
  directory->event.data = directory;
  const auto heard = [](uv_fs_event_t* event, const char* name, int, int) {
    auto* self = static_cast<Directory*>(event->data);
    self->state->event(*self, name);
  };
  // A failure (no inotify watches left, an odd file system) leaves it to the poll.
  (void)uv_fs_event_start(&directory->event, heard, path.c_str(), 0);
}

void Watcher::State::drop_directory(Directory* directory) {
  uv_close(base(&directory->event), [](uv_handle_t* h) { delete static_cast<Directory*>(h->data); });
}

void Watcher::State::close() {
  if (std::exchange(closing, true)) return;
  files.clear();
  for (const auto& [path, directory] : std::exchange(directories, {})) drop_directory(directory);
  uv_close(base(&settle),
           [](uv_handle_t* h) { const auto last = std::move(static_cast<State*>(h->data)->settle_owner); });
  uv_close(base(&poll),
           [](uv_handle_t* h) { const auto last = std::move(static_cast<State*>(h->data)->poll_owner); });
}

Watcher::Watcher(uv_loop_t* loop, Report report, Timing timing)
    : state_(std::make_shared<State>(loop, std::move(report), timing)) {
  state_->start();
}

Watcher::~Watcher() { close(); }

void Watcher::watch(const std::vector<std::string>& files) {
  if (state_->closing) return;
  std::map<std::string, State::File>
      before;  // at first what is to be watched: it is all there, or nothing changes
  for (const std::string& name : files) {
    std::error_code error;
    const std::string path = std::filesystem::absolute(name, error).string();
    before.insert_or_assign(name, State::File{error ? name : path, Stamp()});
  }
  state_->files.swap(before);
  // Listening before measuring: what changes in between is heard.
  if (!best_effort([this] { state_->listen(); })) state_->postpone();
  for (auto& [name, file] : state_->files) {
    const auto old = before.find(name);
    file.stamp = old != before.end() ? old->second.stamp : stamp_of(file.path);
  }
  if (state_->anything_differs()) state_->postpone();
}

void Watcher::close() { state_->close(); }

}  // namespace postern::proxy
