// SPDX-License-Identifier: GPL-3.0-or-later
// The words of the file for every enumeration, in one place: matching them and printing them.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "conf/config.hpp"

namespace postern::conf {

template <class E>
struct Word {
  std::string_view text;
  E value;
};

/// Every spelling the file may use, the usual one first.
template <class E>
std::span<const Word<E>> words();

template <>
std::span<const Word<Protocol>> words();
template <>
std::span<const Word<TlsMode>> words();
template <>
std::span<const Word<ProxyMode>> words();
template <>
std::span<const Word<Forwarding>> words();
template <>
std::span<const Word<HeaderTrust>> words();
template <>
std::span<const Word<LogFormat>> words();
template <>
std::span<const Word<LogLevel>> words();
template <>
std::span<const Word<Normalize>> words();
template <>
std::span<const Word<MappingSource>> words();
template <>
std::span<const Word<OnError>> words();
template <>
std::span<const Word<ProxyTlv>> words();

template <class E>
std::optional<E> word_value(std::string_view text) {
  for (const auto& word : words<E>()) {
    if (word.text == text) return word.value;
  }
  return std::nullopt;
}

template <class E>
std::string_view word_text(E value) {
  for (const auto& word : words<E>()) {
    if (word.value == value) return word.text;
  }
  return {};
}

enum class TlsVersion : uint8_t { tls12, tls13 };

// The TLS names of configuration.md P2.3: any column, any case, "-" and "_" alike.
std::optional<Suite> suite_by_name(std::string_view text);
std::optional<Group> group_by_name(std::string_view text);
std::optional<TlsVersion> version_by_name(std::string_view text);

/// The names of the documentation, by enumerator.
template <class E>
std::span<const std::string_view> documented_names();
template <>
std::span<const std::string_view> documented_names<Suite>();
template <>
std::span<const std::string_view> documented_names<Group>();
template <>
std::span<const std::string_view> documented_names<TlsVersion>();

}  // namespace postern::conf
