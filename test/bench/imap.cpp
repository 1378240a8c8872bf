// SPDX-License-Identifier: GPL-3.0-or-later
// Lines and literals of the few IMAP commands the benchmark speaks, and the header in front of them.
#include "test/bench/imap.hpp"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <utility>

namespace postern::bench {
namespace {

constexpr size_t max_literal = 4096;
constexpr size_t max_words = 100;  // ID has a long list
constexpr std::string_view logged_in_as = "Logged in as ";

std::string upper(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return static_cast<char>(std::toupper(static_cast<unsigned char>(c))); });
  return out;
}

std::optional<std::string> from_base64(std::string_view text) {
  if (text.empty() || text.size() % 4 != 0 || text.size() > max_literal) return std::nullopt;
  std::string out(text.size() / 4 * 3, '\0');
  const int size =
      EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                      reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  if (size < 0) return std::nullopt;
  const auto padding = static_cast<size_t>(std::count(text.end() - 2, text.end(), '='));
  out.resize(static_cast<size_t>(size) - padding);
  return out;
}

// `{12}` or `{12+}` at the end of a line.
struct LiteralMark {
  size_t size = 0;
  bool waits = false;
};
std::optional<LiteralMark> take_literal_mark(std::string_view& line) {
  if (line.empty() || line.back() != '}') return std::nullopt;
  const size_t open = line.rfind('{');
  if (open == std::string_view::npos) return std::nullopt;
  std::string_view digits = line.substr(open + 1, line.size() - open - 2);
  LiteralMark mark;
  mark.waits = digits.empty() || digits.back() != '+';
  if (!mark.waits) digits.remove_suffix(1);
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), mark.size);
  if (error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
  line = line.substr(0, open);
  return mark;
}

std::string dotted(std::string_view four) {
  std::string out;
  for (const char byte : four.substr(0, 4))
    out += (out.empty() ? "" : ".") + std::to_string(static_cast<unsigned char>(byte));
  return out;
}

HeaderState read_version_1(std::string_view input, Forwarded& header) {
  const size_t end = input.find("\r\n");
  if (end == std::string_view::npos) return input.size() > 107 ? HeaderState::wrong : HeaderState::partial;
  header.size = end + 2;
  std::string_view line = input.substr(0, end);
  constexpr std::string_view tcp4 = "PROXY TCP4 ";
  if (line.substr(0, tcp4.size()) == tcp4) {
    line.remove_prefix(tcp4.size());
    header.address = line.substr(0, line.find(' '));
  }
  return HeaderState::whole;
}

}  // namespace

std::string user_name(uint64_t number) { return "u" + std::to_string(number) + "@bench.test"; }

std::string password_of(const std::string& user) { return "pw-" + user; }

HeaderState read_forwarded(std::string_view input, Forwarded& header) {
  constexpr std::string_view signature("\r\n\r\n\0\r\nQUIT\n", 12);
  constexpr size_t fixed = 16;
  constexpr std::string_view version_1 = "PROXY ";
  if (input.substr(0, version_1.size()) == version_1.substr(0, input.size()))
    return read_version_1(input, header);
  if (input.substr(0, signature.size()) != signature.substr(0, input.size())) return HeaderState::wrong;
  if (input.size() < fixed) return HeaderState::partial;
  const auto byte = [&input](size_t at) { return static_cast<unsigned char>(input[at]); };
  header.size = fixed + static_cast<size_t>(byte(14) << 8U | byte(15));
  if (input.size() < header.size) return HeaderState::partial;
  if (byte(12) == 0x21 && byte(13) == 0x11 && header.size >= fixed + 12)
    header.address = dotted(input.substr(fixed));
  return HeaderState::whole;
}

void ImapServer::literal(std::string_view bytes) {
  words_.back().append(bytes);
  literal_due_ -= bytes.size();
}

bool ImapServer::split(std::string_view text) {
  while (!text.empty()) {
    if (text.front() == ' ') {
      text.remove_prefix(1);
      continue;
    }
    if (words_.size() >= max_words) return false;
    std::string& word = words_.emplace_back();
    if (text.front() != '"') {
      const size_t end = std::min(text.find(' '), text.size());
      word = text.substr(0, end);
      text.remove_prefix(end);
      continue;
    }
    size_t i = 1;
    for (; i < text.size() && text[i] != '"'; ++i) {
      if (text[i] == '\\') ++i;
      if (i < text.size()) word += text[i];
    }
    if (i >= text.size()) return false;
    text.remove_prefix(i + 1);
  }
  return true;
}

ImapServer::Next ImapServer::line(std::string_view text, std::string& out) {
  if (!text.empty() && text.back() == '\r') text.remove_suffix(1);
  if (!tag_.empty()) return sasl(text, out);
  const auto mark = take_literal_mark(text);
  if (!split(text)) return Next::broken;
  if (!mark) return command(out);
  if (mark->size > max_literal || words_.size() >= max_words) return Next::broken;
  words_.emplace_back();
  literal_due_ = mark->size;
  if (mark->waits) out += "+ OK\r\n";
  return Next::on;
}

