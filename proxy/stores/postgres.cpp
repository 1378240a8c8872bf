// SPDX-License-Identifier: GPL-3.0-or-later
// A question goes to the connection with the least to do; where none has room, another is made, up to
// pool_size, and the question waits. One whose connection breaks is asked once more, unless it was a write.
#include "proxy/stores/postgres.hpp"

#include <algorithm>
#include <deque>
#include <unordered_map>
#include <utility>
#include <vector>

#include "proxy/loop/loop.hpp"
#include "proxy/stores/pause.hpp"
#include "proxy/stores/postgres_link.hpp"
#include "proxy/stores/value.hpp"

namespace postern::proxy {
namespace {

constexpr uint64_t opening_ms = 5000;
constexpr uint64_t silence_ms = 15'000;
constexpr uint64_t idle_ms = 60'000;
constexpr uint64_t period_ms = 1000;
constexpr size_t keeps_up = 8;  // under way on each connection: more, and another is made
constexpr size_t most_waiting = 8192;

using What = PostgresLink::What;

class PostgresStore final : public Store, PostgresLink::Events {
 public:
  PostgresStore(Loop& loop, SqlSettings settings)
      : loop_(loop),
        settings_(std::move(settings)),
        timer_(
            *loop.timers, [](void* self) { static_cast<PostgresStore*>(self)->look_after(); }, this) {}
  ~PostgresStore() override {
    for (auto& link : std::exchange(links_, {})) {
      link->close();
      loop_.bury(std::move(link));
    }
    for (auto& [id, asked] : std::exchange(asked_, {})) asked->answered(failed("the store was closed"));
  }

  void find(std::vector<Question> questions, uint64_t deadline_ms) override {
    for (Question& question : questions)
      admit(What::find, std::move(question.name), {}, deadline_ms, std::move(question.answered));
    flush();
  }
  void put(std::string name, std::string destination, uint64_t deadline_ms, Answered answered) override {
    if (!settings_.writable()) return answered(failed("the store is read-only"));
    admit(What::put, std::move(name), std::move(destination), deadline_ms, std::move(answered));
    flush();
  }
  void erase(std::string name, uint64_t deadline_ms, Answered answered) override {
    if (!settings_.writable()) return answered(failed("the store is read-only"));
    admit(What::erase, std::move(name), {}, deadline_ms, std::move(answered));
    flush();
  }
  [[nodiscard]] StoreState state() const override {
    const auto ready =
        std::count_if(links_.begin(), links_.end(), [](const auto& link) { return link->ready(); });
    return {up_, static_cast<size_t>(ready), last_error_};
  }

 private:
  struct Asked {
    Asked(PostgresStore& store, uint64_t number)
        : owner(store),
          id(number),
          timer(
              *store.loop_.timers,
              [](void* self) {
                const auto* asked = static_cast<Asked*>(self);
                asked->owner.finish(asked->id, too_late(), true);
              },
              this) {}
    PostgresStore& owner;
    const uint64_t id;
    Timer timer;
    What what = What::find;
    std::string name, destination;
    Answered answered;
    bool lost_once = false;
  };

  void admit(What what, std::string name, std::string destination, uint64_t deadline_ms, Answered answered) {
    const uint64_t id = ++last_id_;
    auto& asked = asked_[id];
    asked = std::make_unique<Asked>(*this, id);
    asked->what = what;
    asked->name = std::move(name);
    asked->destination = std::move(destination);
    asked->answered = std::move(answered);
    asked->timer.at(deadline_ms);
    if (!timer_.armed()) timer_.in(period_ms);
    place(id);
  }

  /// The connection with the least to do that has room; null: none.
  PostgresLink* roomy() {
    PostgresLink* best = nullptr;
    for (const auto& link : links_)
      if (link->ready() && link->room() > 0 && (!best || link->outstanding() < best->outstanding()))
        best = link.get();
    return best;
  }

  void place(uint64_t id) {
    PostgresLink* best = roomy();
    const bool opening =
        std::any_of(links_.begin(), links_.end(), [](const auto& link) { return !link->ready(); });
    const bool may_open =
        !opening && links_.size() < std::max<size_t>(1, settings_.pool_size) && loop_.now() >= not_before_;
    if (!best && links_.empty() && !may_open) return finish(id, failed(why_not_), true);
    if (!best && waiting_.size() >= most_waiting)
      return finish(id, failed("the store does not keep up"), true);
    if (best)
      hand(*best, id);
    else
      waiting_.push_back(id);
    if (may_open && (!best || best->outstanding() > keeps_up)) open_link();
  }

