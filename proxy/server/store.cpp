// SPDX-License-Identifier: GPL-3.0-or-later
// What the process does for its account store: the loop that asks it, and the copy of known answers on disk.
#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

#include "proxy/base/log.hpp"
#include "proxy/routing/answers_file.hpp"
#include "proxy/server/server.hpp"

namespace postern::proxy {
namespace {

int64_t wall_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

/// How long answers past their life are of use.
std::chrono::milliseconds stale_life(const conf::MappingConf& mapping) {
  const bool keeps = mapping.source != conf::MappingSource::file && mapping.on_error == conf::OnError::stale;
  return keeps ? std::chrono::milliseconds(mapping.stale_ttl) : std::chrono::milliseconds(0);
}

void write_to(const std::string& path, const RouteCache& cache, uint64_t fingerprint, uint64_t now_ms) {
  const auto written = write_answers(path, answers_of(cache, fingerprint, now_ms, wall_ms()));
  if (!written)
    log::error("known answers could not be kept", {{"file", path}, {"error", written.error().text}});
}

}  // namespace

/// One copy on its way to the disk. The pool thread touches only this and the cache, which has locks.
struct Server::Copying {
  uv_work_t work{};
  Server* server = nullptr;
  std::string path;
  std::shared_ptr<const RouteCache> cache;
  uint64_t fingerprint = 0;
  uint64_t now_ms = 0;
};

LookupAnswer ask_store_once(const Snapshot& snapshot, NameService& names, std::string name) {
  Counters counters(1);
  const auto cache = std::make_shared<RouteCache>(snapshot.config.mapping);
  StoreLoop loop(counters, names, cache, nullptr);
  loop.use(snapshot.store, LookupRules::of(snapshot.config, 0));
  const auto timeout = static_cast<uint64_t>(snapshot.config.mapping.lookup_timeout.count());
  return loop.ask_and_wait(std::move(name), timeout);
}

void Server::start_store() {
  if (snapshot_->store) {
    process_state_.cache->keep_stale(stale_life(snapshot_->config.mapping));
    recall_answers();
    use_store(nullptr);
  }
  // Questions go to the store loop, which is there before any configuration that has a store.
  for (size_t i = 0; i < workers_.size(); ++i)
    workers_[i]->connect([this, i](std::vector<LookupDesk::Question> questions) {
      store_loop_.load()->ask(i, std::move(questions));
    });
}

/// What snapshot_ asks is asked from now on; `before` is what was there.
void Server::use_store(const Snapshot* before) {
  const conf::Config& config = snapshot_->config;
  process_state_.cache->keep_stale(stale_life(config.mapping));
  if (!snapshot_->store) {
    if (store_) store_->use(nullptr, {});
    return;
  }
  if (!store_) {
    store_ = std::make_unique<StoreLoop>(
        *counters_, names_, process_state_.cache,
        [this](size_t index, std::vector<LookupDesk::Answer> answers) {
          Worker* worker = workers_[index].get();
          worker->post([worker, answers = std::move(answers)] { worker->answered(answers); });
        });
    store_loop_.store(store_.get());
  }
  LookupRules rules = LookupRules::of(config, snapshot_->routes.era);
  // Its files may have changed although the configuration has not.
  const bool stays =
      before && before->store && before->config.mapping == config.mapping && !snapshot_->store->reads_files;
  if (stays) return store_->use(std::move(rules));
  if (before) store_reached_ = store_seen() || !before->store;  // ready once, it stays so
  store_->use(snapshot_->store, std::move(rules));
}

bool Server::store_seen() const { return store_reached_ || (store_ && store_->facts().reached); }

// --- known answers on disk ----------------------------------------------------------------------------

void Server::recall_answers() {
  const conf::MappingConf& mapping = snapshot_->config.mapping;
  answers_written_ = wall_ms();
  if (mapping.snapshot.empty()) return;
  const auto text = read_answers(mapping.snapshot);
  if (text && text->empty()) return;
  const auto file = text ? parse_answers(*text) : conf::Result<AnswersFile>(tl::unexpected(text.error()));
  if (!file || file->fingerprint != answers_fingerprint(mapping)) {
    log::warn("known answers on disk are not used",
              {{"file", mapping.snapshot},
               {"error", file ? "they are of another store or query" : file.error().text}});
    return;
  }
  const size_t restored =
      restore_answers(*file, snapshot_->config, *process_state_.cache, loop_->now(), wall_ms());
  answers_written_ = std::min(file->written, answers_written_);
  if (restored > 0) store_reached_ = true;
  log::info("known answers read", {{"file", mapping.snapshot}, {"entries", restored}});
}

void Server::copy_answers() {
  const conf::MappingConf& mapping = snapshot_->config.mapping;
  if (!snapshot_->store || mapping.snapshot.empty() || copying_) return;
  copying_ = true;
  auto* job = new Copying;
  job->server = this;
  job->path = mapping.snapshot;
  job->cache = process_state_.cache;
  job->fingerprint = answers_fingerprint(mapping);
  job->now_ms = loop_->now();
  job->work.data = job;
  uv_queue_work(
      loop_->uv(), &job->work,
      [](uv_work_t* work) {
        const auto& self = *static_cast<Copying*>(work->data);
        write_to(self.path, *self.cache, self.fingerprint, self.now_ms);
      },
      [](uv_work_t* work, int) {
        const std::unique_ptr<Copying> self(static_cast<Copying*>(work->data));
        self->server->copying_ = false;
        self->server->answers_written_ = wall_ms();
        if (self->server->finished_) self->server->copy_last_answers();
      });
}

/// At the end nobody is kept waiting by it any more.
void Server::copy_last_answers() {
  const conf::MappingConf& mapping = snapshot_->config.mapping;
  if (!snapshot_->store || mapping.snapshot.empty() || copying_) return;
  write_to(mapping.snapshot, *process_state_.cache, answers_fingerprint(mapping), loop_->now());
}

std::optional<Observed::Store> Server::observe_store() const {
  if (!snapshot_->store || !store_) return std::nullopt;
  const StoreLoop::Facts facts = store_->facts();
  Observed::Store seen;
  seen.name = snapshot_->store->name;
  seen.up = facts.up;
  seen.connections = facts.connections;
  seen.error = facts.error;
  if (!snapshot_->config.mapping.snapshot.empty())
    seen.snapshot_age = static_cast<double>(std::max<int64_t>(wall_ms() - answers_written_, 0)) / 1000.0;
  return seen;
}

}  // namespace postern::proxy
