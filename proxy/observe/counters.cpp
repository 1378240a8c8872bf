// SPDX-License-Identifier: GPL-3.0-or-later
// The registry of cells by name. What a reload takes away stays here, so that counters never go back.
#include "proxy/observe/counters.hpp"

#include "tls/engine.hpp"

namespace postern::proxy {
namespace {

template <class Map>
auto values(const Map& map) {
  std::vector<std::shared_ptr<const typename Map::mapped_type::element_type>> list;
  list.reserve(map.size());
  for (const auto& entry : map) list.push_back(entry.second);
  return list;
}

/// A listener that changes its protocol is another series: the protocol is one of the labels.
std::string listener_key(const std::string& name, conf::Protocol protocol) {
  return name + '/' + std::string(conf::name(protocol));
}

}  // namespace

std::string_view tls_result_name(size_t i) {
  if (i == 0) return "ok";
  if (i == tls_result_count - 1) return "timeout";
  static_assert(tls_result_count == 3 + static_cast<size_t>(tls::Failure::memory));
  return tls::name(static_cast<tls::Failure>(i - 1));
}

size_t auth_method(std::string_view name) {
  constexpr size_t command = 4, unknown = 5;
  if (name.empty()) return unknown;
  for (size_t i = 0; i < command; ++i)
    if (name == auth_method_names[i]) return i;
  return command;
}

std::shared_ptr<ListenerCounters> Counters::listener(const std::string& name, conf::Protocol protocol) const {
  const std::lock_guard lock(mutex_);
  if (const auto found = listeners_.find(listener_key(name, protocol)); found != listeners_.end())
    return found->second;
  auto made = std::make_shared<ListenerCounters>();
  made->name = name;
  made->protocol = protocol;
  made->workers = std::vector<ListenerCells>(workers.size());
  return made;
}

std::shared_ptr<DestinationCounters> Counters::destination(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  if (const auto found = destinations_.find(name); found != destinations_.end()) return found->second;
  auto made = std::make_shared<DestinationCounters>();
  made->name = name;
  made->workers = std::vector<DestinationCells>(workers.size());
  return made;
}

std::shared_ptr<ListenerCounters> Counters::keep(std::shared_ptr<ListenerCounters> counters) {
  const std::lock_guard lock(mutex_);
  listeners_.emplace(listener_key(counters->name, counters->protocol), counters);
  return counters;
}

std::shared_ptr<DestinationCounters> Counters::keep(std::shared_ptr<DestinationCounters> counters) {
  const std::lock_guard lock(mutex_);
  destinations_.emplace(counters->name, counters);
  return counters;
}

std::vector<std::shared_ptr<const ListenerCounters>> Counters::listeners() const {
  const std::lock_guard lock(mutex_);
  return values(listeners_);
}

std::vector<std::shared_ptr<const DestinationCounters>> Counters::destinations() const {
  const std::lock_guard lock(mutex_);
  return values(destinations_);
}

}  // namespace postern::proxy
