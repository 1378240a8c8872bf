// SPDX-License-Identifier: GPL-3.0-or-later
// The end: stop accepting, let live sessions finish within the grace, cut the rest, leave nothing behind.
#include <unistd.h>

#include <csignal>

#include "proxy/base/log.hpp"
#include "proxy/server/server.hpp"
#include "proxy/system/process.hpp"

namespace postern::proxy {
namespace {

/// Between cutting the last sessions and leaving: long enough for their goodbyes.
constexpr uint64_t goodbye_ms = 1200;

}  // namespace

void Server::drain(int signal) noexcept {
  if (draining_) {  // asked twice: now
    log::warn("second signal; leaving at once", {{"active", live()}});
    log::stop();
    ::_exit(0);
  }
  draining_ = true;
  const auto grace = static_cast<uint64_t>(snapshot_->config.server.shutdown_grace.count());
  log::info("shutdown signal received; draining",
            {{"signal", signal}, {"grace", static_cast<double>(grace) / 1000.0}, {"active", live()}});
  service::stopping(grace);
  for (const auto& worker : workers_) worker->order(Worker::to_drain);
  grace_->in(grace);
}

void Server::worker_idle() noexcept {
  if (finished_) return;
  log::info("all connections drained");
  finish();
}

void Server::cut() noexcept {
  if (cutting_) return finish();
  cutting_ = true;
  log::warn("grace elapsed; forcing shutdown with live connections", {{"active", live()}});
  for (const auto& worker : workers_) worker->order(Worker::to_cut);
  grace_->in(goodbye_ms);
}

void Server::finish() {
  if (finished_) return;
  finished_ = true;
  for (const auto& worker : workers_) worker->order(Worker::to_stop);
  for (const auto& worker : workers_) worker->join();
  store_.reset();
  copy_last_answers();
  // From here on an impatient manager must not turn a clean exit into a death by signal: closing the handles
  // gives the signals back their default.
  sigset_t all;
  sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
  if (probes_) probes_->close();
  watcher_->close();
  for (auto* timer : {&minute_, &sample_, &grace_, &watchdog_, &age_cache_}) (*timer)->stop();
  for (uv_signal_t& signal : signals_) uv_close(reinterpret_cast<uv_handle_t*>(&signal), nullptr);
  loop_->stop();
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) ::signal(number, SIG_IGN);
}

}  // namespace postern::proxy
