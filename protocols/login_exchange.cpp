// SPDX-License-Identifier: GPL-3.0-or-later
#include "protocols/login_exchange.hpp"

#include <algorithm>
#include <utility>

#include "protocols/refusal.hpp"
#include "protocols/registry.hpp"

namespace postern::protocols {

uint32_t hops_left(uint32_t own, const Login& login, std::span<const conf::Cidr> trusted,
                   std::span<const conf::Ip> upstreams) {
  if (!login.ttl) return own;
  const bool believed = std::ranges::any_of(trusted, [&](const conf::Cidr& range) {
    return std::ranges::any_of(upstreams, [&](const conf::Ip& ip) { return range.contains(ip); });
  });
  return believed ? std::min(own, *login.ttl) : own;
}

LoginExchange::LoginExchange(const LoginSettings& settings, const conf::Ip& local, bool encrypted,
                             DialogueEvents* events)
    : ReplayOpening(settings.listener.protocol),
      hostname_(settings.server.hostname.empty() ? local.text() : settings.server.hostname) {
  dialogue_rules_.capabilities = &settings.capabilities;
  dialogue_rules_.hostname = hostname_;
  dialogue_rules_.greeting = settings.listener.greeting;
  dialogue_rules_.can_upgrade = settings.listener.tls_mode == conf::TlsMode::starttls;
  dialogue_rules_.courtesy = settings.server.extended_replies;
  dialogue_rules_.max_failures = settings.listener.max_auth_attempts;
  dialogue_rules_.max_errors = settings.listener.max_errors;
  dialogue_rules_.claim = settings.oauth.jwt_username_claim;
  dialogue_rules_.separators = settings.routing.master_user_separators;
  dialogue_ = row(protocol_).dialogue(dialogue_rules_, encrypted, events);
}

Step LoginExchange::talk(std::string& out) {
  const Step step = dialogue_->advance(from_client, out);
  if (step.want == Want::start_tls) from_client.clear();
  if (step.want == Want::route) login_ = dialogue_->take_login();
  return step;
}

void LoginExchange::choose(const conf::DestinationConf& destination, const ClientFacts& client,
                           std::string_view hostname) {
  rules = {};
  if (const auto& leg = destination.leg(protocol_)) {
    rules.tls = leg->tls;
    rules.forward = leg->forwarding == conf::Forwarding::xclient;
  }
  rules.allow_plaintext = destination.allow_plaintext_auth;
  rules.client = client;
  rules.hostname = hostname;
  hide_errors_ = destination.hide_auth_errors;
}

ReplayStep LoginExchange::authenticate(Input unread, std::string& out) {
  from_backend = std::move(unread);
  if (is_premature(protocol_, from_backend.view())) return {ReplayWant::failed, ReplayFault::premature};
  return replay_->authenticate(out);
}

bool LoginExchange::says_goodbye() const { return is_goodbye(protocol_, replay_->said()); }

LoginExchange::Refused LoginExchange::refused(std::string& out) {
  Refused refused{};
  refused.temporary = is_temporary(protocol_, replay_->said());
  refused.leaves = !hide_errors_ && says_goodbye();
  refused.step = dialogue_->rejected(replay_->said(), hide_errors_, out);
  forget_backend();
  return refused;
}

Step LoginExchange::unanswered(std::string& out) {
  const Step step = dialogue_->unanswered(out);
  forget_backend();
  return step;
}

void LoginExchange::forget_backend() {
  replay_.reset();
  from_backend.clear();
  login_ = {};
}

size_t LoginExchange::held() const {
  return from_client.capacity() + from_backend.capacity() + login_.held() + dialogue_->held();
}

}  // namespace postern::protocols
