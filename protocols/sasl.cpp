// SPDX-License-Identifier: GPL-3.0-or-later
// Rows, and the one path through an exchange.
#include "protocols/sasl.hpp"

#include <algorithm>
#include <array>

#include "protocols/base64.hpp"
#include "protocols/text.hpp"

namespace postern::protocols {
namespace {

constexpr std::array<MechanismRow, mechanism_count> rows = {{
    {Mechanism::plain, "PLAIN", true},
    {Mechanism::login, "LOGIN", true},
    {Mechanism::oauthbearer, "OAUTHBEARER", false},
    {Mechanism::xoauth2, "XOAUTH2", false},
}};
static_assert([] {
  for (size_t i = 0; i < rows.size(); ++i)
    if (rows[i].mechanism != static_cast<Mechanism>(i)) return false;
  return true;
}());

constexpr std::string_view username_prompt = "VXNlcm5hbWU6";
constexpr std::string_view password_prompt = "UGFzc3dvcmQ6";

}  // namespace

const MechanismRow& row(Mechanism mechanism) { return rows[static_cast<size_t>(mechanism)]; }

std::optional<Mechanism> mechanism_named(std::string_view name) {
  for (const MechanismRow& row : rows)
    if (same_word(row.name, name)) return row.mechanism;
  return std::nullopt;
}

bool listed(const conf::CapabilitiesConf& capabilities, Mechanism mechanism) {
  return std::ranges::any_of(capabilities.sasl,
                             [&](const std::string& name) { return same_word(name, row(mechanism).name); });
}

std::vector<std::string_view> advertised(const conf::CapabilitiesConf& capabilities, bool clear_ok) {
  std::vector<std::string_view> names;
  for (const std::string& name : capabilities.sasl) {
    const auto mechanism = mechanism_named(name);
    if (!mechanism || (*mechanism == Mechanism::login && !capabilities.advertise_login)) continue;
    if (row(*mechanism).clear_text && !clear_ok) continue;
    names.push_back(row(*mechanism).name);
  }
  return names;
}

SaslExchange::Next SaslExchange::begin(Mechanism mechanism, std::optional<std::string_view> initial) {
  reset();
  mechanism_ = mechanism;
  if (initial == "=") initial = "";
  // To LOGIN an empty name is no name: it asks.
  if (!initial || (mechanism == Mechanism::login && initial->empty())) {
    challenge_ = mechanism == Mechanism::login ? username_prompt : std::string_view();
    return Next::challenge;
  }
  return take(*initial);
}

SaslExchange::Next SaslExchange::answer(std::string_view line) {
  return line == "*" ? Next::aborted : take(line);
}

SaslExchange::Next SaslExchange::take(std::string_view base64) {
  auto decoded = from_base64(base64);
  if (!decoded) return Next::bad_base64;
  conf::Secret message(std::move(*decoded));

  login_.method = row(mechanism_).name;
  login_.mechanism = mechanism_ == Mechanism::login ? Mechanism::plain : mechanism_;
  if (mechanism_ == Mechanism::login) {
    if (!user_) {
      if (message.empty()) return Next::malformed;
      user_ = std::move(message);
      challenge_ = password_prompt;
      return Next::challenge;
    }
    message = make_plain(user_->reveal(), message.reveal());
  }
  if (login_.mechanism == Mechanism::plain) {
    const auto parts = split_plain(message.reveal());
    if (!parts) return Next::malformed;
    login_.user = parts->authcid;
  } else {
    auto parts = split_oauth(message.reveal());
    if (!parts) return Next::malformed;
    login_.user = std::move(parts->user);
  }
  login_.message = std::move(message);
  return Next::complete;
}

void SaslExchange::reset() {
  challenge_ = {};
  user_.reset();
  login_ = Login();
}

}  // namespace postern::protocols
