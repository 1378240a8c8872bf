// SPDX-License-Identifier: GPL-3.0-or-later
// A new snapshot beside the running one: built off the loop, swapped whole, or not at all.
#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <ctime>
#include <filesystem>
#include <utility>

#include "proxy/base/log.hpp"
#include "proxy/server/server.hpp"
#include "proxy/system/process.hpp"

namespace postern::proxy {
namespace {

/// Whether a file is published as Kubernetes publishes volumes: its name is a link through `..data`, which is
/// swapped as a whole. Such a file is never half edited, so its change alone is worth a reload.
bool published(const std::string& file) {
  std::error_code error;
  const auto target = std::filesystem::read_symlink(file, error);
  return !error && !target.empty() && *target.begin() == "..data";
}

/// What the configuration before was made of was small pieces among others; the allocator gives them back to
/// the system only when told to. That looks at all of its memory, so it is done beside the loop.
void return_memory(uv_loop_t* loop) {
  auto* work = new uv_work_t;
  uv_queue_work(
      loop, work, [](uv_work_t*) { ::malloc_trim(0); }, [](uv_work_t* done, int) { delete done; });
}

}  // namespace

/// One reload on its way through libuv's pool. The pool thread touches only this.
struct Server::Reload {
  uv_work_t work{};
  Server* server = nullptr;
  Scope scope = Scope::everything;
  std::shared_ptr<const Snapshot> previous;
  conf::Problems problems;
  std::vector<std::string> restart;
  std::shared_ptr<Snapshot> made;
};

void Server::reload(Scope scope) {
  if (draining_) return;
  if (reloading_) {  // one at a time; a full one covers the other
    if (reload_again_ != Scope::everything) reload_again_ = scope;
    return;
  }
  reloading_ = true;
  if (scope == Scope::everything) service::reloading();
  auto* job = new Reload;
  job->server = this;
  job->scope = scope;
  job->previous = snapshot_;
  job->work.data = job;
  uv_queue_work(
      loop_->uv(), &job->work,
      [](uv_work_t* work) {
        auto& self = *static_cast<Reload*>(work->data);
        if (self.scope == Scope::everything) {
          conf::Loaded loaded = conf::load(self.server->file_, conf::Environment::of_process());
          self.problems = std::move(loaded.problems);
          if (self.problems.ok())
            self.made = make_snapshot(std::move(loaded.config), self.server->process_state_,
                                      self.previous.get(), Rotation::strict, self.problems, self.restart);
        } else {
          // Only what the watched files hold is new: the file itself may be half edited.
          self.problems = conf::Problems(self.server->file_);
          self.made = make_snapshot(self.previous->config, self.server->process_state_, self.previous.get(),
                                    Rotation::keep_last_good, self.problems, self.restart);
        }
      },
      [](uv_work_t* work, int) {
        const std::unique_ptr<Reload> self(static_cast<Reload*>(work->data));
        self->server->reloaded(*self);
      });
}

void Server::reloaded(Reload& done) {
  const bool full = done.scope == Scope::everything;
  // What it names may only be on its way, in a volume of its own.
  if (full) config_refused_ = !done.made && published(file_);
  for (const conf::Problem& problem : done.problems.all())
    log::write(problem.warning ? LogLevel::warn : LogLevel::error, "configuration",
               {{"problem", problem.line()}});
  if (!done.made) {
    counters_->reloads_failed.fetch_add(1);
    log::error("reload failed, nothing changed",
               {{"config", file_}, {"scope", full ? "everything" : "files"}});
  } else if (!draining_) {
    return swap_in(std::move(done.made), full, std::move(done.restart));
  }
  reload_over(full);
}

/// Every worker takes the new snapshot; when the last one has, the reload is done and is said to be.
void Server::swap_in(std::shared_ptr<Snapshot> made, bool full, std::vector<std::string> restart) {
  publish(*made, process_state_);
  ticket_file_bad_ = false;  // if it is bad, the snapshot says so
  const auto before = std::exchange(snapshot_, std::shared_ptr<const Snapshot>(std::move(made)));
  snapshot_->routes.cache->begin(snapshot_->routes.era);
  if (!same_answers(before->config, snapshot_->config)) snapshot_->routes.cache->clear();
  const conf::ServerConf& server = snapshot_->config.server;
  log::configure(server.log_level, server.log_format);
  process_state_.preauth->limit(server.preauth_memory.bytes);
  if (!restart.empty() && full)
    log::warn("changes that need a restart are not applied",
              {{"keys", fmt::format("{}", fmt::join(restart, "; "))}});
  if (!snapshot_->stale.empty()) {
    std::vector<std::string> items;
    for (const Stale& stale : snapshot_->stale) items.push_back(text(stale));
    log::error("bad files, what they last held stays in use",
               {{"items", fmt::format("{}", fmt::join(items, ", "))}});
  }
  watch_files();
  if (snapshot_->store) use_store(before.get());  // it is there before anybody asks it

  const auto left = std::make_shared<std::atomic<size_t>>(workers_.size());
  for (const auto& worker : workers_)
    worker->post([this, full, left, w = worker.get(), snapshot = snapshot_] {
      w->adopt(snapshot);
      if (left->fetch_sub(1) != 1) return;
      loop_->post([this, full] {
        counters_->reloads_ok.fetch_add(1);
        return_memory(loop_->uv());
        log::info("reloaded", {{"config", file_}, {"scope", full ? "everything" : "files"}});
        reload_over(full);
      });
    });
  if (!snapshot_->store) use_store(before.get());  // and goes when the others know
}

void Server::reload_over(bool full) {
  reloading_ = false;
  if (full && !draining_) service::ready();
  if (const auto again = std::exchange(reload_again_, std::nullopt)) reload(*again);
}

void Server::files_changed(const std::vector<std::string>& changed) {
  for (const std::string& file : changed) log::info("file changed", {{"file", file}});
  const bool config = config_refused_ || std::ranges::find(changed, file_) != changed.end();
  reload(config ? Scope::everything : Scope::watched_files);
}

/// Everything whose change is picked up without being told: certificates, keys, mappings, ticket keys, and a
/// configuration that is published, not edited.
void Server::watch_files() {
  const conf::Config& config = snapshot_->config;
  std::vector<std::string> files = snapshot_->certificates->files();
  for (const conf::DestinationConf& destination : config.destinations) {
    if (auto path = tls::pem_path(destination.tls_client_cert)) files.push_back(*path);
    if (auto path = tls::pem_path(destination.tls_client_key.reveal())) files.push_back(*path);
  }
  if (const auto& redis = config.mapping.redis;
      redis && config.mapping.source == conf::MappingSource::redis) {
    files.push_back(redis->tls_ca);
    if (auto path = tls::pem_path(redis->tls_client_cert)) files.push_back(*path);
    if (auto path = tls::pem_path(redis->tls_client_key.reveal())) files.push_back(*path);
  }
  if (config.mapping.source == conf::MappingSource::file) files.push_back(config.mapping.file_path);
  if (!config.tickets.file.empty()) files.push_back(config.tickets.file);
  if (published(file_)) files.push_back(file_);
  std::erase_if(files, [](const std::string& file) { return file.empty(); });
  watcher_->watch(files);
}

/// What has expired is trusted no longer than until this next looks: the roots are loaded anew without it,
/// and with them goes what backends have shown.
void Server::drop_expired_trust() {
  if (reloading_ || !snapshot_->trust || !snapshot_->trust->outlived(std::time(nullptr))) return;
  const bool nothing_to_load = std::ranges::any_of(
      snapshot_->stale, [](const Stale& stale) { return stale.item == Stale::Item::roots; });
  if (nothing_to_load) return;
  log::info("a certificate that backends were verified by has expired");
  reload(Scope::watched_files);
}

void Server::each_minute() {
  minute_->in(minute_ms);
  const auto now = std::chrono::system_clock::now();
  // A reload that is on its way has read the file as well, and is about to publish what it found.
  if (!reloading_) {
    auto changed = process_state_.tickets->refresh(now);
    ticket_file_bad_ = !changed;
    if (!changed)
      log::error("ticket keys", {{"error", changed.error().text}});
    else if (*changed)
      log::info("ticket keys rotated", {{"warning", process_state_.tickets->warning()}});
  }
  for (const auto& certificate : snapshot_->certificates->all())
    if (certificate->not_after < std::chrono::system_clock::to_time_t(now))
      log::warn("certificate has expired", {{"certificate", certificate->id}});
  copy_answers();
  uint64_t hits = 0, misses = 0;
  for (const WorkerCells& cells : counters_->workers) {
    hits += cells.cache_hits.get();
    misses += cells.cache_misses.get();
  }
  const double rate =
      hits + misses == 0 ? 0.0 : 100.0 * static_cast<double>(hits) / static_cast<double>(hits + misses);
  log::info("metrics", {{"cache_hits", hits},
                        {"cache_misses", misses},
                        {"hit_rate_pct", rate},
                        {"active_connections", live()}});
}

}  // namespace postern::proxy
