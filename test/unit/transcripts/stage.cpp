// SPDX-License-Identifier: GPL-3.0-or-later
// The order of things is the daemon's: identifier, loop check, greeting, credentials, verdict, bridge.
#include "test/unit/transcripts/stage.hpp"

#include <fmt/core.h>

#include <algorithm>

#include "protocols/refusal.hpp"

namespace postern::test {

using protocols::ReplayWant;
using protocols::Want;

Stage::Stage(const conf::Config& config, std::string greeting, Pieces pieces)
    : config_(config),
      listener_(config.listeners.front()),
      destination_(config.destinations.front()),
      leg_(*destination_.leg(listener_.protocol)),
      greeting_(std::move(greeting)),
      pieces_(pieces) {
  protocols::ClientFacts& facts = replay_rules_.client;
  facts.peer = *conf::SocketAddress::parse("127.0.0.1:40001");
  facts.local = listener_.bind.front();
  facts.session = "P1f2e3d";
  facts.encrypted = listener_.tls_mode == conf::TlsMode::implicit;
  local_ = facts.local.ip.text();
  rules_.capabilities = &config.capabilities[static_cast<size_t>(listener_.protocol)];
  rules_.hostname = config.server.hostname.empty() ? local_ : config.server.hostname;
  rules_.greeting = listener_.greeting;
  rules_.can_upgrade = listener_.tls_mode == conf::TlsMode::starttls;
  rules_.courtesy = config.server.extended_replies;
  rules_.max_failures = listener_.max_auth_attempts;
  rules_.max_errors = listener_.max_errors;
  rules_.claim = config.oauth.jwt_username_claim;
  rules_.separators = config.routing.master_user_separators;
  replay_rules_.tls = leg_.tls;
  replay_rules_.allow_plaintext = destination_.allow_plaintext_auth;
  replay_rules_.forward = leg_.forwarding == conf::Forwarding::xclient;
  replay_rules_.hostname = config.server.hostname;
  dialogue_ = protocols::row(listener_.protocol).dialogue(rules_, facts.encrypted, nullptr);
}

std::string Stage::play(const std::vector<ScriptStep>& steps) {
  dialogue_->greet(to_client_);
  // Only a script that wants to see the greeting shows it.
  const bool implicit = listener_.tls_mode == conf::TlsMode::implicit;
  if (implicit && (steps.empty() || steps.front().act != Act::client_tls))
    return "a tls listener starts with C<tls>";
  const size_t first = implicit ? 1 : 0;
  if (steps.size() > first && steps[first].act != Act::client_hears) to_client_.clear();
  for (size_t i = first; i < steps.size(); ++i)
    if (const std::string wrong = step(steps[i]); !wrong.empty())
      return fmt::format("line {}: {}", steps[i].line, wrong);
  if (!to_client_.empty()) return "not in the transcript: S: " + to_client_;
  if (!to_backend_.empty()) return "not in the transcript: P: " + to_backend_;
  if (closed_ && std::ranges::none_of(steps, [](const auto& s) { return s.act == Act::client_ended; }))
    return "not in the transcript: S<eof>";
  return {};
}

std::string Stage::step(const ScriptStep& step) {
  const bool hears = step.act == Act::client_hears || step.act == Act::backend_hears ||
                     step.act == Act::client_ended || step.act == Act::backend_left;
  if (!hears && !to_client_.empty()) return "not in the transcript: S: " + to_client_;
  if (!hears && !to_backend_.empty()) return "not in the transcript: P: " + to_backend_;
  switch (step.act) {
    case Act::client_says:
      if (closed_) return "the client's connection has ended";
      client_says(step.bytes);
      break;
    case Act::backend_says:
      if (!connected_) return "no backend is connected";
      backend_says(step.bytes);
      break;
    case Act::client_hears:
      return hear(to_client_, step);
    case Act::backend_hears:
      return hear(to_backend_, step);
    case Act::client_tls:
      if (!client_tls_due_) return "no handshake is due";
      client_tls_due_ = false;
      replay_rules_.client.encrypted = true;
      dialogue_->tls_started(to_client_);
      break;
    case Act::backend_tls:
      if (!backend_tls_due_) return "no handshake is due";
      backend_tls_due_ = false;
      follow(replay_->tls_started(to_backend_));
      break;
    case Act::client_ended:
      return closed_ ? "" : "the client's connection is open";
    case Act::backend_left:
      return connected_ ? "the backend's connection is open" : "";
    case Act::backend_ended:
      if (!connected_) return "no backend is connected";
      if (bridged_)
        close();
      else
        unavailable();
      break;
  }
  return {};
}

std::string Stage::hear(std::string& said, const ScriptStep& step) const {
  const std::string& wanted = step.bytes;
  // A line that says its end has none of its own to look for.
  const size_t lf = said.find('\n');
  const size_t length = wanted.ends_with("\n") ? (lf == std::string::npos ? said.size() : lf + 1)
                                               : std::min(wanted.size(), said.size());
  const std::string heard = said.substr(0, length);
  if (!matches(wanted, heard)) return fmt::format("heard \"{}\", not \"{}\"", heard, wanted);
  said.erase(0, length);
  return {};
}

void Stage::client_says(std::string_view segment) {
  for (size_t at = 0; at < segment.size() && !closed_;) {
    const size_t end = pieces_.next(at, segment.size());
    const std::string_view piece = segment.substr(at, end - at);
    at = end;
    if (client_tls_due_) return;  // said in clear and too late
    if (bridged_) {
      to_backend_ += piece;
    } else {
      client_.append(piece);
      if (!connected_) talk();
    }
  }
}

void Stage::talk() {
  protocols::Step step;
  do step = dialogue_->advance(client_, to_client_);
  while (step.want == Want::pause);
  follow(step);
}

void Stage::follow(protocols::Step step) {
  switch (step.want) {
    case Want::input:
    case Want::pause:
      break;
    case Want::start_tls:
      client_.clear();
      client_tls_due_ = true;
      break;
    case Want::route:
      login_ = dialogue_->take_login();
      dial();
      break;
    case Want::close:
      close();
      break;
  }
}

void Stage::dial() {
  protocols::ClientFacts& facts = replay_rules_.client;
  facts.ttl = config_.server.proxy_ttl;
  if (login_.ttl && std::ranges::any_of(listener_.proxy_trusted, [&](const conf::Cidr& range) {
        return range.contains(facts.peer.ip);
      }))
    facts.ttl = std::min(facts.ttl, *login_.ttl);
  if (replay_rules_.forward && facts.ttl <= 1) return unavailable();

  connected_ = true;
  backend_.clear();
  replay_ = protocols::row(listener_.protocol).replay(replay_rules_, login_);
  backend_says(greeting_);
}

void Stage::backend_says(std::string_view segment) {
  for (size_t at = 0; at < segment.size() && connected_;) {
    const size_t end = pieces_.next(at, segment.size());
    const std::string_view piece = segment.substr(at, end - at);
    at = end;
    if (backend_tls_due_) return unavailable();  // behind the go-ahead, in clear
    if (bridged_) {
      to_client_ += piece;
    } else {
      backend_.append(piece);
      ask();
    }
  }
}

void Stage::ask() {
  size_t asked = 0;
  do {
    asked = to_backend_.size();
    follow(replay_->advance(backend_, to_backend_));
  } while (connected_ && !bridged_ && to_backend_.size() != asked);
}

void Stage::follow(protocols::ReplayStep step) {
  switch (step.want) {
    case ReplayWant::input:
      break;
    case ReplayWant::start_tls:
      backend_tls_due_ = true;
      break;
    case ReplayWant::ready:
      follow(replay_->authenticate(to_backend_));
      if (connected_ && !bridged_ && !backend_.empty()) ask();
      break;
    case ReplayWant::accepted:
      to_client_ += replay_->said();
      to_client_ += backend_.view();
      to_backend_ += client_.view();
      bridged_ = true;
      break;
    case ReplayWant::rejected: {
      const std::string said(replay_->said());
      const bool hide = destination_.hide_auth_errors;
      hang_up();
      follow(dialogue_->rejected(said, hide, to_client_));
      if (!hide && protocols::is_goodbye(listener_.protocol, said)) return close();
      if (!closed_) talk();
      break;
    }
    case ReplayWant::failed:
      unavailable();
      break;
  }
}

void Stage::unavailable() {
  dialogue_->unavailable(to_client_);
  close();
}

void Stage::hang_up() {
  connected_ = backend_tls_due_ = false;
  backend_.clear();
}

void Stage::close() {
  hang_up();
  closed_ = true;
}

}  // namespace postern::test
