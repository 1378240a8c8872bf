// SPDX-License-Identifier: GPL-3.0-or-later
// The claims are read by events, never as a tree: depth costs a counter, size nothing.
#include "protocols/token.hpp"

#include <array>
#include <nlohmann/json.hpp>

#include "protocols/base64.hpp"
#include "protocols/text.hpp"

namespace postern::protocols {
namespace {

using Json = nlohmann::json;

constexpr std::array<std::string_view, 5> well_known = {"email", "preferred_username", "upn", "unique_name",
                                                        "sub"};
constexpr int deepest = 32;

/// Picks the wanted strings of the outermost object. Of a repeated claim the last counts, as JSON readers
/// have it.
class Claims final : public nlohmann::json_sax<Json> {
 public:
  explicit Claims(std::string_view claim) {
    wanted_[0] = claim;
    for (size_t i = 0; i < well_known.size(); ++i) wanted_[i + 1] = well_known[i];
  }
  [[nodiscard]] std::string best() const {
    for (const std::string& value : found_)
      if (value.find('@') != std::string::npos) return value;
    return {};
  }

  bool null() override { return other(); }
  bool boolean(bool) override { return other(); }
  bool number_integer(number_integer_t) override { return other(); }
  bool number_unsigned(number_unsigned_t) override { return other(); }
  bool number_float(number_float_t, const string_t&) override { return other(); }
  bool binary(binary_t&) override { return other(); }
  bool string(string_t& value) override {
    if (depth_ != 1 || !object_) return true;
    for (size_t i = 0; i < wanted_.size(); ++i)
      if (!wanted_[i].empty() && key_ == wanted_[i]) found_[i] = value;
    return true;
  }
  bool key(string_t& value) override {
    if (depth_ == 1) key_ = value;
    return true;
  }
  bool start_object(size_t) override { return enter(true); }
  bool end_object() override { return --depth_, true; }
  bool start_array(size_t) override { return enter(false); }
  bool end_array() override { return --depth_, true; }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

 private:
  bool enter(bool object) {
    if (depth_ == 0) object_ = object;
    if (depth_ == 1) other();
    return ++depth_ <= deepest;
  }
  /// A claim of another type names nobody, also where an earlier one of its name did.
  bool other() {
    if (depth_ == 1 && object_)
      for (size_t i = 0; i < wanted_.size(); ++i)
        if (key_ == wanted_[i]) found_[i].clear();
    return true;
  }

  std::array<std::string_view, 1 + well_known.size()> wanted_;
  std::array<std::string, 1 + well_known.size()> found_;
  std::string key_;
  int depth_ = 0;
  bool object_ = false;
};

}  // namespace

std::string token_identifier(std::string_view token, std::string_view claim) {
  constexpr std::string_view own = "sw1.";
  if (token.starts_with(own)) {
    const std::string_view rest = token.substr(own.size());
    const size_t dot = rest.find('.');
    if (dot == std::string_view::npos) return {};
    auto text = from_base64url(rest.substr(dot + 1));
    return text && is_utf8(*text) ? std::move(*text) : std::string();
  }
  const size_t first = token.find('.');
  if (first == std::string_view::npos) return {};
  std::string_view payload = token.substr(first + 1);
  payload = payload.substr(0, payload.find('.'));
  const auto json = from_base64url(payload);
  if (!json) return {};
  Claims claims(claim);
  if (!Json::sax_parse(*json, &claims, Json::input_format_t::json, true)) return {};
  return claims.best();
}

}  // namespace postern::protocols
