// SPDX-License-Identifier: GPL-3.0-or-later
// Rows compare what they read. What is in force in another shape than the file's is compared here, and its
// row asked when that applies.
#include "conf/schema/changes.hpp"

#include <algorithm>
#include <iterator>
#include <string_view>

#include "conf/schema/tables.hpp"

namespace postern::conf {
namespace {

using Changes = std::vector<Change>;

void note(Changes& out, bool differs, const std::string& key, Applies when) {
  if (differs) out.push_back({key, when});
}

/// Tables with names: those that both have are compared by `compare`.
template <class T, class Compare>
void by_name(const std::vector<T>& running, const std::vector<T>& wanted, std::string T::*name, Applies when,
             Changes& out, Compare compare) {
  for (const T& was : running) {
    const auto now = std::ranges::find(wanted, was.*name, name);
    if (now != wanted.end())
      compare(was, *now);
    else
      out.push_back({was.path + " (removed)", when});
  }
  for (const T& now : wanted)
    if (std::ranges::find(running, now.*name, name) == running.end())
      out.push_back({now.path + " (added)", when});
}

void compare_listener(const ListenerConf& was, const ListenerConf& now, Changes& out) {
  const std::string& path = now.path;
  compare_rows(was, now, path, out);
  note(out, was.bind != now.bind, path + ".bind", applies<ListenerFile>("bind"));
  note(out, was.tls_mode != now.tls_mode, path + ".tls", applies<ListenerFile>("tls"));
  note(out, !(was.tls == now.tls), path + ".tls_options", applies<ListenerFile>("tls_options"));
  compare_rows(was.socket, now.socket, path + ".socket", out);
  note(out, was.max_connections_per_client != now.max_connections_per_client,
       path + ".max_connections_per_client", applies<ListenerFile>("max_connections_per_client"));
}

void compare_destination(const DestinationConf& was, const DestinationConf& now, Changes& out) {
  const std::string& path = now.path;
  compare_rows(was, now, path, out);
  note(out, was.tls_pinned_cert_sha256 != now.tls_pinned_cert_sha256, path + ".tls_pinned_cert_sha256",
       applies<DestinationFile>("tls_pinned_cert_sha256"));
  for (size_t i = 0; i < protocol_count; ++i) {
    const auto& before = was.legs[i];
    const auto& after = now.legs[i];
    const std::string leg = path + ".protocol." + std::string(name(static_cast<Protocol>(i)));
    if (before && after) {
      compare_rows(*before, *after, leg, out);
      note(out, before->forwarding != after->forwarding, leg + ".forwarding", applies<LegFile>("forwarding"));
    } else if (before || after) {
      out.push_back({leg + (after ? " (added)" : " (removed)"), applies<DestinationFile>("protocol")});
    }
  }
}

void compare_redis(const std::optional<RedisConf>& was, const std::optional<RedisConf>& now, Changes& out) {
  if (!was || !now) return note(out, was.has_value() != now.has_value(), "mapping.redis", Applies::at_once);
  compare_rows(*was, *now, "mapping.redis", out);
  note(out, was->tls_pinned_cert_sha256 != now->tls_pinned_cert_sha256,
       "mapping.redis.tls_pinned_cert_sha256", applies<RedisFile>("tls_pinned_cert_sha256"));
}

}  // namespace

std::vector<Change> listener_changes(const std::vector<ListenerConf>& running,
                                     const std::vector<ListenerConf>& wanted) {
  Changes out;
  by_name(running, wanted, &ListenerConf::name, applies<File>("listener"), out,
          [&](const ListenerConf& was, const ListenerConf& now) { compare_listener(was, now, out); });
  return out;
}

std::vector<Change> other_changes(const Config& running, const Config& wanted) {
  Changes out;
  compare_rows(running.server, wanted.server, "server", out);
  note(out, running.server.log_level != wanted.server.log_level, "server.log_level",
       applies<ServerFile>("log_level"));
  by_name(
      running.certificates, wanted.certificates, &CertificateConf::id, applies<TlsFile>("certificate"), out,
      [&](const CertificateConf& was, const CertificateConf& now) { compare_rows(was, now, now.path, out); });
  compare_rows(running.tickets, wanted.tickets, "tls.tickets", out);
  for (size_t i = 0; i < std::size(running.capabilities); ++i) {
    const std::string_view protocol = name(static_cast<Protocol>(i));
    note(out, !(running.capabilities[i] == wanted.capabilities[i]), "capabilities." + std::string(protocol),
         applies<CapabilitiesFile>(protocol));
  }
  compare_rows(running.oauth, wanted.oauth, "oauth", out);
  compare_rows(running.routing, wanted.routing, "routing", out);
  note(out, running.mapping.source != wanted.mapping.source, "mapping.source",
       applies<MappingFile>("source"));
  compare_rows(running.mapping, wanted.mapping, "mapping", out);
  compare_redis(running.mapping.redis, wanted.mapping.redis, out);
  if (running.mapping.sql && wanted.mapping.sql)
    compare_rows(*running.mapping.sql, *wanted.mapping.sql, "mapping.sql", out);
  else
    note(out, running.mapping.sql.has_value() != wanted.mapping.sql.has_value(), "mapping.sql",
         Applies::at_once);
  note(out, running.mapping.file_path != wanted.mapping.file_path, "mapping.file.path",
       applies<MappingFileTable>("path"));
  by_name(
      running.destinations, wanted.destinations, &DestinationConf::name, applies<File>("destination"), out,
      [&](const DestinationConf& was, const DestinationConf& now) { compare_destination(was, now, out); });
  if (running.metrics && wanted.metrics)
    compare_rows(*running.metrics, *wanted.metrics, "metrics", out);
  else
    note(out, running.metrics.has_value() != wanted.metrics.has_value(), "metrics.bind",
         applies<MetricsConf>("bind"));
  return out;
}

std::vector<Change> changes(const Config& running, const Config& wanted) {
  Changes out = listener_changes(running.listeners, wanted.listeners);
  Changes rest = other_changes(running, wanted);
  out.insert(out.end(), rest.begin(), rest.end());
  return out;
}

}  // namespace postern::conf
