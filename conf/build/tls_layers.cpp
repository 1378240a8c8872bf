// SPDX-License-Identifier: GPL-3.0-or-later
// Certificates, and the TLS layers: listener over server over [tls.protocols] over what is built in.
#include <fmt/format.h>

#include <algorithm>

#include "conf/build/draft.hpp"
#include "conf/files.hpp"
#include "conf/text.hpp"

namespace postern::conf {
namespace {

/// A registered or asked-for name: lower case, without "*." in front or a dot behind.
std::string subject_name(std::string_view text) {
  std::string out = ascii_lower(text);
  if (out.starts_with("*.")) out.erase(0, 2);
  if (out.size() > 1 && out.back() == '.') out.pop_back();
  return out;
}

/// Whether a value may be repeated in a message: somebody may have put the key itself where its path belongs.
bool looks_like_path(std::string_view value) {
  constexpr size_t longest_path = 200;
  const bool plain = value.size() <= longest_path && value.find_first_of("\n\r") == std::string_view::npos;
  return plain && (value.starts_with('/') || value.starts_with("./") || value.starts_with("../") ||
                   value.ends_with(".pem") || value.ends_with(".key"));
}

template <class T>
void remove_all(std::vector<T>& from, const std::vector<T>& what) {
  std::erase_if(from, [&](T item) { return std::find(what.begin(), what.end(), item) != what.end(); });
}

template <class T>
void remove_repeats(std::vector<T>& list) {
  std::vector<T> once;
  for (const T item : list) {
    if (std::find(once.begin(), once.end(), item) == once.end()) once.push_back(item);
  }
  list = std::move(once);
}

void check_certificate_id(const Draft& draft, const std::string& path, const std::string& id) {
  if (draft.certificate_ids.count(id) == 0) draft.add(path, quoted(id) + " is not a declared certificate");
}

/// Certificate and names belong to the layer that says them, so they are read apart and checked there.
template <class S>
void read_layer(Draft& draft, const Later<S>& layer, S& onto, TlsOptions& options) {
  if (!layer) return;
  const std::string certificate = std::exchange(options.certificate, {});
  const std::vector<SniEntry> sni = std::exchange(options.sni, {});
  layer.onto(draft.reader, onto);
  if (options.certificate.empty()) {
    options.certificate = certificate;
  } else {
    check_certificate_id(draft, layer.path + ".certificate", options.certificate);
  }
  for (size_t i = 0; i < options.sni.size(); ++i) {
    SniEntry& entry = options.sni[i];
    entry.subject = subject_name(entry.subject);
    if (entry.certificate.empty()) continue;  // missing, and said so
    check_certificate_id(draft, join_index(layer.path + ".sni", i) + ".certificate", entry.certificate);
  }
  if (options.sni.empty()) options.sni = sni;
}

/// The key to blame: one of the layer's own.
std::string own_key(const Draft& draft, const std::string& path,
                    std::initializer_list<std::string_view> keys) {
  for (const std::string_view key : keys) {
    std::string candidate = join_key(path, key);
    if (draft.problems().located(candidate)) return candidate;
  }
  return {};
}

}  // namespace

void check_pem_file(const Draft& draft, const std::string& key, std::string_view value, bool secret) {
  const std::string path(pem_path(value));
  if (path.empty() || !draft.options.touch_files) return;
  const std::string fault = file_fault(path);
  if (fault.empty()) return;
  draft.add(key, !secret || looks_like_path(path) ? quoted(path) + " " + fault : fault);
}

bool has_inline_key(const Secret& key) { return !key.empty() && pem_path(key.reveal()).empty(); }

void build_certificates(Draft& draft) {
  std::vector<const Named<CertificateConf>::Item*> items;
  for (const auto& item : draft.file.tls.certificate.items) items.push_back(&item);
  std::unordered_map<std::string, std::string> first;
  for (const auto* item : items) first.emplace(item->name, item->table.path);
  for (const auto& item : draft.file.certificate.items) {
    const auto [other, fresh] = first.emplace(item.name, item.table.path);
    if (!fresh)
      draft.add(item.table.path, fmt::format("the same certificate is declared as {}", other->second));
    if (fresh) items.push_back(&item);
  }
  std::stable_sort(items.begin(), items.end(), [](const auto* a, const auto* b) {
    return std::pair(a->place.line, a->place.column) < std::pair(b->place.line, b->place.column);
  });
  std::string default_path;
  for (const auto* item : items) {
    CertificateConf conf;
    conf.id = item->name;
    conf.path = item->table.path;
    draft.certificate_ids.insert(conf.id);
    item->table.onto(draft.reader, conf);
    check_pem_file(draft, conf.path + ".cert", conf.cert, false);
    check_pem_file(draft, conf.path + ".key", conf.key.reveal(), true);
    if (has_inline_key(conf.key)) {
      draft.problems().warn(conf.path + ".key", "a private key inside the configuration; a file is safer");
    }
    if (conf.is_default && !default_path.empty()) {
      draft.add(conf.path + ".default",
                fmt::format("only one certificate can be the default; {} is", default_path));
    } else if (conf.is_default) {
      default_path = conf.path;
    }
    draft.config.certificates.push_back(std::move(conf));
  }
}

void read_tls_layer(Draft& draft, const Later<TlsOptions>& layer, TlsOptions& onto) {
  read_layer(draft, layer, onto, onto);
}
void read_tls_layer(Draft& draft, const Later<TlsTable>& layer, TlsTable& onto) {
  read_layer(draft, layer, onto, onto.options);
}

void check_mode_keys(Draft& draft, const TlsModeKeys& keys, const std::string& path) {
  if (!keys.mode) return;
  const std::string_view word = name(*keys.mode);
  const auto contradicts = [&](const char* key, bool value) {
    draft.add(join_key(path, key), fmt::format("{} contradicts mode = \"{}\"", value, word));
  };
  if (keys.enable && *keys.enable != (*keys.mode != TlsMode::plain)) contradicts("enable", *keys.enable);
  if (keys.implicit && *keys.implicit != (*keys.mode == TlsMode::implicit)) {
    contradicts("implicit", *keys.implicit);
  }
}

TlsPolicy tls_policy(Draft& draft, const TlsOptions& options, const std::string& path) {
  TlsPolicy policy;
  policy.timeout = options.timeout;
  policy.certificate = options.certificate;
  policy.sni = options.sni;
  policy.ignore_client_order = options.ignore_client_order;
  policy.groups = options.groups;
  remove_repeats(policy.groups);

  std::vector<TlsVersion> versions = options.protocols;
  remove_all(versions, options.disable_protocols);
  const auto enabled = [&](TlsVersion version) {
    return std::find(versions.begin(), versions.end(), version) != versions.end();
  };
  policy.suites = options.ciphers;
  if (policy.suites.empty()) {
    for (size_t i = 0; i < suite_count; ++i) policy.suites.push_back(static_cast<Suite>(i));
  }
  remove_repeats(policy.suites);
  remove_all(policy.suites, options.disable_ciphers);
  const bool all_disabled = policy.suites.empty();
  std::erase_if(policy.suites, [&](Suite suite) {
    return !enabled(is_tls13(suite) ? TlsVersion::tls13 : TlsVersion::tls12);
  });
  // A version without a suite cannot be negotiated; saying so up front spares the handshake.
  policy.tls13 = std::any_of(policy.suites.begin(), policy.suites.end(), is_tls13);
  policy.tls12 =
      std::any_of(policy.suites.begin(), policy.suites.end(), [](Suite s) { return !is_tls13(s); });

  // A lower layer that is wrong by itself has been reported where it stands.
  if (versions.empty() && !options.protocols.empty()) {
    const std::string key = own_key(draft, path, {"disable_protocols", "protocols"});
    if (!key.empty()) draft.add(key, "no TLS version is left");
  } else if (policy.suites.empty() && !options.protocols.empty()) {
    const std::string key = own_key(draft, path,
                                    {"ciphers", "disable_ciphers", "disable_cipher_suites", "protocols",
                                     "disable_protocols", "min_version"});
    if (!key.empty()) {
      draft.add(key, all_disabled ? "every cipher suite is disabled"
                                  : "no cipher suite is left for any enabled TLS version");
    }
  }
  return policy;
}

void build_tls(Draft& draft, TlsTable& server_layer) {
  const TlsProtocols& protocols = draft.file.tls.protocols;
  TlsOptions& options = server_layer.options;
  if (protocols.min_version == "1.3") options.protocols = {TlsVersion::tls13};
  options.ignore_client_order = protocols.ignore_client_order;
  options.disable_ciphers = protocols.disable_cipher_suites;
  tls_policy(draft, options, "tls.protocols");

  read_tls_layer(draft, draft.file.server.tls, server_layer);
  check_mode_keys(draft, server_layer.mode, "server.tls");
  tls_policy(draft, options, "server.tls");
  draft.config.tickets = draft.file.tls.tickets;
}

}  // namespace postern::conf