ImapServer::Next ImapServer::command(std::string& out) {
  const std::vector<std::string> words = std::exchange(words_, {});
  if (words.size() < 2) return Next::broken;
  const std::string& tag = words[0];
  const std::string verb = upper(words[1]);
  if (verb == "LOGIN" && words.size() == 4 && !logged_in_) {
    judge(tag, words[2], words[3], out);
  } else if (verb == "AUTHENTICATE" && words.size() >= 3 && upper(words[2]) == "PLAIN" && !logged_in_) {
    tag_ = tag;
    if (words.size() == 4) return sasl(words[3], out);
    out += "+ \r\n";
  } else if (verb == "CAPABILITY") {
    out += "* CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN LITERAL+ ID\r\n" + tag + " OK CAPABILITY completed\r\n";
  } else if (verb == "ID") {
    out += "* ID NIL\r\n" + tag + " OK ID completed\r\n";
  } else if (verb == "NOOP") {
    out += tag + " OK NOOP completed\r\n";
  } else if (verb == "LOGOUT") {
    out += "* BYE bye\r\n" + tag + " OK LOGOUT completed\r\n";
    return Next::leave;
  } else {
    return Next::broken;
  }
  return Next::on;
}

ImapServer::Next ImapServer::sasl(std::string_view message, std::string& out) {
  const std::string tag = std::exchange(tag_, {});
  const auto plain = from_base64(message);
  if (!plain) return Next::broken;
  const size_t first = plain->find('\0');
  const size_t second = first == std::string::npos ? first : plain->find('\0', first + 1);
  if (second == std::string::npos) return Next::broken;
  judge(tag, plain->substr(first + 1, second - first - 1), plain->substr(second + 1), out);
  return Next::on;
}

void ImapServer::judge(const std::string& tag, const std::string& user, const std::string& password,
                       std::string& out) {
  logged_in_ = password == password_of(user);
  out += logged_in_ ? tag + " OK " + std::string(logged_in_as) + user + "\r\n"
                    : tag + " NO [AUTHENTICATIONFAILED] wrong password\r\n";
}

void ImapClient::begin(std::string user, bool whole) {
  user_ = std::move(user);
  whole_ = whole;
  state_ = State::greeting;
  partial_.clear();
}

std::string_view ImapClient::waits_for() const {
  constexpr std::array<std::string_view, 6> names{"the greeting", "LOGIN",  "NOOP",
                                                  "BYE",          "LOGOUT", "nothing"};
  return names[static_cast<size_t>(state_)];
}

ImapClient::Next ImapClient::take(std::string_view input, std::string& out, std::string& why) {
  Next told = Next::more;
  while (!input.empty()) {
    const size_t end = input.find('\n');
    partial_.append(input.substr(0, end));
    if (partial_.size() > max_literal) {
      why = "a line without end";
      return Next::wrong;
    }
    if (end == std::string_view::npos) break;
    input.remove_prefix(end + 1);
    const std::string text = std::exchange(partial_, {});
    const Next next = text.empty() || text.back() != '\r'
                          ? Next::wrong
                          : line(std::string_view(text).substr(0, text.size() - 1), out, why);
    if (next == Next::wrong) {
      if (why.empty()) why = "instead of the answer to " + std::string(waits_for()) + ": " + text;
      return next;
    }
    if (next != Next::more) told = next;
    if ((told == Next::over || (told == Next::logged_in && !whole_)) && !input.empty()) {
      why = "more lines than asked for";
      return Next::wrong;
    }
  }
  return told;
}

ImapClient::Next ImapClient::line(std::string_view text, std::string& out, std::string& why) {
  switch (state_) {
    case State::greeting:
      if (text.substr(0, 4) != "* OK") return Next::wrong;
      out += "a1 LOGIN " + user_ + ' ' + password_of(user_) + "\r\n";
      state_ = State::login;
      return Next::more;
    case State::login:
      if (text.substr(0, 2) == "* ") return Next::more;  // a proxy may announce capabilities here
      if (text.substr(0, 6) != "a1 OK ") return Next::wrong;
      // The backend's own words: nobody else knows who logged in.
      if (text.find(std::string(logged_in_as) + user_) == std::string_view::npos) {
        why = "the backend's answer to the login was changed: " + std::string(text);
        return Next::wrong;
      }
      if (whole_) out += "a2 NOOP\r\n";
      state_ = whole_ ? State::noop : State::over;
      return Next::logged_in;
    case State::noop:
      if (text != "a2 OK NOOP completed") return Next::wrong;
      out += "a3 LOGOUT\r\n";
      state_ = State::goodbye;
      return Next::more;
    case State::goodbye:
      state_ = State::logout;
      return text == "* BYE bye" ? Next::more : Next::wrong;
    case State::logout:
      state_ = State::over;
      return text == "a3 OK LOGOUT completed" ? Next::over : Next::wrong;
    case State::over:
      return Next::wrong;
  }
  return Next::wrong;
}

}  // namespace postern::bench
