// SPDX-License-Identifier: GPL-3.0-or-later
// Listeners in both spellings: their TLS mode, their addresses, and the rules within one listener.
#include <fmt/format.h>

#include <algorithm>

#include "conf/build/draft.hpp"
#include "conf/text.hpp"

namespace postern::conf {
namespace {

using Item = Named<ListenerFile>::Item;

struct Candidate {
  const Item* item;
  bool server_spelling;  // [server.listener.<name>]
};

std::vector<Candidate> candidates(const Draft& draft) {
  std::vector<Candidate> out;
  std::unordered_map<std::string, std::string> first;
  for (const Item& item : draft.file.listener.items) {
    first.emplace(item.name, item.table.path);
    out.push_back({&item, false});
  }
  for (const Item& item : draft.file.server.listener.items) {
    const auto [other, fresh] = first.emplace(item.name, item.table.path);
    if (fresh) {
      out.push_back({&item, true});
    } else {
      draft.add(item.table.path, fmt::format("the same listener is declared as {}", other->second));
    }
  }
  std::stable_sort(out.begin(), out.end(), [](const Candidate& a, const Candidate& b) {
    return std::pair(a.item->place.line, a.item->place.column) <
           std::pair(b.item->place.line, b.item->place.column);
  });
  return out;
}

uint16_t usual_port(Protocol protocol, TlsMode mode) {
  const bool implicit = mode == TlsMode::implicit;
  switch (protocol) {
    case Protocol::imap:
      return implicit ? 993 : 143;
    case Protocol::pop3:
      return implicit ? 995 : 110;
    case Protocol::managesieve:
      return 4190;
    case Protocol::submission:
      return implicit ? 465 : 587;
    case Protocol::smtp:
      return 25;
    case Protocol::lmtp:
      return 24;
    case Protocol::http:
      break;
  }
  return implicit ? 443 : 80;
}

TlsMode mode_of(const TlsModeKeys& keys) {
  if (keys.mode) return *keys.mode;
  if (!keys.enable.value_or(true)) return TlsMode::plain;
  return keys.implicit.value_or(false) ? TlsMode::implicit : TlsMode::starttls;
}

/// `own` over `server`, key by key; a mode said in one word stands for the other two.
TlsModeKeys merged(const TlsModeKeys& own, const TlsModeKeys& server) {
  if (own.mode) return own;
  TlsModeKeys out = server;
  if (server.mode) {
    out = {
        .enable = *server.mode != TlsMode::plain, .implicit = *server.mode == TlsMode::implicit, .mode = {}};
  }
  if (own.enable) out.enable = own.enable;
  if (own.implicit) out.implicit = own.implicit;
  return out;
}

class Builder {
 public:
  Builder(Draft& draft, const TlsTable& server) : draft_(draft), server_(server) {}

  void build(const Candidate& candidate) {
    const size_t errors = draft_.problems().errors();
    ListenerFile raw;
    ListenerConf& conf = raw.conf;
    conf.max_connections = draft_.file.server.max_connections;
    conf.socket = draft_.file.server.socket;
    conf.name = candidate.item->name;
    conf.path = candidate.item->table.path;
    server_spelling_ = candidate.server_spelling;
    candidate.item->table.onto(draft_.reader, raw);
    raw.socket.onto(draft_.reader, conf.socket);
    conf.max_auth_attempts = std::max(conf.max_auth_attempts, 1u);
    conf.max_connections_per_client = raw.max_connections_per_client.value_or(
        draft_.file.server.max_connections_per_client.value_or(std::max(conf.max_connections / 8, 1u)));
    // Without its protocol a listener has neither a usual port nor rules of its own.
    const bool understood = draft_.problems().errors() == errors;
    resolve_tls(raw, understood);
    resolve_bind(raw, understood);
    if (understood) apply_rules(conf);
    if (draft_.problems().errors() != errors) draft_.unsound.insert(conf.path);
    draft_.config.listeners.push_back(std::move(conf));
  }

  /// An address serves one purpose; with SO_REUSEPORT the kernel would not object, but share it out.
  void claim(const SocketAddress& address, const std::string& key) {
    if (address.port == 0) return;
    const auto [other, fresh] = bound_.emplace(address.text(), key);
    if (!fresh)
      draft_.add(key, fmt::format("{} is bound by {} already", quoted(address.text()), other->second));
  }

