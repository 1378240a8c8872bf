// SPDX-License-Identifier: GPL-3.0-or-later
// Tokens under any bytes, and any claims inside a well-formed one: a name comes from a string with an @ that
// a JSON reader of another kind finds, too.
#include "protocols/token.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "protocols/base64.hpp"
#include "protocols/text.hpp"
#include "test/fuzz/require.hpp"

using namespace postern;
using fuzz::require;

namespace {

/// The whole document as a tree; what the other one never builds.
std::string by_tree(std::string_view claims) {
  const auto tree = nlohmann::json::parse(claims, nullptr, false);
  if (!tree.is_object()) return {};
  for (const char* claim : {"name", "email", "preferred_username", "upn", "unique_name", "sub"})
    if (const auto at = tree.find(claim); at != tree.end() && at->is_string())
      if (const auto& value = at->get_ref<const std::string&>(); value.find('@') != std::string::npos)
        return value;
  return {};
}

std::string url(std::string_view bytes) {
  std::string text = protocols::base64(bytes);
  for (char& c : text) c = c == '+' ? '-' : c == '/' ? '_' : c;
  return text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = fuzz::text_of(data, size);
  const std::string any = protocols::token_identifier(text, "name");
  require(protocols::is_utf8(any) && any.size() <= size, "more than there is");
  const std::string name = protocols::token_identifier("h." + url(text) + ".s", "name");
  // Deep ones are refused by one reader only.
  if (!name.empty()) require(name == by_tree(text), "another name");
  if (std::count(text.begin(), text.end(), '[') + std::count(text.begin(), text.end(), '{') <= 32)
    require(name == by_tree(text), "no name");
  const std::string own = protocols::token_identifier("sw1.x." + url(text), "name");
  require(own == (protocols::is_utf8(text) ? text : std::string_view()), "another name in sw1");
  return 0;
}
