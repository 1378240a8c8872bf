// SPDX-License-Identifier: GPL-3.0-or-later
// Keys made, read from a file, rotated and forgotten. Sealing tickets with them is ticket_seal.cpp's.
#include "tls/tickets.hpp"

#include <sys/random.h>

#include <algorithm>
#include <atomic>
#include <optional>

#include "conf/files.hpp"
#include "conf/text.hpp"
#include "tls/files.hpp"
#include "tls/key_ring.hpp"
#include "tls/pem.hpp"

namespace postern::tls {
namespace {

using Clock = std::chrono::system_clock;

struct Ring {
  size_t count = 0;
  std::array<TicketKey, TicketKeys::max_keys> keys;
};

void wipe_key(TicketKey& key) { conf::wipe(key.key.data(), key.key.size()); }
void wipe_all(std::vector<TicketKey>& keys) {
  std::for_each(keys.begin(), keys.end(), wipe_key);
  keys.clear();
}

bool same(const TicketKey& a, const TicketKey& b) { return a.name == b.name && a.key == b.key; }

bool fill_random(void* to, size_t size) {
  auto* at = static_cast<uint8_t*>(to);
  while (size > 0) {
    const ssize_t n = ::getrandom(at, size, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    at += n;
    size -= static_cast<size_t>(n);
  }
  return true;
}

std::optional<TicketKey> new_key(Clock::time_point now) {
  TicketKey key;
  key.since = now;
  if (!fill_random(key.name.data(), key.name.size()) || !fill_random(key.key.data(), key.key.size()))
    return std::nullopt;
  return key;
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

constexpr size_t key_bytes = 48;

/// 48 bytes from one line, or nothing.
std::vector<uint8_t> line_bytes(std::string_view line) {
  std::vector<uint8_t> bytes;
  if (line.size() == 2 * key_bytes) {
    bytes.reserve(key_bytes);
    for (size_t i = 0; i < line.size(); i += 2) {
      const int high = hex_value(line[i]), low = hex_value(line[i + 1]);
      if (high < 0 || low < 0) return {};
      bytes.push_back(static_cast<uint8_t>(high << 4 | low));
    }
  } else if (line.size() == key_bytes / 3 * 4) {
    if (auto decoded = pem_bytes({.label = {}, .text = {}, .body = line}); decoded)
      bytes = std::move(*decoded);
  }
  if (bytes.size() != key_bytes) bytes.clear();
  return bytes;
}

}  // namespace

conf::Result<std::vector<TicketKey>> parse_ticket_keys(std::string_view text) {
  std::vector<TicketKey> keys;
  keys.reserve(TicketKeys::max_keys + 1);  // a vector that grows leaves copies behind that nobody wipes
  const auto bad = [&keys](size_t line, std::string_view what) {
    wipe_all(keys);
    return conf::error("line " + std::to_string(line) + ": " + std::string(what));
  };
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = conf::trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line.front() == '#') continue;
    auto bytes = line_bytes(line);
    if (bytes.empty()) return bad(number, "not a key of 48 bytes in hexadecimal or base64");
    TicketKey& key = keys.emplace_back();
    std::copy_n(bytes.begin(), key.name.size(), key.name.begin());
    std::copy_n(bytes.begin() + 16, key.key.size(), key.key.begin());
    conf::wipe(bytes.data(), bytes.size());
    if (keys.size() > TicketKeys::max_keys) return bad(number, "more than 64 keys");
    const auto twin = [&key](const TicketKey& other) { return &other != &key && other.name == key.name; };
    if (std::any_of(keys.begin(), keys.end(), twin)) return bad(number, "two keys of one name");
  }
  if (keys.empty()) return conf::error("no key in it");
  return keys;
}

conf::Result<TicketPlan> TicketPlan::make(const conf::TicketConf& conf) {
  TicketPlan plan;
  plan.conf = conf;
  if (!conf.enable) return plan;
  if (conf.file.empty()) {
    auto key = new_key(Clock::now());
    if (!key) return conf::error("the system gives no random numbers");
    plan.keys.push_back(*key);
    wipe_key(*key);
    return plan;
  }
  auto text = read_small_file(conf.file);
  if (!text) return conf::error(text.error().text);
  auto keys = parse_ticket_keys(*text);
  conf::wipe(*text);
  if (!keys) return conf::error(conf::quoted(conf.file) + ": " + keys.error().text);
  plan.keys = std::move(*keys);
  plan.warning = conf::exposure(conf.file);
  if (!plan.warning.empty()) plan.warning = conf::quoted(conf.file) + " " + plan.warning;
  return plan;
}

TicketPlan& TicketPlan::operator=(TicketPlan&& other) noexcept {
  std::swap(conf, other.conf);
  keys.swap(other.keys);  // what was here is wiped with the other
  warning.swap(other.warning);
  return *this;
}

TicketPlan::~TicketPlan() { wipe_all(keys); }

struct TicketKeys::Impl {
  LeftRight<Ring> ring;
  std::atomic<int64_t> making_since{0};  // seconds since the epoch
  // The writer's own view.
  conf::TicketConf conf{.enable = false, .file = {}};
  std::vector<TicketKey> keys;
  std::string warning;

