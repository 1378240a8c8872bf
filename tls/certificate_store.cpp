// SPDX-License-Identifier: GPL-3.0-or-later
// Certificates by id and by name. Two of one name live side by side when their key types differ.
#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "conf/text.hpp"
#include "tls/certificate.hpp"

namespace postern::tls {
namespace {

struct TextHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};
template <class T>
using ByText = std::unordered_map<std::string, T, TextHash, std::equal_to<>>;

std::shared_ptr<const Certificate>& place(CertificateStore::Match& match, KeyType type) {
  return type == KeyType::ecdsa ? match.ecdsa : match.rsa;
}

/// Names as they are registered: lower case, "*." and a trailing dot removed, "*" is the catch-all.
void register_names(Certificate& certificate, const conf::CertificateConf& entry) {
  certificate.id = entry.id;
  certificate.catch_all = entry.is_default;
  std::vector<std::string> names;
  std::vector<std::string> shown;
  for (const std::string& given : entry.subjects.empty() ? certificate.names : entry.subjects) {
    std::string name = conf::ascii_lower(given);
    if (name.ends_with('.')) name.pop_back();
    if (!name.empty() && std::find(shown.begin(), shown.end(), name) == shown.end()) shown.push_back(name);
    if (name.starts_with("*.")) name.erase(0, 2);
    if (name == "*")
      certificate.catch_all = true;
    else if (!name.empty() && std::find(names.begin(), names.end(), name) == names.end())
      names.push_back(std::move(name));
  }
  certificate.names = std::move(names);
  certificate.shown = std::move(shown);
}

bool expired(const Certificate& certificate, std::time_t now) { return certificate.not_after < now; }

std::string date(std::time_t when) {
  std::tm tm{};
  gmtime_r(&when, &tm);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &tm)};
}

}  // namespace

struct CertificateStore::Index {
  ByText<std::shared_ptr<const Certificate>> ids;
  ByText<Match> names;
  Match catch_all;
  size_t entries = 0;
};

CertificateStore::CertificateStore() : index_(std::make_unique<Index>()) {}
CertificateStore::~CertificateStore() = default;

conf::Result<std::shared_ptr<const Certificate>> load_certificate(const conf::CertificateConf& entry) {
  Pair pair = load_pair(entry.cert, entry.key);
  if (!pair.error.empty()) return conf::error(std::move(pair.error));
  register_names(pair.certificate, entry);
  return std::make_shared<const Certificate>(std::move(pair.certificate));
}

std::shared_ptr<const CertificateStore> CertificateStore::load(
    const std::vector<conf::CertificateConf>& entries,
    const std::shared_ptr<const CertificateStore>& previous, conf::Problems& problems,
    std::vector<std::string>* kept) {
  const std::time_t now = std::time(nullptr);
  std::shared_ptr<CertificateStore> store(new CertificateStore);
  Index& index = *store->index_;
  index.entries = entries.size();
  for (const conf::CertificateConf& entry : entries) {
    const auto last = previous ? previous->by_id(entry.id) : nullptr;
    std::shared_ptr<const Certificate> chosen;
    Pair pair = load_pair(entry.cert, entry.key);
    const std::string key = entry.path + (pair.of_key ? ".key" : ".cert");
    if (!pair.exposed.empty()) problems.warn(entry.path + ".key", pair.exposed);
    if (!pair.error.empty()) {
      if (!last || !kept) {
        problems.add(key, std::move(pair.error));
        continue;
      }
      problems.warn(key, pair.error + "; the previous certificate stays in use");
    } else if (last && kept && expired(pair.certificate, now) && pair.certificate.sha256 != last->sha256) {
      problems.warn(key, "the new certificate expired on " + date(pair.certificate.not_after) +
                             "; the previous one stays in use");
    } else {
      if (expired(pair.certificate, now))
        problems.warn(key, "the certificate expired on " + date(pair.certificate.not_after));
      else if (pair.certificate.not_before > now)
        problems.warn(key, "the certificate is not valid before " + date(pair.certificate.not_before));
      register_names(pair.certificate, entry);
      chosen = std::make_shared<const Certificate>(std::move(pair.certificate));
    }
    if (!chosen) {
      // The old pair under the new entry's names and files: what is watched is what is configured now.
      auto again = std::make_shared<Certificate>(*last);
      if (!entry.subjects.empty()) register_names(*again, entry);
      again->files.clear();
      for (const auto& path : {pem_path(entry.cert), pem_path(entry.key.reveal())})
        if (path) again->files.push_back(*path);
      chosen = std::move(again);
      kept->push_back(entry.id);
    }
    if (last && *last == *chosen) chosen = last;
    store->all_.push_back(chosen);
    index.ids.emplace(chosen->id, chosen);
    for (const std::string& name : chosen->names) {
      auto& slot = place(index.names[name], chosen->key_type);
      if (!slot)
        slot = chosen;
      else
        problems.warn(entry.path, "the name " + conf::quoted(name) + " belongs to certificate " +
                                      conf::quoted(slot->id) + " already, which comes first");
    }
    if (chosen->catch_all) {
      auto& slot = place(index.catch_all, chosen->key_type);
      if (!slot)
        slot = chosen;
      else
        problems.warn(entry.path, "certificate " + conf::quoted(slot->id) + " is the catch-all already");
    }
  }
  return previous && previous->all_ == store->all_ ? previous : store;
}

std::shared_ptr<const Certificate> CertificateStore::by_id(std::string_view id) const {
  const auto found = index_->ids.find(id);
  return found == index_->ids.end() ? nullptr : found->second;
}

CertificateStore::Match CertificateStore::by_name(std::string_view server_name) const {
  if (server_name.empty()) return {};
  auto found = index_->names.find(server_name);
  if (found == index_->names.end()) {
    const size_t dot = server_name.find('.');
    if (dot == std::string_view::npos) return {};
    found = index_->names.find(server_name.substr(dot + 1));
  }
  return found == index_->names.end() ? Match{} : found->second;
}

CertificateStore::Match CertificateStore::with_twin(
    const std::shared_ptr<const Certificate>& certificate) const {
  Match match;
  for (const std::string& name : certificate->names)
    if (const auto found = index_->names.find(name);
        found != index_->names.end() && !(match.ecdsa && match.rsa))
      match = found->second;
  place(match, certificate->key_type) = certificate;
  return match;
}

CertificateStore::Match CertificateStore::fallback() const {
  const Match& all = index_->catch_all;
  if (all.ecdsa && all.rsa) return all;
  if (all) return with_twin(all.ecdsa ? all.ecdsa : all.rsa);
  return with_twin(index_->entries == 1 && all_.size() == 1 ? all_.front() : self_signed());
}

bool CertificateStore::usable() const {
  const std::time_t now = std::time(nullptr);
  return std::none_of(all_.begin(), all_.end(),
                      [now](const auto& certificate) { return expired(*certificate, now); });
}

std::vector<std::string> CertificateStore::files() const {
  std::vector<std::string> files;
  for (const auto& certificate : all_)
    files.insert(files.end(), certificate->files.begin(), certificate->files.end());
  std::sort(files.begin(), files.end());
  files.erase(std::unique(files.begin(), files.end()), files.end());
  return files;
}

}  // namespace postern::tls
