// SPDX-License-Identifier: GPL-3.0-or-later
// The rows of [mapping]: where accounts are looked up, how long an answer serves, what happens when the store
// does not answer.
#include "conf/schema/checks.hpp"
#include "conf/schema/tables.hpp"

namespace postern::conf {
namespace {

// Nearly all of them apply at once; but the sizes and lives of the cache are those of the start.
constexpr Limits positive = {.min = 1, .applies = Applies::at_once};
constexpr Limits filled_text = {.check = check_filled, .applies = Applies::at_once};
constexpr Limits needed_text = {.required = true, .check = check_filled, .applies = Applies::at_once};
constexpr Limits pem_text = {.check = check_pem, .applies = Applies::at_once};

}  // namespace

std::span<const Row<MappingFileTable>> Rows<MappingFileTable>::all() {
  static constexpr std::array rows = {
      key<&MappingFileTable::path>("path", "One line an account: identifier, white space, destination.",
                                   needed_text),
  };
  static_assert(fields<MappingFileTable>() == rows.size());
  return rows;
}

std::span<const Row<RedisConf>> Rows<RedisConf>::all() {
  static constexpr std::array rows = {
      key<&RedisConf::url>("url",
                           "`redis://`, `rediss://` (TLS), `redis+sentinel://`, `rediss+sentinel://` or "
                           "`redis+unix://`; Redis or Valkey.",
                           needed_text),
      key<&RedisConf::key_prefix>("key_prefix", "Put in front of the identifier.",
                                  {.applies = Applies::at_once}),
      key<&RedisConf::pool_size>("pool_size", "Upper bound of connections of the process; 0 is read as 1.",
                                 {.applies = Applies::at_once}),
      key<&RedisConf::password_file>("password_file", "File with the password; read at each connection.",
                                     filled_text),
      key<&RedisConf::sentinel_password_file>("sentinel_password_file",
                                              "The same for the sentinels, if they have one of their own.",
                                              filled_text),
      key<&RedisConf::tls_ca>("tls_ca",
                              "PEM file with the roots that the server is verified by; unset: those of the "
                              "platform.",
                              filled_text),
      key<&RedisConf::tls_server_name>("tls_server_name",
                                       "Name expected in the server's certificate; unset: the host.",
                                       {.check = check_host, .applies = Applies::at_once}),
      key<&RedisConf::tls_client_cert>("tls_client_cert",
                                       "Certificate shown to the server, as PEM or a path.", pem_text),
      key<&RedisConf::tls_client_key>("tls_client_key", "Its private key.", pem_text),
  };
  static_assert(fields<RedisConf>() == rows.size() + 1, "the pin is below");
  return rows;
}

std::span<const Row<RedisFile>> Rows<RedisFile>::all() {
  static constexpr std::array rows = {
      part<&RedisFile::conf>(),
      key<&RedisFile::tls_pinned_cert_sha256>("tls_pinned_cert_sha256",
                                              "SHA-256 of the only certificate accepted, 64 hex digits.",
                                              {.applies = Applies::at_once}),
  };
  static_assert(fields<RedisFile>() == rows.size());
  return rows;
}

std::span<const Row<SqlConf>> Rows<SqlConf>::all() {
  static constexpr std::array rows = {
      key<&SqlConf::url>("url", "`postgres://` or `postgresql://`, `mysql://` or `mariadb://`, `sqlite://`.",
                         needed_text),
      key<&SqlConf::query>("query",
                           "Takes the identifier (`$1` for PostgreSQL, else `?`); the first column of the "
                           "first row is the destination.",
                           needed_text),
      key<&SqlConf::pool_size>("pool_size", "Upper bound of connections of the process; 0 is read as 1.",
                               {.applies = Applies::at_once}),
      key<&SqlConf::upsert_query>("upsert_query",
                                  "Takes identifier and destination; with `delete_query` it makes the store "
                                  "writable.",
                                  filled_text),
      key<&SqlConf::delete_query>("delete_query", "Takes the identifier.", filled_text),
      key<&SqlConf::prepared>("prepared",
                              "Whether statements are prepared; `false` for poolers that work per "
                              "transaction.",
                              {.applies = Applies::at_once}),
      key<&SqlConf::password_file>("password_file", "File with the password; read at each connection.",
                                   filled_text),
  };
  static_assert(fields<SqlConf>() == rows.size());
  return rows;
}

std::span<const Row<MappingConf>> Rows<MappingConf>::all() {
  static constexpr std::array rows = {
      key<&MappingConf::normalize>("normalize", "What is done to an identifier before it is looked up.",
                                   {.applies = Applies::at_once}),
      key<&MappingConf::positive_ttl>("positive_ttl", "Cache life of a mapping; `0s`: not cached.",
                                      {.applies = Applies::restart}),
      key<&MappingConf::negative_ttl>("negative_ttl", "Cache life of there being no mapping.",
                                      {.applies = Applies::restart}),
      key<&MappingConf::cache_max_entries>(
          "cache_max_entries",
          "Entries kept, at most a quarter of them for there being no mapping; 0: no "
          "cache.",
          {.applies = Applies::restart}),
      key<&MappingConf::lookup_timeout>(
          "lookup_timeout", "Limit of one lookup, waiting for the connection included.", positive),
      key<&MappingConf::on_error>("on_error",
                                  "What a login gets when the store does not answer: `stale`, the last known "
                                  "answer, or a temporary failure if there is none; `refuse`, a temporary "
                                  "failure unless the cache has a fresh answer; `default`, the default "
                                  "destination, which is wrong for every account that has moved.",
                                  {.applies = Applies::at_once}),
      key<&MappingConf::stale_ttl>("stale_ttl",
                                   "How long past its life an answer may be served while the store fails.",
                                   {.applies = Applies::at_once}),
      key<&MappingConf::require_at_start>("require_at_start",
                                          "Whether a store that cannot be reached ends the start.",
                                          {.applies = Applies::restart}),
      key<&MappingConf::snapshot>("snapshot",
                                  "File to which known answers are written every minute and at a clean stop, "
                                  "and from which they are read at the start.",
                                  filled_text),
  };
  static_assert(fields<MappingConf>() == rows.size() + 4,
                "source is below; file_path, redis and sql come from tables of their own");
  return rows;
}

std::span<const Row<MappingFile>> Rows<MappingFile>::all() {
  static constexpr std::array rows = {
      key<&MappingFile::source>("source", "Where accounts are looked up.",
                                {.required = true, .applies = Applies::at_once}),
      part<&MappingFile::conf>(),
      key<&MappingFile::file>("file", "For `source = \"file\"`."),
      key<&MappingFile::redis>("redis", "For `source = \"redis\"`."),
      key<&MappingFile::sql>("sql", "For `source = \"sql\"`."),
  };
  static_assert(fields<MappingFile>() == rows.size());
  return rows;
}

}  // namespace postern::conf
