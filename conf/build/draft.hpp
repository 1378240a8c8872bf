// SPDX-License-Identifier: GPL-3.0-or-later
// A configuration on its way from File to Config: what every step of loading needs.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "conf/config.hpp"
#include "conf/environment.hpp"
#include "conf/schema/tables.hpp"

namespace postern::conf {

struct Draft {
  Reader& reader;
  const Environment& environment;
  const LoadOptions& options;
  File file{};
  Config config{};

  std::unordered_set<std::string> certificate_ids{};
  std::unordered_map<std::string, size_t> destination_index{};  // by name, into config.destinations
  // Key paths of listeners and destinations with problems of their own: rules across keys leave them alone,
  // so that one mistake gives one message.
  std::unordered_set<std::string> unsound{};

  [[nodiscard]] Problems& problems() const { return reader.problems; }
  void add(const std::string& key, std::string text) const { reader.problems.add(key, std::move(text)); }
  [[nodiscard]] const DestinationConf* destination(const std::string& name) const {
    const auto found = destination_index.find(name);
    return found == destination_index.end() ? nullptr : &config.destinations[found->second];
  }
  [[nodiscard]] bool sound(const std::string& path) const { return unsound.find(path) == unsound.end(); }
};

// Building, in this order. Each reads what its tables hold and applies the rules within them.
void build_server(Draft& draft);
void build_certificates(Draft& draft);
void build_tls(Draft& draft, TlsTable& server_layer);
void build_listeners(Draft& draft, const TlsTable& server_layer);
void build_destinations(Draft& draft);
void build_rest(Draft& draft);
void build_mapping(Draft& draft);

/// Reads one TLS layer onto the one below it.
void read_tls_layer(Draft& draft, const Later<TlsOptions>& layer, TlsOptions& onto);
void read_tls_layer(Draft& draft, const Later<TlsTable>& layer, TlsTable& onto);
/// What the layers come to. Problems are added if the layer at `path` set any of it.
TlsPolicy tls_policy(Draft& draft, const TlsOptions& options, const std::string& path);
/// Mode keys of one table that contradict each other are a problem.
void check_mode_keys(Draft& draft, const TlsModeKeys& keys, const std::string& path);

/// A certificate or key that is a file must be readable; a secret is not repeated in the message.
void check_pem_file(const Draft& draft, const std::string& key, std::string_view value, bool secret);

bool has_inline_key(const Secret& key);

}  // namespace postern::conf