  void hand(PostgresLink& link, uint64_t id) {
    const auto at = asked_.find(id);
    if (at == asked_.end()) return;
    link.ask(id, at->second->what, at->second->name, at->second->destination);
  }

  void hand_out_waiting() {
    while (!waiting_.empty()) {
      PostgresLink* link = roomy();
      if (!link) return;
      const uint64_t id = waiting_.front();
      waiting_.pop_front();
      hand(*link, id);
    }
  }

  void open_link() {
    PostgresLink::Events& events = *this;
    links_.push_back(std::make_unique<PostgresLink>(loop_, settings_, events));
    links_.back()->start(loop_.now() + opening_ms);
  }

  void flush() {
    std::vector<PostgresLink*> all;
    for (const auto& link : links_) all.push_back(link.get());
    for (PostgresLink* link : all)  // those that are lost meanwhile are buried, not destroyed
      if (link->ready()) link->flush();
  }

  void link_ready(PostgresLink&) override {
    pause_.reset();
    not_before_ = 0;
    hand_out_waiting();
    flush();
  }

  void link_answered(PostgresLink&, uint64_t id, StoreAnswer answer, bool about_key) override {
    finish(id, std::move(answer), !about_key);
    hand_out_waiting();
    flush();
  }

  void link_lost(PostgresLink& link, const std::string& why) override {
    const auto at =
        std::find_if(links_.begin(), links_.end(), [&link](const auto& one) { return one.get() == &link; });
    if (at == links_.end()) return;
    std::unique_ptr<PostgresLink> dead = std::move(*at);
    links_.erase(at);
    const std::vector<uint64_t> open = link.open_ids();
    if (!link.served()) not_before_ = loop_.now() + pause_.next();
    why_not_ = why;
    up_ = false;
    last_error_ = why;
    loop_.bury(std::move(dead));
    std::vector<uint64_t> again;
    for (const uint64_t id : open) {
      const auto found = asked_.find(id);
      if (found == asked_.end()) continue;
      if (found->second->what == What::find && !std::exchange(found->second->lost_once, true))
        again.push_back(id);
      else
        finish(
            id,
            failed(found->second->what == What::find ? why : why + "; whether it was written is not known"),
            true);
    }
    const bool hope = std::any_of(links_.begin(), links_.end(), [](const auto& one) { return !one->over(); });
    if (!hope && !link.served())
      for (const uint64_t id : std::exchange(waiting_, {})) finish(id, failed(why), true);
    else
      for (const uint64_t id : std::exchange(waiting_, {})) again.push_back(id);
    for (const uint64_t id : again)
      if (asked_.contains(id)) place(id);
    flush();
  }

  void finish(uint64_t id, StoreAnswer answer, bool counts) {
    const auto at = asked_.find(id);
    if (at == asked_.end()) return;
    std::unique_ptr<Asked> asked = std::move(at->second);
    asked_.erase(at);
    asked->timer.stop();
    if (counts) {
      up_ = answer.kind == StoreAnswer::Kind::found || answer.kind == StoreAnswer::Kind::absent;
      last_error_ = up_ ? std::string() : answer.text;
    }
    const Answered answered = std::move(asked->answered);
    asked.reset();
    answered(std::move(answer));
  }

  void look_after() {
    const uint64_t now = loop_.now();
    std::vector<PostgresLink*> silent;
    for (size_t i = links_.size(); i-- > 0;) {
      PostgresLink& link = *links_[i];
      if (link.ready() && link.silent_since() && now - link.silent_since() >= silence_ms) {
        silent.push_back(&link);
      } else if (links_.size() > 1 && link.ready() && link.outstanding() == 0 &&
                 now - link.used_at() >= idle_ms) {
        link.close();
        loop_.bury(std::move(links_[i]));
        links_.erase(links_.begin() + static_cast<ptrdiff_t>(i));
      }
    }
    for (PostgresLink* link : silent) link->give_up("the server is silent");
    if (!links_.empty() || !asked_.empty()) timer_.in(period_ms);
  }

  Loop& loop_;
  const SqlSettings settings_;
  std::unordered_map<uint64_t, std::unique_ptr<Asked>> asked_;
  uint64_t last_id_ = 0;
  std::vector<std::unique_ptr<PostgresLink>> links_;
  std::deque<uint64_t> waiting_;
  Pause pause_{50, 500};
  uint64_t not_before_ = 0;
  std::string why_not_;
  Timer timer_;
  bool up_ = false;
  std::string last_error_ = "not asked yet";
};

}  // namespace

std::unique_ptr<Store> make_postgres_store(Loop& loop, SqlSettings settings) {
  return std::make_unique<PostgresStore>(loop, std::move(settings));
}

}  // namespace postern::proxy
