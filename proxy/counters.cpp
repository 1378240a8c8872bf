// SPDX-License-Identifier: GPL-3.0-or-later
// The registry of cells by name. What a reload takes away stays here, so that counters never go back.
#include "proxy/counters.hpp"

namespace postern::proxy {
namespace {

template <class Map>
auto values(const Map& map) {
  std::vector<std::shared_ptr<const typename Map::mapped_type::element_type>> list;
  list.reserve(map.size());
  for (const auto& entry : map) list.push_back(entry.second);
  return list;
}

}  // namespace

size_t auth_method(std::string_view name) {
  constexpr size_t command = 4, unknown = 5;
  if (name.empty()) return unknown;
  for (size_t i = 0; i < command; ++i)
    if (name == auth_method_names[i]) return i;
  return command;
}

std::shared_ptr<ListenerCounters> Counters::listener(const std::string& name, conf::Protocol protocol) {
  const std::lock_guard lock(mutex_);
  // A listener that changes its protocol is another series: the protocol is one of the labels.
  auto& entry = listeners_[name + '/' + std::string(conf::name(protocol))];
  if (!entry) {
    entry = std::make_shared<ListenerCounters>();
    entry->name = name;
    entry->protocol = protocol;
    entry->workers = std::vector<ListenerCells>(workers.size());
  }
  return entry;
}

std::shared_ptr<DestinationCounters> Counters::destination(const std::string& name) {
  const std::lock_guard lock(mutex_);
  auto& entry = destinations_[name];
  if (!entry) {
    entry = std::make_shared<DestinationCounters>();
    entry->name = name;
    entry->workers = std::vector<DestinationCells>(workers.size());
  }
  return entry;
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
