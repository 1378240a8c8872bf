// SPDX-License-Identifier: GPL-3.0-or-later
// What the templates of schema.hpp share.
#include "conf/schema/codecs.hpp"

#include <fmt/format.h>

namespace postern::conf {

TypeDoc::TypeDoc() = default;
TypeDoc::TypeDoc(Shape given, std::string text) : shape(given), name(std::move(text)) {}
TypeDoc::TypeDoc(const TypeDoc&) = default;
TypeDoc::TypeDoc(TypeDoc&&) noexcept = default;
TypeDoc& TypeDoc::operator=(const TypeDoc&) = default;
TypeDoc& TypeDoc::operator=(TypeDoc&&) noexcept = default;
TypeDoc::~TypeDoc() = default;

std::string word_fault(std::string_view found, std::span<const std::string_view> known) {
  std::string list;
  for (const std::string_view word : known) {
    if (!list.empty()) list += ", ";
    list += word;
  }
  return fmt::format("{} is not one of {}", quoted(found), list);
}

}  // namespace postern::conf
