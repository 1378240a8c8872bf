// SPDX-License-Identifier: GPL-3.0-or-later
// The order of things is the daemon's: identifier, loop check, greeting, credentials, verdict, bridge.
#include "test/unit/transcripts/stage.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <span>
#include <utility>

namespace postern::test {

using protocols::ReplayWant;
using protocols::Want;

Stage::Stage(const conf::Config& config, std::string greeting, Pieces pieces)
    : config_(config),
      listener_(config.listeners.front()),
      destination_(config.destinations.front()),
      leg_(*destination_.leg(listener_.protocol)),
      greeting_(std::move(greeting)),
      pieces_(pieces),
      facts_{*conf::SocketAddress::parse("127.0.0.1:40001"), listener_.bind.front(), config.server.proxy_ttl,
             "P1f2e3d", listener_.tls_mode == conf::TlsMode::implicit},
      exchange_({listener_, config.capabilities[static_cast<size_t>(listener_.protocol)], config.server,
                 config.oauth, config.routing},
                facts_.local.ip, facts_.encrypted, nullptr) {}

std::string Stage::play(const std::vector<ScriptStep>& steps) {
  exchange_.greet(to_client_);
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
      facts_.encrypted = true;
      exchange_.upgraded(to_client_);
      break;
    case Act::backend_tls:
      if (!backend_tls_due_) return "no handshake is due";
      backend_tls_due_ = false;
      follow(exchange_.tls_started(to_backend_));
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
      exchange_.from_client.append(piece);
      if (!connected_) talk();
    }
  }
}

void Stage::talk() {
  protocols::Step step;
  do step = exchange_.talk(to_client_);
  while (step.want == Want::pause);
  follow(step);
}

void Stage::follow(protocols::Step step) {
  switch (step.want) {
    case Want::input:
    case Want::pause:
      break;
    case Want::start_tls:
      client_tls_due_ = true;
      break;
    case Want::route:
      dial();
      break;
    case Want::close:
      close();
      break;
  }
}

void Stage::dial() {
  facts_.ttl = protocols::hops_left(config_.server.proxy_ttl, exchange_.login(), listener_.proxy_trusted,
                                    std::span(&facts_.peer.ip, 1));
  if (leg_.forwarding == conf::Forwarding::xclient && facts_.ttl <= 1) return unavailable();
  exchange_.choose(destination_, facts_, config_.server.hostname);
  connected_ = true;
  ready_ = false;
  backend_.clear();
  exchange_.begin();
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
      (ready_ ? exchange_.from_backend : backend_).append(piece);
      ask();
    }
  }
}

void Stage::ask() {
  size_t asked = 0;
  do {
    asked = to_backend_.size();
    follow(ready_ ? exchange_.hear(to_backend_) : exchange_.advance(backend_, to_backend_));
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
      ready_ = true;
      follow(exchange_.authenticate(std::move(backend_), to_backend_));
      if (connected_ && !bridged_ && !exchange_.from_backend.empty()) ask();
      break;
    case ReplayWant::accepted:
      to_client_ += exchange_.said();
      to_client_ += exchange_.from_backend.view();
      to_backend_ += exchange_.from_client.view();
      bridged_ = true;
      break;
    case ReplayWant::rejected: {
      const protocols::LoginExchange::Refused refused = exchange_.refused(to_client_);
      hang_up();
      follow(refused.step);
      if (refused.leaves) return close();
      if (!closed_) talk();
      break;
    }
    case ReplayWant::failed:
      unavailable();
      break;
  }
}

void Stage::unavailable() {
  exchange_.unavailable(to_client_);
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
