// SPDX-License-Identifier: GPL-3.0-or-later
// The writer: records join one string under a short lock, a thread swaps it out and writes it. A reader
// that stalls costs records, never a loop, and never the end of the process.
#include "proxy/base/log.hpp"

#include <poll.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <condition_variable>
#include <csignal>
#include <memory>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <utility>

#include "proxy/base/journal.hpp"

namespace postern::proxy::log {
namespace {

using Clock = std::chrono::steady_clock;
constexpr size_t queue_max = size_t{4} << 20;
constexpr std::chrono::milliseconds stop_limit{2000};
constexpr std::chrono::milliseconds direct_limit{200};
constexpr std::chrono::milliseconds poll_slice{50};
constexpr size_t kept_capacity = size_t{64} << 10;  // a burst's memory goes back

/// A thread and what it writes to. Invariant: once `abandoned`, the thread touches nothing but itself.
struct Writer {
  explicit Writer(int to) : fd(to) {}
  const int fd;
  std::atomic<bool> abandoned{false};
  bool idle = false;      // waiting for records
  bool stopping = false;  // drain the queue, then end
  bool ended = false;
  std::thread thread;
};

/// Never destroyed: threads may log until the very end of the process.
struct State {
  std::mutex mutex;
  std::condition_variable wake;      // for the writer: records or stop
  std::condition_variable finished;  // for stop(): the writer ended
  std::string queue;
  uint64_t unreported = 0;  // lost since the last record that said so
  std::shared_ptr<Writer> writer;
  int fd = STDOUT_FILENO;
  std::mutex direct;  // one record at a time without a writer

