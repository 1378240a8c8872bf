// SPDX-License-Identifier: GPL-3.0-or-later
// Destinations: what follows from a leg, its destination and proxy_protocol, and the rules within one
// destination.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "conf/build/draft.hpp"
#include "conf/text.hpp"

namespace postern::conf {
namespace {

std::optional<Protocol> leg_protocol(std::string_view text) {
  for (size_t i = 0; i < protocol_count; ++i) {
    if (name(static_cast<Protocol>(i)) == text) return static_cast<Protocol>(i);
  }
  return std::nullopt;
}

/// leg over destination over proxy_protocol; an HTTP leg listens to nobody but itself (forwarding.md 2.1).
Forwarding leg_forwarding(const DestinationFile& raw, const LegFile& leg, Protocol protocol) {
  if (leg.forwarding) return *leg.forwarding;
  if (protocol == Protocol::http) return Forwarding::none;
  return raw.forwarding.value_or(raw.proxy_protocol ? Forwarding::proxy : Forwarding::none);
}

void read_legs(Draft& draft, DestinationFile& raw) {
  DestinationConf& conf = raw.conf;
  for (const auto& item : raw.protocol.items) {
    const auto protocol = leg_protocol(item.name);
    if (!protocol) {
      std::vector<std::string_view> known;
      for (size_t i = 0; i < protocol_count; ++i) known.push_back(name(static_cast<Protocol>(i)));
      draft.add(item.table.path, "unknown protocol: " + word_fault(item.name, known));
      continue;
    }
    LegFile leg;
    const size_t errors = draft.problems().errors();
    item.table.onto(draft.reader, leg);
    leg.conf.forwarding = leg_forwarding(raw, leg, *protocol);
    if (draft.problems().errors() == errors) {
      const std::string key = item.table.path + ".tls";
      if (leg.conf.tls == TlsMode::starttls && !interactive(*protocol)) {
        draft.add(
            key, fmt::format("\"starttls\" is not possible on {} legs, which cannot be upgraded", item.name));
      }
      if (leg.conf.tls == TlsMode::plain && carries_credentials(*protocol) && !conf.allow_plaintext_auth) {
        draft.add(
            key, fmt::format("\"plain\" would carry credentials in clear; say {}.allow_plaintext_auth = true "
                             "if that is meant",
                             conf.path));
      }
    }
    conf.legs[static_cast<size_t>(*protocol)] = leg.conf;
  }
}

void apply_rules(Draft& draft, DestinationFile& raw) {
  DestinationConf& conf = raw.conf;
  if (raw.tls_pinned_cert_sha256) {
    auto pin = parse_pin(*raw.tls_pinned_cert_sha256);
    if (pin) conf.tls_pinned_cert_sha256 = std::move(*pin);
    if (!pin) draft.add(conf.path + ".tls_pinned_cert_sha256", std::move(pin.error().text));
  }
  const bool has_tls = std::any_of(std::begin(conf.legs), std::end(conf.legs),
                                   [](const auto& leg) { return leg && leg->tls != TlsMode::plain; });
  if (conf.tls_server_name.empty() && !conf.host.empty()) {
    const bool is_ip = Ip::parse(conf.host).has_value();
    if (!is_ip) conf.tls_server_name = conf.host;
    if (is_ip && has_tls) {
      draft.add(conf.path + ".tls_server_name",
                fmt::format("is missing: the host is the address {} and a leg uses TLS", quoted(conf.host)));
    }
  }
  const bool has_cert = !conf.tls_client_cert.empty();
  const bool has_key = !conf.tls_client_key.empty();
  if (has_cert && !has_key) draft.add(conf.path + ".tls_client_cert", "needs tls_client_key as well");
  if (has_key && !has_cert) draft.add(conf.path + ".tls_client_key", "needs tls_client_cert as well");
  check_pem_file(draft, conf.path + ".tls_client_cert", conf.tls_client_cert, false);
  check_pem_file(draft, conf.path + ".tls_client_key", conf.tls_client_key.reveal(), true);
}

void give_warnings(Draft& draft, const DestinationConf& conf) {
  Problems& problems = draft.problems();
  if (conf.tls_allow_invalid_certs && !conf.tls_pinned_cert_sha256) {
    problems.warn(conf.path + ".tls_allow_invalid_certs", "the certificate of this backend is not verified");
  }
  if (has_inline_key(conf.tls_client_key)) {
    problems.warn(conf.path + ".tls_client_key", "a private key inside the configuration; a file is safer");
  }
  const auto& http = conf.leg(Protocol::http);
  const auto sends_header = [](const auto& leg) { return leg && leg->forwarding == Forwarding::proxy; };
  if (http && http->forwarding == Forwarding::none && !conf.forwarded &&
      std::any_of(std::begin(conf.legs), std::end(conf.legs), sends_header)) {
    problems.warn(conf.path + ".protocol.http", "sends no PROXY header although other legs do");
  }
}

}  // namespace

void build_destinations(Draft& draft) {
  for (const auto& item : draft.file.destination.items) {
    const size_t errors = draft.problems().errors();
    DestinationFile raw;
    raw.conf.name = item.name;
    raw.conf.path = item.table.path;
    item.table.onto(draft.reader, raw);
    read_legs(draft, raw);
    apply_rules(draft, raw);
    give_warnings(draft, raw.conf);
    if (draft.problems().errors() != errors) draft.unsound.insert(raw.conf.path);
    draft.destination_index.emplace(item.name, draft.config.destinations.size());
    draft.config.destinations.push_back(std::move(raw.conf));
  }
}

}  // namespace postern::conf