  Impl() { keys.reserve(max_keys + 1); }
  ~Impl() {
    wipe_all(keys);
    publish();
  }
  void publish() {
    ring.write([this](Ring& to) {
      for (size_t i = 0; i < to.keys.size(); ++i) {
        wipe_key(to.keys[i]);
        if (i < keys.size()) to.keys[i] = keys[i];
      }
      to.count = keys.size();
    });
    making_since =
        keys.empty()
            ? 0
            : std::chrono::duration_cast<std::chrono::seconds>(keys.front().since.time_since_epoch()).count();
  }
  bool take_file(std::vector<TicketKey>& fresh, Clock::time_point now);
  bool due(Clock::time_point now);
  void rotate(const TicketKey& fresh, Clock::time_point now);
  bool forget(Clock::time_point now);
};

/// The file's keys instead of those that are there. True if they differ; `fresh` is left with nothing.
bool TicketKeys::Impl::take_file(std::vector<TicketKey>& fresh, Clock::time_point now) {
  for (TicketKey& key : fresh) {
    const auto known =
        std::find_if(keys.begin(), keys.end(), [&key](const auto& old) { return same(old, key); });
    key.since = known == keys.end() ? now : known->since;
  }
  // A key that moves to the front begins to make tickets now.
  if (keys.empty() || !same(keys.front(), fresh.front())) fresh.front().since = now;
  const bool changed = !std::equal(fresh.begin(), fresh.end(), keys.begin(), keys.end(), same);
  if (changed) keys.swap(fresh);
  wipe_all(fresh);
  return changed;
}

/// Whether a new key of our own is due.
bool TicketKeys::Impl::due(Clock::time_point now) {
  if (!keys.empty() && keys.front().since > now) keys.front().since = now;  // the clock was set back
  return keys.empty() || now - keys.front().since >= conf.rotate;
}

void TicketKeys::Impl::rotate(const TicketKey& fresh, Clock::time_point now) {
  keys.insert(keys.begin(), fresh)->since = now;
}

/// Own keys that no ticket needs any more: a key's last ticket was made when its successor came.
bool TicketKeys::Impl::forget(Clock::time_point now) {
  size_t kept = 1;
  while (kept < keys.size() && kept < max_keys && keys[kept - 1].since + conf.lifetime > now) ++kept;
  const bool outlived = kept < keys.size();
  for (; keys.size() > kept; keys.pop_back()) wipe_key(keys.back());
  return outlived;
}

TicketKeys::TicketKeys() : impl_(std::make_unique<Impl>()) {}
TicketKeys::~TicketKeys() = default;

void TicketKeys::adopt(TicketPlan plan, Clock::time_point now) noexcept {
  Impl& my = *impl_;
  const bool had_file = my.conf.enable && !my.conf.file.empty();
  std::swap(my.conf, plan.conf);
  my.warning.swap(plan.warning);
  if (!my.conf.enable) {
    wipe_all(my.keys);
  } else if (!my.conf.file.empty()) {
    (void)my.take_file(plan.keys, now);
  } else {
    if (had_file) wipe_all(my.keys);
    if (my.due(now)) my.rotate(plan.keys.front(), now);
    (void)my.forget(now);
  }
  my.publish();
}

conf::Result<bool> TicketKeys::refresh(Clock::time_point now) {
  Impl& my = *impl_;
  if (!my.conf.enable) return false;
  bool changed = false;
  if (!my.conf.file.empty()) {
    auto plan = TicketPlan::make(my.conf);
    if (!plan) return conf::error(plan.error().text);
    my.warning = plan->warning;
    changed = my.take_file(plan->keys, now);
  } else {
    if (my.due(now)) {
      auto key = new_key(now);
      if (!key) return conf::error("the system gives no random numbers");
      my.rotate(*key, now);
      wipe_key(*key);
      changed = true;
    }
    changed |= my.forget(now);
  }
  if (changed) my.publish();
  return changed;
}

std::chrono::seconds TicketKeys::age(Clock::time_point now) const {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch());
  return std::max(std::chrono::seconds(0), seconds - std::chrono::seconds(impl_->making_since.load()));
}

const std::string& TicketKeys::warning() const { return impl_->warning; }

bool TicketKeys::making(TicketKey& key) const {
  return impl_->ring.read([&key](const Ring& ring) {
    if (ring.count == 0) return false;
    key = ring.keys[0];
    return true;
  });
}

bool TicketKeys::named(std::span<const uint8_t, 16> name, TicketKey& key, bool& newest) const {
  return impl_->ring.read([&](const Ring& ring) {
    for (size_t i = 0; i < ring.count; ++i) {
      if (!std::equal(name.begin(), name.end(), ring.keys[i].name.begin())) continue;
      key = ring.keys[i];
      newest = i == 0;
      return true;
    }
    return false;
  });
}

}  // namespace postern::tls
