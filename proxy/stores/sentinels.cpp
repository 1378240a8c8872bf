// SPDX-License-Identifier: GPL-3.0-or-later
// An announcement counts at once; between them the majority of what was last answered does. A sentinel that
// is lost is tried again with growing, randomised pauses for as long as the store is in use.
#include "proxy/stores/sentinels.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <utility>

#include "proxy/loop/loop.hpp"
#include "proxy/stores/password.hpp"
#include "proxy/stores/pause.hpp"

namespace postern::proxy {
namespace {

constexpr uint64_t opening_ms = 3000;
constexpr uint64_t period_ms = 5000;  // between questions; a sentinel that has not answered the last is lost
/// So long after an announcement nothing else is believed: the other sentinels may not have heard yet, and
/// would send us back to the old master.
constexpr uint64_t settling_ms = 10'000;

}  // namespace

class Sentinels::Link final : Reach::Events, StreamEvents {
 public:
  Link(Sentinels& owner, conf::StoreHost host)
      : owner_(owner),
        host_(std::move(host)),
        timer_(
            *owner.loop_.timers, [](void* self) { static_cast<Link*>(self)->tick(); }, this),
        conversation_(std::make_unique<SentinelConversation>(owner.settings_.url.service)) {}
  ~Link() { close(); }

  void connect() {
    close();
    const RedisSettings& settings = owner_.settings_;
    conversation_ = std::make_unique<SentinelConversation>(settings.url.service);
    Reach::Where where;
    where.host = host_.name;
    where.port = host_.port;
    where.tls = owner_.tls_;
    where.server_name = settings.tls_server_name.empty() ? host_.name : settings.tls_server_name;
    where.stale_ms = static_cast<uint64_t>(settings.stale_addresses.count());
    Reach::Events& events = *this;
    reach_ = std::make_unique<Reach>(owner_.loop_, std::move(where), events);
    const uint64_t deadline = owner_.loop_.now() + opening_ms;
    timer_.at(deadline);
    reach_->start(deadline);
  }

  /// Asks now: over the connection there is, or over a new one.
  void ask() {
    if (stream_ && !conversation_->asking()) {
      conversation_->ask(out_);
      send();
      if (stream_) timer_.in(opening_ms);
    } else if (!stream_ && !reach_ && owner_.loop_.now() >= not_before_) {
      connect();
    }
  }

  [[nodiscard]] bool connected() const { return stream_ != nullptr; }
  [[nodiscard]] bool trying() const { return reach_ || (stream_ && !heard_); }
  std::optional<RedisPlace> opinion;  // the last one; gone when the sentinel is lost

 private:
  void tick() {
    if (!stream_ && !reach_) return connect();
    if (!stream_ || conversation_->asking()) return lose("the sentinel does not answer");
    ask();
  }

  void reached(std::unique_ptr<Stream> stream, const conf::Ip&) override {
    owner_.loop_.bury(std::move(reach_));
    stream_ = std::move(stream);
    StreamEvents& events = *this;
    stream_->belong_to(events);
    conf::Secret password;
    if (const auto& path = owner_.settings_.sentinel_password_file; !path.empty()) {
      auto read = read_password(path, "sentinel_password_file");
      if (!read) return lose(read.error().text);
      password = std::move(*read);
    }
    conversation_->open(password, out_);
    stream_->read(true);
    send();
  }
  void not_reached(const std::string& why) override { lose(why); }
  void stream_secured(Stream&) override {}
  void stream_drained(Stream&) override {}
  void stream_ended(Stream& stream, StreamEnd end) override {
    lose(end == StreamEnd::tls ? std::string("TLS: ") + stream.tls()->error()
                               : "the sentinel closed the connection");
  }
  void stream_data(Stream&, std::span<const uint8_t> plain) override {
    std::vector<SentinelConversation::News> news;
    conversation_->receive(plain, news);
    if (!news.empty()) heard_ = true;
    for (const auto& one : news) {
      opinion = one.master;
      owner_.said(one);
      if (!stream_) return;
    }
    if (conversation_->broken()) return lose(std::string(conversation_->error()));
    if (conversation_->asking()) return;
    pause_.reset();
    timer_.in(period_ms);
  }

  void send() {
    const bool sent = stream_->write({reinterpret_cast<const uint8_t*>(out_.data()), out_.size()});
    conf::wipe(out_);
    if (!sent) lose("the connection broke");
  }

  void close() {
    timer_.stop();
    heard_ = false;
    if (reach_) reach_->cancel();
    owner_.loop_.bury(std::move(reach_));
    if (stream_) {
      stream_->close();
      owner_.loop_.bury(std::move(stream_));
    }
    conf::wipe(out_);
  }

  void lose(const std::string& why) {
    const std::string said = fmt::format("sentinel {}:{}: {}", host_.name, host_.port, why);
    close();
    opinion.reset();
    not_before_ = owner_.loop_.now() + pause_.next();
    timer_.at(not_before_);
    owner_.lost(said);
  }

  Sentinels& owner_;
  const conf::StoreHost host_;
  Timer timer_;
  std::unique_ptr<SentinelConversation> conversation_;
  std::unique_ptr<Reach> reach_;
  std::unique_ptr<Stream> stream_;
  std::string out_;
  Pause pause_{100, 2000};
  uint64_t not_before_ = 0;
  bool heard_ = false;
};

Sentinels::Sentinels(Loop& loop, const RedisSettings& settings, std::shared_ptr<const tls::ClientContext> tls,
                     Events& owner)
    : loop_(loop), settings_(settings), tls_(std::move(tls)), owner_(owner) {}

Sentinels::~Sentinels() = default;

void Sentinels::ask() {
  if (links_.empty())
    for (const auto& host : settings_.url.hosts) links_.push_back(std::make_unique<Link>(*this, host));
  for (const auto& link : links_) link->ask();
}

bool Sentinels::asking() const {
  return std::any_of(links_.begin(), links_.end(), [](const auto& link) { return link->trying(); });
}

size_t Sentinels::connections() const {
  return static_cast<size_t>(
      std::count_if(links_.begin(), links_.end(), [](const auto& link) { return link->connected(); }));
}

void Sentinels::said(const SentinelConversation::News& news) {
  if (news.master && news.switched) {
    announced_at_ = loop_.now();
    return choose(*news.master);
  }
  if (!news.master && !master_ && !asking()) {
    why_ = "the sentinels know no master of this name";
    return owner_.no_master(why_);
  }
  if (announced_at_ == 0 || loop_.now() - announced_at_ >= settling_ms) vote();
}

void Sentinels::vote() {
  std::map<RedisPlace, size_t> votes;
  for (const auto& link : links_)
    if (link->opinion) ++votes[*link->opinion];
  if (votes.empty()) return;
  const auto most = std::max_element(votes.begin(), votes.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  // Without more votes for another, it stays with the one that was chosen.
  if (master_ && votes.contains(*master_) && votes[*master_] >= most->second) return;
  choose(most->first);
}

void Sentinels::choose(const RedisPlace& place) {
  if (master_ == place) return;
  master_ = place;
  owner_.master_is(place);
}

void Sentinels::lost(const std::string& why) {
  why_ = why;
  if (!master_ && !asking()) owner_.no_master(why);
}

}  // namespace postern::proxy