  std::atomic<LogLevel> level{LogLevel::info};
  std::atomic<conf::LogFormat> format{conf::LogFormat::logfmt};
  std::atomic<uint64_t> dropped{0};
  std::atomic<bool> journal{false};
};

State& state() {
  static State* const s = new State;
  return *s;
}

/// How much of `text` to offer at once: a pipe takes up to PIPE_BUF whole once it is writable, so no call
/// blocks and no other writer's line lands inside one of ours.
size_t portion(std::string_view text, bool file) {
  if (file || text.size() <= PIPE_BUF) return text.size();
  const size_t line_end = text.rfind('\n', PIPE_BUF - 1);
  return line_end == std::string_view::npos ? size_t{PIPE_BUF} : line_end + 1;
}

/// Writes until done, a hard error, or until `give_up` says so. Returns what was not written.
template <class GiveUp>
std::string_view write_out(int fd, std::string_view text, GiveUp give_up) {
  struct stat status {};
  const bool file = ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
  while (!text.empty()) {
    if (!file) {
      pollfd ready{fd, POLLOUT, 0};
      if (::poll(&ready, 1, static_cast<int>(poll_slice.count())) == 0) {
        if (give_up()) break;
        continue;
      }
    }
    const ssize_t n = ::write(fd, text.data(), portion(text, file));
    if (n > 0) {
      text.remove_prefix(static_cast<size_t>(n));
    } else if (n < 0 && errno != EINTR && errno != EAGAIN) {
      break;  // EPIPE, EIO, ENOSPC, ...: these records are lost; the next may fare better
    } else {
      if (give_up()) break;
      if (n < 0 && errno == EAGAIN) ::poll(nullptr, 0, 5);  // poll() was wrong: no spinning
    }
  }
  return text;
}

uint64_t records(std::string_view text) { return static_cast<uint64_t>(std::ranges::count(text, '\n')); }

/// What the journal takes for the priority, and takes away (sd-daemon(3)).
std::string_view journal_prefix(LogLevel level) {
  switch (level) {
    case LogLevel::error:
      return "<3>";
    case LogLevel::warn:
      return "<4>";
    case LogLevel::info:
      return "<6>";
    default:
      return "<7>";
  }
}

std::string format_now(LogLevel level, std::string_view message, std::span<const Field> fields) {
  const State& s = state();
  std::string record = format_record(s.format.load(std::memory_order_relaxed),
                                     std::chrono::system_clock::now(), level, message, fields);
  if (s.journal.load(std::memory_order_relaxed)) record.insert(0, journal_prefix(level));
  return record;
}

/// Behind the records that were kept, where the lost ones would have stood.
void report_lost(std::string& batch, uint64_t lost) {
  const Field count("count", lost);
  batch += format_now(LogLevel::warn, "log records dropped", {&count, 1});
}

void run(const std::shared_ptr<Writer>& self) {
  State& s = state();
  std::string batch;
  std::unique_lock lock(s.mutex);
  while (!self->abandoned) {
    if (s.queue.empty() && s.unreported == 0) {
      if (self->stopping) break;
      self->idle = true;
      s.wake.wait(lock);
      self->idle = false;
      continue;
    }
    batch.clear();
    if (batch.capacity() > kept_capacity) batch = {};
    batch.swap(s.queue);
    uint64_t lost = std::exchange(s.unreported, 0);
    lock.unlock();
    if (lost != 0) {
      try {
        report_lost(batch, lost);
      } catch (const std::bad_alloc&) {  // told next time
        const std::lock_guard again(s.mutex);
        s.unreported += std::exchange(lost, 0);
      }
    }
    const std::string_view rest = write_out(self->fd, batch, [&self] { return self->abandoned.load(); });
    lock.lock();
    if (rest.empty()) continue;
    // The report stands last and is among them, but counts for those it reports.
    const uint64_t failed = records(rest) - (lost != 0 ? 1 : 0);
    s.dropped += failed;
    if (self->abandoned) break;
    s.unreported += failed + lost;
    if (self->stopping) break;
    // Nobody takes them: try again when there is something new to say, not at once.
    self->idle = true;
    s.wake.wait(lock);
    self->idle = false;
  }
  self->ended = true;
  s.finished.notify_all();
}

void write_direct(int fd, std::string_view record) {
  const std::lock_guard lock(state().direct);
  const auto end = Clock::now() + direct_limit;
  if (!write_out(fd, record, [end] { return Clock::now() >= end; }).empty()) ++state().dropped;
}

void put(State& s, const std::string& record) {
  std::unique_lock lock(s.mutex);
  if (!s.writer) {
    const int fd = s.fd;
    lock.unlock();
    write_direct(fd, record);
    return;
  }
  if (s.queue.size() + record.size() > queue_max) {
    ++s.dropped;
    ++s.unreported;
    return;
  }
  s.queue += record;
  const bool wake = s.writer->idle;
  lock.unlock();
  if (wake) s.wake.notify_one();
}

}  // namespace

void start(LogLevel level, conf::LogFormat format, int fd) {
  stop();
  configure(level, format);
  State& s = state();
  s.journal = is_journal(fd);
  auto writer = std::make_shared<Writer>(fd);
  // Signals are for the main thread, and a broken pipe is an error of write() alone.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    writer->thread = std::thread([writer] { run(writer); });
  } catch (const std::system_error&) {
    writer.reset();  // no thread to be had: records go out directly
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  const std::lock_guard lock(s.mutex);
  s.fd = fd;
  s.writer = std::move(writer);
}

void configure(LogLevel level, conf::LogFormat format) {
  state().level.store(level, std::memory_order_relaxed);
  state().format.store(format, std::memory_order_relaxed);
}

void stop() {
  State& s = state();
  std::unique_lock lock(s.mutex);
  const std::shared_ptr<Writer> writer = std::exchange(s.writer, nullptr);
  if (!writer) return;
  writer->stopping = true;
  s.wake.notify_all();
  const auto ended = [&writer] { return writer->ended; };
  if (!s.finished.wait_for(lock, stop_limit, ended)) {
    writer->abandoned = true;
    s.dropped += records(s.queue);
    s.queue.clear();
    // A write that blocks all the same (a stopped terminal) keeps the thread: it is left behind.
    if (!s.finished.wait_for(lock, 4 * poll_slice, ended)) {
      writer->thread.detach();
      return;
    }
  }
  lock.unlock();
  writer->thread.join();
}

bool enabled(LogLevel level) {
  return level != LogLevel::off && level <= state().level.load(std::memory_order_relaxed);
}

void write(LogLevel level, std::string_view message, std::span<const Field> fields) {
  if (!enabled(level)) return;
  State& s = state();
  try {
    put(s, format_now(level, message, fields));
  } catch (const std::bad_alloc&) {  // a record must not be what ends whoever wanted to leave one
    const std::lock_guard lock(s.mutex);
    ++s.dropped;
    ++s.unreported;
  }
}

uint64_t dropped() { return state().dropped.load(std::memory_order_relaxed); }

}  // namespace postern::proxy::log
