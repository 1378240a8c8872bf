// SPDX-License-Identifier: GPL-3.0-or-later
// [mapping]: what its tables come to.
#include <algorithm>
#include <utility>

#include "conf/build/draft.hpp"
#include "conf/scalars.hpp"

namespace postern::conf {

void build_mapping(Draft& draft) {
  if (!draft.file.mapping) return;
  MappingFile& file = *draft.file.mapping;
  MappingConf& mapping = draft.config.mapping;
  mapping = file.conf;
  mapping.source = file.source.value_or(MappingSource::file);
  if (file.file) mapping.file_path = file.file->path;
  if (file.redis) {
    mapping.redis = file.redis->conf;
    mapping.redis->pool_size = std::max(mapping.redis->pool_size, 1u);
    if (file.redis->tls_pinned_cert_sha256) {
      auto pin = parse_pin(*file.redis->tls_pinned_cert_sha256);
      if (pin) mapping.redis->tls_pinned_cert_sha256 = std::move(*pin);
      if (!pin) draft.add("mapping.redis.tls_pinned_cert_sha256", std::move(pin.error().text));
    }
  }
  if (file.sql) {
    mapping.sql = file.sql;
    mapping.sql->pool_size = std::max(mapping.sql->pool_size, 1u);
  }
}

}  // namespace postern::conf
