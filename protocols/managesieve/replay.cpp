// SPDX-License-Identifier: GPL-3.0-or-later
// Lines and literals become responses; each is judged by what was asked before it.
#include "protocols/managesieve/replay.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "conf/secret.hpp"
#include "protocols/base64.hpp"
#include "protocols/sasl.hpp"
#include "protocols/text.hpp"

namespace postern::protocols {
namespace {

constexpr size_t longest_quoted = 1024;  // RFC 5804, 4

constexpr bool is_word(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
}

template <class Each>
void for_each_word(std::string_view text, Each&& each) {
  for (size_t at = 0; at < text.size();) {
    size_t end = at;
    while (end < text.size() && is_word(text[end])) ++end;
    if (end != at) each(text.substr(at, end - at));
    at = end + 1;
  }
}

bool begins_with(std::string_view text, std::string_view word) {
  return starts_with_word(text, word) && (text.size() == word.size() || !is_word(text[word.size()]));
}
bool is_ok(std::string_view text) { return begins_with(text, "OK"); }
bool is_final(std::string_view text) {
  return is_ok(text) || begins_with(text, "NO") || begins_with(text, "BYE");
}

/// The size of the literal that a line ends with, `{n}` or `{n+}`; what is too large to be true is
/// longest_line + 1.
std::optional<size_t> announced(std::string_view line) {
  if (!line.ends_with('}')) return std::nullopt;
  line.remove_suffix(line.ends_with("+}") ? 2 : 1);
  const size_t brace = line.rfind('{');
  if (brace == std::string_view::npos || brace + 1 == line.size()) return std::nullopt;
  const char* const end = line.data() + line.size();
  size_t size = 0;
  const auto [stop, error] = std::from_chars(line.data() + brace + 1, end, size);
  if (stop != end) return std::nullopt;
  constexpr size_t too_large = Replay::longest_line + 1;
  return error == std::errc() ? std::min(size, too_large) : too_large;
}

/// A string, quoted or as a literal, that holds base64 and so needs no escapes.
void add_string(std::string_view text, std::string& out) {
  const bool quoted = text.size() <= longest_quoted;
  out.reserve(out.size() + text.size() + 32);  // growing later would leave a copy behind
  out += quoted ? "\"" : fmt::format("{{{}+}}\r\n", text.size());
  out += text;
  out += quoted ? "\"\r\n" : "\r\n";
}

void add_base64(std::string_view secret, std::string& out) {
  std::string text = base64(secret);
  add_string(text, out);
  conf::wipe(text);
}

}  // namespace

ReplayStep ManageSieveReplay::advance(Input& in, std::string& out) {
  const size_t asked = out.size();
  while (await_ != Await::nothing) {
    if (out.size() != asked) return {};
    if (in_literal_) {
      const size_t count = std::min(literal_left_, in.size());
      if (!challenge_) response_ += in.view().substr(0, count);
      in.consume(count);
      literal_left_ -= count;
      if (literal_left_ != 0) return {};
      in_literal_ = false;
      literal_read(out);
      continue;
    }
    const auto text = in.line(longest_line);
    if (!text) return in.overlong() ? end(ReplayWant::failed, ReplayFault::protocol) : ReplayStep{};
    const ReplayStep step = line(*text, out);
    if (step.want == ReplayWant::start_tls && !in.empty())
      return end(ReplayWant::failed, ReplayFault::starttls);  // said in clear, to be read inside TLS
  }
  return last_;
}

ReplayStep ManageSieveReplay::line(std::string_view text, std::string& out) {
  if (std::exchange(line_end_due_, false) && text.empty()) return {};
  if (++lines_ > (await_ == Await::auth ? most_auth_lines : most_reply_lines))
    return end(ReplayWant::failed, ReplayFault::protocol);
  const auto size = announced(text);
  if (size && *size > longest_line) return end(ReplayWant::failed, ReplayFault::protocol);
  if (await_ == Await::auth && response_.empty() && !text.empty()) {
    const char first = text.front();
    if (first == '"' || first == '+') {
      answer_challenge(first == '"' ? text == "\"\"" : text.find_first_not_of(' ', 1) == text.npos, out);
      return {};
    }
    challenge_ = first == '{' && size;
  }
  if (!challenge_) {
    response_ += text;
    response_ += "\r\n";
    if (said_.size() + response_.size() + size.value_or(0) > longest_response)
      return end(ReplayWant::failed, ReplayFault::protocol);
  }
  if (!size) return response(std::exchange(response_, {}), out);
  in_literal_ = true;
  literal_left_ = *size;
  empty_challenge_ = *size == 0;
  return {};
}

/// A challenge is answered now; the line end behind it may come or not. Any other literal is amid a response.
ReplayStep ManageSieveReplay::literal_read(std::string& out) {
  if (!std::exchange(challenge_, false)) return {};
  line_end_due_ = true;
  answer_challenge(empty_challenge_, out);
  return {};
}

ReplayStep ManageSieveReplay::response(std::string_view text, std::string& out) {
  switch (await_) {
    case Await::greeting:
    case Await::block:
      return capability(text, out);
    case Await::starttls:
      return is_ok(text) ? end(ReplayWant::start_tls) : end(ReplayWant::failed, ReplayFault::starttls);
    case Await::xclient:
      return is_ok(text) ? end(ReplayWant::ready) : end(ReplayWant::failed, ReplayFault::forwarding);
    case Await::auth:
      return verdict(text);
    case Await::nothing:
      break;
  }
  return last_;
}

ReplayStep ManageSieveReplay::capability(std::string_view text, std::string& out) {
  if (is_ok(text)) {
    if (await_ == Await::block || rules_.tls != conf::TlsMode::starttls) return forward(out);
    if (!offers_.starttls) return end(ReplayWant::failed, ReplayFault::starttls);
    out += "STARTTLS\r\n";
    lines_ = 0;
    await_ = Await::starttls;
    return {};
  }
  // Names are strings; NO, BYE and other protocols are not.
  if (text.front() != '"' && text.front() != '{') return end(ReplayWant::failed, ReplayFault::greeting);
  std::string_view name;
  for_each_word(text, [&](std::string_view word) {
    if (name.empty()) {
      name = word;
      offers_.starttls |= same_word(word, "STARTTLS");
      offers_.xclient |= same_word(word, "XCLIENT");
      offers_.sasl |= same_word(word, "SASL");
    } else if (same_word(name, "SASL")) {
      offers_.plain |= same_word(word, "PLAIN");
      offers_.login |= same_word(word, "LOGIN");
    }
  });
  return {};
}

ReplayStep ManageSieveReplay::tls_started(std::string&) {
  offers_ = {};
  lines_ = 0;
  await_ = Await::block;
  return last_ = {};
}

ReplayStep ManageSieveReplay::forward(std::string& out) {
  if (rules_.tls == conf::TlsMode::plain && !rules_.allow_plaintext)
    return end(ReplayWant::failed, ReplayFault::plaintext);
  if (!rules_.forward || !offers_.xclient) return end(ReplayWant::ready);
  out += xclient_all(rules_.client);
  lines_ = 0;
  await_ = Await::xclient;
  return {};
}

ReplayStep ManageSieveReplay::end(ReplayWant want, ReplayFault fault) {
  await_ = Await::nothing;
  return last_ = {want, fault};
}

ReplayStep ManageSieveReplay::authenticate(std::string& out) {
  lines_ = 0;
  await_ = Await::auth;
  as_login_ = offers_.sasl && !offers_.plain && offers_.login && own_password(login_);
  if (as_login_) {
    out += "AUTHENTICATE \"LOGIN\"\r\n";
  } else {
    out += fmt::format("AUTHENTICATE \"{}\" ", row(login_.mechanism).name);
    add_base64(login_.message.reveal(), out);
  }
  return last_ = {};
}

/// What is neither yes nor no is for the client as well.
ReplayStep ManageSieveReplay::verdict(std::string_view text) {
  said_ += text;
  if (!is_final(text)) return {};
  return end(is_ok(text) ? ReplayWant::accepted : ReplayWant::rejected);
}

void ManageSieveReplay::answer_challenge(bool empty, std::string& out) {
  const unsigned before = challenges_++;
  const auto parts = as_login_ ? own_password(login_) : std::nullopt;
  const bool oauth = login_.mechanism != Mechanism::plain;
  if (parts && before < 2)
    add_base64(before == 0 ? parts->authcid : parts->password, out);
  else if (!parts && before == 0 && empty && !oauth)
    add_base64(login_.message.reveal(), out);
  else
    out += oauth ? "\"AQ==\"\r\n" : "\"*\"\r\n";
}

}  // namespace postern::protocols
