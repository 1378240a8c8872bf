// SPDX-License-Identifier: GPL-3.0-or-later
// A question waits for a connection that is being made, is asked once more if its connection breaks, and
// follows a cluster a few times; then it fails. Links are buried, never destroyed: one of them may be
// calling.
#include "proxy/stores/redis_store.hpp"

#include <algorithm>
#include <utility>

#include "proxy/loop/loop.hpp"
#include "proxy/stores/password.hpp"
#include "proxy/stores/value.hpp"

namespace postern::proxy {
namespace {

constexpr uint64_t opening_ms = 5000;
constexpr uint64_t silence_ms = 15'000;  // asked, and nothing at all came: the connection is given up
constexpr uint64_t idle_ms = 60'000;     // of a connection beyond the first
constexpr uint64_t period_ms = 1000;
constexpr size_t keeps_up = 256;  // unanswered: more, and another connection is made
constexpr size_t most_unanswered = 4096;
constexpr uint8_t most_redirections = 5;
constexpr size_t most_servers = 64;

}  // namespace

RedisStore::Asked::Asked(RedisStore& store, uint64_t number)
    : owner(store),
      id(number),
      timer(
          *store.loop_.timers,
          [](void* self) {
            const auto* asked = static_cast<Asked*>(self);
            asked->owner.expired(asked->id);
          },
          this) {}

RedisStore::RedisStore(Loop& loop, RedisSettings settings, std::shared_ptr<const tls::ClientContext> tls)
    : loop_(loop),
      settings_(std::move(settings)),
      tls_(std::move(tls)),
      timer_(
          *loop.timers, [](void* self) { static_cast<RedisStore*>(self)->look_after(); }, this) {
  RedisPlace place;
  if (settings_.url.kind == conf::RedisUrl::Kind::tcp)
    place = {settings_.url.hosts.front().name, settings_.url.hosts.front().port};
  servers_.push_back(std::make_unique<Server>(place));
  Sentinels::Events& events = *this;
  if (settings_.url.kind == conf::RedisUrl::Kind::sentinel)
    sentinels_ = std::make_unique<Sentinels>(loop_, settings_, tls_, events);
}

RedisStore::~RedisStore() {
  for (const auto& server : servers_) drop_links(*server);
  for (auto& [id, asked] : std::exchange(asked_, {})) asked->answered(failed("the store was closed"));
}

// --- questions --------------------------------------------------------------------------------------

void RedisStore::find(std::vector<Question> questions, uint64_t deadline_ms) {
  for (Question& question : questions)
    admit(RedisLink::What::get, std::move(question.name), {}, deadline_ms, std::move(question.answered));
  flush();
}

void RedisStore::put(std::string name, std::string destination, uint64_t deadline_ms, Answered answered) {
  if (!settings_.writable) return answered(failed("the store is read-only"));
  admit(RedisLink::What::put, std::move(name), std::move(destination), deadline_ms, std::move(answered));
  flush();
}

void RedisStore::erase(std::string name, uint64_t deadline_ms, Answered answered) {
  if (!settings_.writable) return answered(failed("the store is read-only"));
  admit(RedisLink::What::erase, std::move(name), {}, deadline_ms, std::move(answered));
  flush();
}

uint64_t RedisStore::admit(RedisLink::What what, std::string name, std::string destination,
                           uint64_t deadline_ms, Answered answered) {
  const uint64_t id = ++last_id_;
  auto& asked = asked_[id];
  asked = std::make_unique<Asked>(*this, id);
  asked->what = what;
  asked->name = std::move(name);
  asked->destination = std::move(destination);
  asked->answered = std::move(answered);
  asked->deadline = deadline_ms;
  asked->timer.at(deadline_ms);
  if (!timer_.armed()) timer_.in(period_ms);
  place(*asked);
  return id;
}

void RedisStore::place(Asked& asked) {
  asked.link = nullptr;
  if (!slots_) return place_at(*servers_.front(), asked);
  Server* server = servers_[(*slots_)[slot_of(settings_.key_prefix + asked.name)]].get();
  // Where the one that had the slot is gone, any other knows who has it now.
  if (loop_.now() < server->not_before && !has_ready(*server))
    for (const auto& other : servers_)
      if (has_ready(*other)) server = other.get();
  place_at(*server, asked);
}

void RedisStore::place_at(Server& server, Asked& asked) {
  RedisLink* best = nullptr;
  bool opening = false;
  for (const auto& link : server.links) {
    if (link->over()) continue;
    if (!link->ready()) {
      opening = true;
    } else if (!best || link->outstanding() < best->outstanding()) {
      best = link.get();
    }
  }
  if (best) {
    const bool behind = best->outstanding() >= keeps_up;
    if (behind && !opening && link_count() < std::max<size_t>(1, settings_.pool_size) &&
        loop_.now() >= server.not_before)
      open_link(server);
    if (best->over()) return place_at(server, asked);
    if (best->outstanding() >= most_unanswered)
      return finish(asked.id, failed("the store does not keep up"), true);
    return hand(*best, asked);
  }
  if (!opening && sentinels_ && !sentinels_->master()) {
    server.waiting.push_back(asked.id);
    if (!sentinels_->asking()) sentinels_->ask();
    if (!sentinels_->master() && !sentinels_->asking()) fail_waiting(server, sentinels_->why());
    return;
  }
  if (!opening && loop_.now() < server.not_before) return finish(asked.id, failed(server.why_not), true);
  server.waiting.push_back(asked.id);
  if (!opening) open_link(server);
}

bool RedisStore::has_ready(const Server& server) {
  return std::any_of(server.links.begin(), server.links.end(),
                     [](const auto& link) { return link->ready(); });
}

void RedisStore::hand(RedisLink& link, Asked& asked) {
  asked.link = &link;
  asked.ticket = link.ask(asked.id, asked.what, asked.name, asked.destination, asked.asking);
}

void RedisStore::flush() {
  // A link that breaks while it sends changes the list.
  std::vector<RedisLink*> all;
  for (const auto& server : servers_)
    for (const auto& link : server->links) all.push_back(link.get());
  for (RedisLink* link : all) link->flush();  // those that were lost meanwhile are buried, not destroyed
}

void RedisStore::expired(uint64_t id) {
  const auto at = asked_.find(id);
  if (at == asked_.end()) return;
  if (at->second->link) at->second->link->forget(at->second->ticket);
  finish(id, too_late(), true);
}

/// `counts`: it tells how the store fares, and not only how this key does.
void RedisStore::finish(uint64_t id, StoreAnswer answer, bool counts) {
  const auto at = asked_.find(id);
  if (at == asked_.end()) return;
  // It may be its own timer that calls.
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

void RedisStore::fail_waiting(Server& server, const std::string& why) {
  for (const uint64_t id : std::exchange(server.waiting, {})) finish(id, failed(why), true);
}

// --- connections ------------------------------------------------------------------------------------

void RedisStore::open_link(Server& server) {
  RedisLogin login;
  const conf::RedisUrl& url = settings_.url;
  login.user = url.user;
  login.password = url.password;
  login.database = server.redirected ? 0 : url.database;
  login.master = url.kind == conf::RedisUrl::Kind::sentinel;
  Reach::Where where;
  where.host = server.place.host;
  where.port = server.place.port;
  where.path = url.path;
  where.tls = tls_;
  where.server_name = settings_.tls_server_name.empty() ? server.place.host : settings_.tls_server_name;
  where.stale_ms = static_cast<uint64_t>(settings_.stale_addresses.count());
  if (server.redirected && !tls_)
    where.allowed = [from = server.told_by](const conf::Ip& to) { return may_follow(from, to); };
  RedisLink::Events& events = *this;
  server.links.push_back(std::make_unique<RedisLink>(loop_, std::move(where), settings_.key_prefix, events));
  RedisLink& link = *server.links.back();
  if (!settings_.password_file.empty()) {
    auto password = read_password(settings_.password_file);
    if (!password) return link.give_up(password.error().text);
    login.password = std::move(*password);
  }
  link.start(std::move(login), loop_.now() + opening_ms);
}

void RedisStore::link_ready(RedisLink& link) {
  Server* server = server_of(link);
  if (!server) return;
  server->pause.reset();
  server->not_before = 0;
  for (const uint64_t id : std::exchange(server->waiting, {})) {
    const auto at = asked_.find(id);
    if (at == asked_.end()) continue;
    if (link.over() || link.outstanding() >= most_unanswered)
      place_at(*server, *at->second);
    else
      hand(link, *at->second);
  }
  flush();
}

void RedisStore::link_answered(RedisLink& link, uint64_t id, RedisConversation::Outcome outcome) {
  const auto at = asked_.find(id);
  if (at == asked_.end()) return;
  Asked& asked = *at->second;
  if (outcome.refusal == RedisRefusal::moved || outcome.refusal == RedisRefusal::ask)
    return redirect(asked, link, std::move(outcome));
  const bool about_key = outcome.answer.kind == StoreAnswer::Kind::failed &&
                         outcome.refusal == RedisRefusal::other && link.ready();
  finish(id, std::move(outcome.answer), !about_key);
}

/// Questions that an answer has sent elsewhere, or that its callback has asked, go out together.
void RedisStore::link_heard(RedisLink&) { flush(); }

void RedisStore::link_lost(RedisLink& link, const std::string& why) {
  Server* server = server_of(link);
  if (!server) return;
  const auto at = std::find_if(server->links.begin(), server->links.end(),
                               [&link](const auto& one) { return one.get() == &link; });
  std::unique_ptr<RedisLink> dead = std::move(*at);
  server->links.erase(at);
  const std::vector<uint64_t> open = link.open_ids();
  const bool not_master = link.not_master();
  loop_.bury(std::move(dead));
  const bool others =
      std::any_of(server->links.begin(), server->links.end(), [](const auto& one) { return !one->over(); });
  if (!others) {
    // A connection that served is made anew at once; where none comes about, attempts are spaced.
    if (!link.served() || not_master) server->not_before = loop_.now() + server->pause.next();
    server->why_not = why;
  }
  if (not_master && sentinels_) sentinels_->ask();
  up_ = false;
  last_error_ = why;
  std::vector<uint64_t> again;
  for (const uint64_t id : open) {
    const auto found = asked_.find(id);
    if (found == asked_.end() || found->second->link != &link) continue;
    Asked& asked = *found->second;
    asked.link = nullptr;
    if (asked.what == RedisLink::What::get && !std::exchange(asked.lost_once, true))
      again.push_back(id);
    else
      finish(id,
             failed(asked.what == RedisLink::What::get ? why : why + "; whether it was written is not known"),
             true);
  }
  if (!others) fail_waiting(*server, why);
  for (const uint64_t id : again)
    if (const auto found = asked_.find(id); found != asked_.end()) place(*found->second);
  flush();
}

void RedisStore::drop_links(Server& server) {
  for (auto& link : std::exchange(server.links, {})) {
    link->close();
    loop_.bury(std::move(link));
  }
}

// --- Sentinel ---------------------------------------------------------------------------------------

/// The connections to the old one are closed at once: what it may still answer is not to be believed.
void RedisStore::master_is(const RedisPlace& place_now) {
  Server& server = *servers_.front();
  std::vector<uint64_t> again = std::exchange(server.waiting, {});
  for (const auto& link : server.links)
    for (const uint64_t id : link->open_ids()) again.push_back(id);
  drop_links(server);
  server.place = place_now;
  server.not_before = 0;
  server.pause.reset();
  for (const uint64_t id : again) {
    const auto at = asked_.find(id);
    if (at == asked_.end()) continue;
    if (at->second->what != RedisLink::What::get && at->second->link)
      finish(id, failed("the master has changed; whether it was written is not known"), true);
    else
      place(*at->second);
  }
  flush();
}

void RedisStore::no_master(const std::string& why) { fail_waiting(*servers_.front(), why); }

// --- cluster ----------------------------------------------------------------------------------------

void RedisStore::redirect(Asked& asked, RedisLink& from, RedisConversation::Outcome outcome) {
  Server* told_by = server_of(from);
  asked.link = nullptr;
  if (sentinels_ || settings_.url.kind == conf::RedisUrl::Kind::unix_socket || settings_.url.database != 0)
    return finish(asked.id, failed("the server belongs to a cluster, which the URL does not fit"), true);
  if (!told_by || asked.redirections++ >= most_redirections)
    return finish(asked.id, failed("the cluster sends from server to server"), true);
  if (outcome.place.host.empty()) outcome.place.host = told_by->place.host;
  const size_t before = servers_.size();
  Server& server = server_at(outcome.place);
  if (&server == servers_.front().get() && servers_.front()->place != outcome.place)
    return finish(asked.id, failed("the cluster has too many servers"), true);
  if (servers_.size() != before) {
    server.redirected = true;
    server.told_by = from.ip();
  }
  asked.asking = outcome.refusal == RedisRefusal::ask;
  if (!asked.asking) {
    if (!slots_) slots_ = std::make_unique<std::array<uint8_t, redis_slots>>();
    const auto at = std::find_if(servers_.begin(), servers_.end(),
                                 [&server](const auto& one) { return one.get() == &server; });
    (*slots_)[outcome.slot] = static_cast<uint8_t>(at - servers_.begin());
  }
  place_at(server, asked);
}

RedisStore::Server& RedisStore::server_at(const RedisPlace& wanted) {
  for (const auto& server : servers_)
    if (server->place == wanted) return *server;
  if (servers_.size() >= most_servers) return *servers_.front();
  return *servers_.emplace_back(std::make_unique<Server>(wanted));
}

RedisStore::Server* RedisStore::server_of(const RedisLink& link) {
  for (const auto& server : servers_)
    for (const auto& one : server->links)
      if (one.get() == &link) return server.get();
  return nullptr;
}

// --- upkeep -----------------------------------------------------------------------------------------

/// Connections that are silent, and those that are not needed any more.
void RedisStore::look_after() {
  const uint64_t now = loop_.now();
  std::vector<RedisLink*> silent;
  bool any = !asked_.empty();
  for (const auto& server : servers_) {
    size_t spare = server->links.size();
    for (size_t i = server->links.size(); i-- > 0;) {
      RedisLink& link = *server->links[i];
      any = true;
      if (link.ready() && link.silent_since() && now - link.silent_since() >= silence_ms) {
        silent.push_back(&link);
      } else if (spare > 1 && link.ready() && link.outstanding() == 0 && now - link.used_at() >= idle_ms) {
        link.close();
        loop_.bury(std::move(server->links[i]));
        server->links.erase(server->links.begin() + static_cast<ptrdiff_t>(i));
        --spare;
      }
    }
  }
  for (RedisLink* link : silent) link->give_up("the server is silent");
  if (any) timer_.in(period_ms);
}

size_t RedisStore::link_count() const {
  size_t count = 0;
  for (const auto& server : servers_) count += server->links.size();
  return count;
}

StoreState RedisStore::state() const {
  size_t connections = sentinels_ ? sentinels_->connections() : 0;
  for (const auto& server : servers_)
    for (const auto& link : server->links) connections += link->ready();
  return {up_, connections, last_error_};
}

}  // namespace postern::proxy