 private:
  void resolve_tls(ListenerFile& raw, bool understood) {
    ListenerConf& conf = raw.conf;
    TlsTable own;
    own.options = server_.options;
    std::string layer_path = conf.path + ".tls_options";
    if (raw.tls.table) {
      layer_path = conf.path + ".tls";
      read_tls_layer(draft_, raw.tls.table, own);
      check_mode_keys(draft_, own.mode, layer_path);
      if (raw.tls_options) {
        draft_.add(conf.path + ".tls_options", "tls is a table already; its options belong there");
      }
    } else {
      forbid_mode_keys(raw.tls_options);
      read_tls_layer(draft_, raw.tls_options, own.options);
    }
    conf.tls = tls_policy(draft_, own.options, layer_path);

    if (raw.tls.mode) {
      conf.tls_mode = *raw.tls.mode;
    } else if (own.mode.any()) {
      conf.tls_mode = mode_of(merged(own.mode, server_.mode));
      if (conf.tls_mode == TlsMode::plain && own.mode.implicit.value_or(false)) {
        draft_.problems().warn(conf.path + ".tls.implicit",
                               "has no effect: TLS is not enabled on this listener");
      }
    } else if (server_.mode.any() || server_spelling_) {
      inherit_mode(conf, understood);
      return;
    } else if (!draft_.problems().located(conf.path + ".tls") || raw.tls.table) {
      draft_.add(conf.path + ".tls",
                 raw.tls.table ? "says no mode (implicit, starttls or plain)" : "is missing");
    }
    if (understood && conf.tls_mode == TlsMode::starttls && !interactive(conf.protocol)) {
      draft_.add(conf.path + ".tls",
                 fmt::format("\"starttls\" is not possible on {} listeners, which have no "
                             "command for it",
                             name(conf.protocol)));
    }
  }

  /// The enumeration and server.tls are about the mode; tls_options are not.
  void forbid_mode_keys(Later<TlsOptions>& options) {
    if (!options) return;
    TableReader table(draft_.reader, *options.node, options.path);
    Node rest = *options.node;
    for (const char* key : {"enable", "implicit", "mode"}) {
      table.forbid(key, "belongs to tls as a table, not to tls_options");
      std::erase_if(rest.entries, [&](const Entry& entry) { return entry.key == key; });
    }
    kept_ = std::move(rest);
    options.node = &kept_;
  }

  void inherit_mode(ListenerConf& conf, bool understood) {
    conf.tls_mode = mode_of(server_.mode);
    if (!understood || conf.tls_mode != TlsMode::starttls || interactive(conf.protocol)) return;
    conf.tls_mode = TlsMode::plain;
    draft_.problems().warn(conf.path,
                           fmt::format("{} listeners have no STARTTLS: this one is plain; say tls = "
                                       "\"plain\" or \"implicit\"",
                                       name(conf.protocol)));
  }

  void resolve_bind(ListenerFile& raw, bool understood) {
    const std::string list = raw.conf.path + ".bind";
    for (size_t i = 0; i < raw.bind.size(); ++i) {
      std::string key = join_index(list, i);
      if (!draft_.problems().located(key)) key = list;
      auto address = SocketAddress::parse(raw.bind[i]);
      if (const auto ip = Ip::parse(raw.bind[i]); server_spelling_ && ip) {
        if (!understood) continue;
        address = SocketAddress{*ip, usual_port(raw.conf.protocol, raw.conf.tls_mode)};
      }
      if (!address) {
        draft_.add(key, std::move(address.error().text));
        continue;
      }
      claim(*address, key);
      raw.conf.bind.push_back(*address);
    }
  }

  void apply_rules(const ListenerConf& conf) {
    if (conf.proxy_protocol != ProxyMode::off && conf.proxy_trusted.empty()) {
      draft_.add(conf.path + ".proxy_protocol",
                 fmt::format("\"{}\" needs peers in proxy_trusted", name(conf.proxy_protocol)));
    }
    if (conf.greeting && !interactive(conf.protocol)) {
      draft_.problems().warn(conf.path + ".greeting",
                             fmt::format("has no effect on {} listeners: the backend "
                                         "greets",
                                         name(conf.protocol)));
    }
  }

  Draft& draft_;
  const TlsTable& server_;
  bool server_spelling_ = false;
  Node kept_;
  std::unordered_map<std::string, std::string> bound_;  // address to the key that binds it
};

}  // namespace

void build_listeners(Draft& draft, const TlsTable& server_layer) {
  Builder builder(draft, server_layer);
  for (const Candidate& candidate : candidates(draft)) builder.build(candidate);
  if (draft.file.metrics) builder.claim(draft.file.metrics->bind, "metrics.bind");
  if (draft.file.admin) builder.claim(draft.file.admin->bind, "admin.bind");
}

}  // namespace postern::conf
