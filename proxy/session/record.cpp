// SPDX-License-Identifier: GPL-3.0-or-later
// The closing record: one line that tells a connection's whole story, whatever happened to it.
#include <fmt/core.h>

#include <string>
#include <vector>

#include "proxy/base/log.hpp"
#include "proxy/session/login_state.hpp"
#include "proxy/session/roster.hpp"
#include "proxy/session/session.hpp"

namespace postern::proxy {

void Session::record(Fault fault, std::string_view detail) const {
  if (!log::enabled(LogLevel::info)) return;
  const bool bridged = phase_ == Phase::bridging;
  const FaultRow& why = row(fault);

  const LoginTimes* const times = login_times();
  std::vector<Field> fields;
  fields.reserve(40);
  const std::string peer = peer_.text();
  fields.emplace_back("session", id());
  fields.emplace_back("listener", listener_->name);
  fields.emplace_back("protocol", conf::name(listener_->protocol));
  fields.emplace_back("peer", peer);
  const std::string via = proxy_header_ ? proxy_header_->via.text() : std::string();
  fields.emplace_back("via", via);
  std::string backend;
  if (times) {
    fields.emplace_back("account", times->account);
    if (!times->method.empty())
      fields.emplace_back("mechanism", auth_method_names[auth_method(times->method)]);
    if (times->attempts) fields.emplace_back("refused_logins", times->attempts);
  }
  if (counted_) {
    fields.emplace_back("destination", counted_->name);
    if (backend_address_.port) backend = backend_address_.text();
    fields.emplace_back("backend", backend);
  }
  if (bridged) {
    fields.emplace_back("bytes_to_backend", bridge_->to_backend());
    fields.emplace_back("bytes_to_client", bridge_->to_client());
  }
  fields.emplace_back("secs", static_cast<double>(loop().now() - accepted_) / 1000.0);
  if (times) {
    const auto stage = [&](std::string_view name, uint32_t from_ms, uint32_t to_ms) {
      if (to_ms != LoginTimes::never && to_ms >= from_ms)
        fields.emplace_back(name, static_cast<double>(to_ms - from_ms) / 1000.0);
    };
    stage("dialogue_secs", 0, times->asked_ms);
    stage("connect_secs", times->asked_ms, times->ready_ms);
    stage("auth_secs", times->ready_ms, times->answered_ms);
  }
  fields.emplace_back("reason",
                      bridged ? std::string_view(end_reason_names[static_cast<size_t>(why.end)]) : why.label);
  if (bridged && fault != Fault::none) fields.emplace_back("fault", why.label);

  // A broken conversation names its cause itself.
  const bool by_client = fault == Fault::client_tls || fault == Fault::key_updates;
  const bool by_backend = fault == Fault::backend_tls || fault == Fault::backend_key_updates;
  if (detail.empty() && by_client) detail = client_.tls()->error();
  if (detail.empty() && by_backend) detail = backend_->tls()->error();
  fields.emplace_back("error", detail);

  if (const tls::Engine* engine = client_.tls()) {
    if (client_.secured()) {
      const tls::Facts facts = engine->facts();
      fields.emplace_back("tls", facts.version);
      fields.emplace_back("tls_suite", facts.suite);
      fields.emplace_back("tls_group", facts.group);
      if (facts.resumed) fields.emplace_back("tls_resumed", true);
    }
    fields.emplace_back("sni", engine->server_name());
    fields.emplace_back("certificate", engine->certificate_id());
    fields.emplace_back("alpn", engine->alpn());
  }
  if (backend_ && backend_->secured()) {
    const tls::Facts facts = backend_->tls()->facts();
    fields.emplace_back("backend_tls", facts.version);
    fields.emplace_back("backend_tls_suite", facts.suite);
    fields.emplace_back("backend_tls_group", facts.group);
    if (facts.resumed) fields.emplace_back("backend_tls_resumed", true);
  }
  if (proxy_header_) {
    const protocols::ProxyHeader& header = proxy_header_->header;
    fields.emplace_back("proxy_version", header.version);
    fields.emplace_back("proxy_authority", header.authority);
    fields.emplace_back("proxy_alpn", header.alpn);
    fields.emplace_back("proxy_unique_id", header.unique_id);
    if (header.ssl) {
      fields.emplace_back("proxy_tls", (header.ssl->client & 1) != 0);
      fields.emplace_back("proxy_tls_version", header.ssl->version);
      fields.emplace_back("proxy_tls_cipher", header.ssl->cipher);
      fields.emplace_back("proxy_tls_group", header.ssl->group);
      fields.emplace_back("proxy_tls_sig_scheme", header.ssl->sig_scheme);
      fields.emplace_back("proxy_tls_cn", header.ssl->cn);
      fields.emplace_back("proxy_tls_verify", header.ssl->verify);
    }
  }
  log::write(LogLevel::info, bridged ? "session closed" : "connection closed", fields);
}

}  // namespace postern::proxy
