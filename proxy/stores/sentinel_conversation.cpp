// SPDX-License-Identifier: GPL-3.0-or-later
// While a connection is subscribed nothing may be asked on it, so to ask again it is unsubscribed for a
// moment; an answer then says what an announcement in that moment would have said.
#include "proxy/stores/sentinel_conversation.hpp"

#include <array>
#include <utility>

#include "conf/scalars.hpp"
#include "conf/text.hpp"

namespace postern::proxy {
namespace {

constexpr std::string_view channel = "+switch-master";
constexpr const char* nonsense = "what the sentinel says is not Redis' protocol";

std::optional<RedisPlace> place_of(std::string_view host, std::string_view port) {
  const auto number = conf::parse_number(port, UINT16_MAX);
  if (!number || *number == 0 || !conf::is_host(host)) return std::nullopt;
  return RedisPlace{std::string(host), static_cast<uint16_t>(*number)};
}

}  // namespace

void SentinelConversation::send(What what, std::initializer_list<std::string_view> command,
                                std::string& out) {
  append_command(out, command);
  sent_.push_back(what);
}

void SentinelConversation::open(const conf::Secret& password, std::string& out) {
  if (!password.empty()) send(What::auth, {"AUTH", password.reveal()}, out);
  send(What::master, {"SENTINEL", "get-master-addr-by-name", service_}, out);
  send(What::subscribe, {"SUBSCRIBE", channel}, out);
}

void SentinelConversation::ask(std::string& out) {
  send(What::unsubscribe, {"UNSUBSCRIBE", channel}, out);
  send(What::master, {"SENTINEL", "get-master-addr-by-name", service_}, out);
  send(What::subscribe, {"SUBSCRIBE", channel}, out);
}

void SentinelConversation::receive(std::span<const uint8_t> bytes, std::vector<News>& news) {
  if (broken()) return;
  if (!reader_.feed(bytes)) {
    error_ = "the sentinel sent an answer that is too large";
    return;
  }
  RedisReply reply;
  while (!broken()) {
    const auto got = reader_.next(reply);
    if (got == RedisReader::Got::more) return;
    if (got == RedisReader::Got::broken)
      error_ = nonsense;
    else
      heard(reply, news);
  }
}

void SentinelConversation::heard(const RedisReply& reply, std::vector<News>& news) {
  using Kind = RedisReply::Kind;
  if (reply.kind == Kind::error) {
    error_ = read_error(reply.text).words;
    return;
  }
  const auto& items = reply.items;
  const bool announcement = reply.kind == Kind::list && items.size() == 3 && items[0].is_text();
  if (announcement && items[0].text == "message") {
    if (items[1].text == channel && items[2].is_text()) announced(items[2].text, news);
    return;
  }
  if (sent_.empty()) {
    error_ = nonsense;
    return;
  }
  const What what = sent_.front();
  sent_.pop_front();
  bool fits = false;
  switch (what) {
    case What::auth:
      fits = reply.kind == Kind::status && reply.text == "OK";
      break;
    case What::master:
      fits = reply.kind == Kind::nil || (reply.kind == Kind::list && items.size() == 2);
      if (fits)
        news.push_back({items.empty() ? std::nullopt : place_of(items[0].text, items[1].text), false});
      break;
    case What::subscribe:
      fits = announcement && items[0].text == "subscribe";
      break;
    case What::unsubscribe:
      fits = announcement && items[0].text == "unsubscribe";
      break;
  }
  if (!fits) error_ = nonsense;
}

/// "SERVICE OLD-HOST OLD-PORT NEW-HOST NEW-PORT"
void SentinelConversation::announced(const std::string& text, std::vector<News>& news) {
  std::array<std::string_view, 5> words;
  std::string_view rest = text;
  for (size_t i = 0; i < words.size(); ++i) {
    const size_t space = rest.find(' ');
    if ((space == std::string_view::npos) != (i + 1 == words.size())) return;
    words[i] = rest.substr(0, space);
    if (space != std::string_view::npos) rest.remove_prefix(space + 1);
  }
  if (words[0] != service_) return;
  if (auto place = place_of(words[3], words[4])) news.push_back({std::move(place), true});
}

}  // namespace postern::proxy
