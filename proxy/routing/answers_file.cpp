// SPDX-License-Identifier: GPL-3.0-or-later
// Text, since identifiers have no control characters; and whoever wonders what is kept can read it.
#include "proxy/routing/answers_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <map>
#include <system_error>

#include "conf/files.hpp"
#include "conf/text.hpp"
#include "protocols/identity.hpp"
#include "protocols/proxy_tlv.hpp"

namespace postern::proxy {
namespace {

constexpr std::string_view title = "postern answers 1 ";
constexpr std::string_view destination_word = "destination ";
constexpr std::string_view end_word = "end ";
constexpr size_t largest_file = 1u << 30;

uint32_t checksum(std::string_view text) {
  return protocols::crc32c({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

/// FNV-1a; nobody who could choose its input gains anything by a collision.
uint64_t mix(uint64_t hash, std::string_view text) {
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return (hash ^ 0xff) * 0x100000001b3;  // the end of a part
}

std::string_view without_userinfo(std::string_view url) {
  const size_t at = url.rfind('@');
  return at == std::string_view::npos ? url : url.substr(at);
}

/// Takes a number and one space, or the line's end, off the front.
template <class T>
bool take_number(std::string_view& rest, T& number, int base = 10) {
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), number, base);
  if (error != std::errc() || end == rest.data()) return false;
  rest.remove_prefix(static_cast<size_t>(end - rest.data()));
  if (rest.empty()) return true;
  if (rest.front() != ' ') return false;
  rest.remove_prefix(1);
  return true;
}

std::string_view take_line(std::string_view& rest) {
  const size_t end = rest.find('\n');
  const std::string_view line = rest.substr(0, end);
  rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  return line;
}

std::string system_text(int error) { return std::generic_category().message(error); }

}  // namespace

uint64_t answers_fingerprint(const conf::MappingConf& mapping) {
  uint64_t hash = mix(0xcbf29ce484222325, mapping.normalize == conf::Normalize::lowercase ? "l" : "n");
  if (mapping.source == conf::MappingSource::redis && mapping.redis) {
    hash = mix(hash, without_userinfo(mapping.redis->url.reveal()));
    hash = mix(hash, mapping.redis->key_prefix);
  }
  if (mapping.source == conf::MappingSource::sql && mapping.sql) {
    hash = mix(hash, without_userinfo(mapping.sql->url.reveal()));
    hash = mix(hash, mapping.sql->query);
  }
  return hash;
}

conf::Result<AnswersFile> parse_answers(std::string_view text) {
  const size_t end_at = text.size() < 2 ? std::string_view::npos : text.rfind('\n', text.size() - 2);
  if (end_at == std::string_view::npos || !text.ends_with('\n')) return conf::error("it has no end");
  const std::string_view body = text.substr(0, end_at + 1);
  std::string_view last = text.substr(end_at + 1, text.size() - end_at - 2);
  uint64_t count = 0;
  uint32_t sum = 0;
  if (!last.starts_with(end_word)) return conf::error("it has no end");
  last.remove_prefix(end_word.size());
  if (!take_number(last, count) || !take_number(last, sum, 16) || !last.empty())
    return conf::error("it has no end");
  if (sum != checksum(body)) return conf::error("its checksum is wrong");

  AnswersFile file;
  std::string_view rest = body;
  std::string_view first = take_line(rest);
  if (!first.starts_with(title)) return conf::error("it is of another kind or version");
  first.remove_prefix(title.size());
  if (!take_number(first, file.fingerprint, 16) || !take_number(first, file.written) || !first.empty())
    return conf::error("its first line makes no sense");
  while (rest.starts_with(destination_word))
    file.destinations.push_back(take_line(rest).substr(destination_word.size()));
  file.lines.reserve(std::min<uint64_t>(count, body.size() / 8));
  while (!rest.empty()) {
    std::string_view line = take_line(rest);
    AnswersFile::Line answer;
    if (!take_number(line, answer.destination) || !take_number(line, answer.expires) || line.empty() ||
        answer.destination >= file.destinations.size() || !protocols::acceptable_identifier(line))
      return conf::error("one of its lines makes no sense");
    answer.identifier = line;
    file.lines.push_back(answer);
  }
  if (file.lines.size() != count) return conf::error("it has more or fewer lines than it says");
  return file;
}

std::string format_answers(const AnswersFile& file) {
  std::string text = fmt::format("{}{:016x} {}\n", title, file.fingerprint, file.written);
  for (const std::string_view name : file.destinations) text += fmt::format("{}{}\n", destination_word, name);
  for (const AnswersFile::Line& line : file.lines)
    fmt::format_to(std::back_inserter(text), "{} {} {}\n", line.destination, line.expires, line.identifier);
  const uint32_t sum = checksum(text);
  text += fmt::format("{}{} {:08x}\n", end_word, file.lines.size(), sum);
  return text;
}

std::string answers_of(const RouteCache& cache, uint64_t fingerprint, uint64_t now_ms, int64_t wall_ms) {
  AnswersFile head;
  head.fingerprint = fingerprint;
  head.written = wall_ms;
  std::map<std::string, uint32_t, std::less<>> numbers;
  std::string lines;
  size_t count = 0;
  for (size_t shard = 0; shard < cache.shards(); ++shard)
    cache.each_mapping(
        shard, now_ms, [&](std::string_view identifier, const std::string& destination, int64_t left_ms) {
          if (conf::has_control(destination)) return;
          const auto number = numbers.try_emplace(destination, static_cast<uint32_t>(numbers.size())).first;
          fmt::format_to(std::back_inserter(lines), "{} {} {}\n", number->second, wall_ms + left_ms,
                         identifier);
          ++count;
        });
  head.destinations.resize(numbers.size());
  for (const auto& [name, number] : numbers) head.destinations[number] = name;
  std::string text = format_answers(head);
  text.resize(text.rfind(end_word));  // no lines yet
  text += lines;
  const uint32_t sum = checksum(text);
  text += fmt::format("{}{} {:08x}\n", end_word, count, sum);
  return text;
}

size_t restore_answers(const AnswersFile& file, const conf::Config& config, RouteCache& cache,
                       uint64_t now_ms, int64_t wall_ms) {
  std::vector<const std::string*> declared;
  for (const std::string_view name : file.destinations) {
    const conf::DestinationConf* destination = config.destination(name);
    declared.push_back(destination ? &destination->name : nullptr);
  }
  std::vector<AnswersFile::Line> lines = file.lines;
  std::ranges::sort(lines, {}, &AnswersFile::Line::expires);
  // The newest are the ones worth the room, and the cache wants the oldest first.
  const uint64_t room = config.mapping.cache_max_entries;
  if (lines.size() > room) lines.erase(lines.begin(), lines.end() - static_cast<std::ptrdiff_t>(room));
  size_t restored = 0;
  constexpr int64_t longest_ms = int64_t{400} * 24 * 3600 * 1000;  // beyond any life, so that sums stay sane
  for (const AnswersFile::Line& line : lines) {
    if (!declared[line.destination] || line.expires < wall_ms - longest_ms ||
        line.expires > wall_ms + longest_ms)
      continue;
    if (cache.restore(line.identifier, *declared[line.destination], line.expires - wall_ms, now_ms))
      ++restored;
  }
  return restored;
}

conf::Result<void> write_answers(const std::string& path, std::string_view text) {
  const std::string temporary = path + ".tmp";
  ::unlink(temporary.c_str());
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return conf::error("cannot be written: " + system_text(errno));
  const auto fail = [&](int error) -> conf::Result<void> {
    ::close(fd);
    ::unlink(temporary.c_str());
    return conf::error("cannot be written: " + system_text(error));
  };
  for (std::string_view rest = text; !rest.empty();) {
    const ssize_t written = ::write(fd, rest.data(), std::min<size_t>(rest.size(), 1u << 20));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return fail(written < 0 ? errno : ENOSPC);
    rest.remove_prefix(static_cast<size_t>(written));
  }
  if (::fsync(fd) != 0) return fail(errno);
  ::close(fd);
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    const int error = errno;
    ::unlink(temporary.c_str());
    return conf::error("cannot be written: " + system_text(error));
  }
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  if (const int parent = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); parent >= 0) {
    ::fsync(parent);
    ::close(parent);
  }
  return {};
}

conf::Result<std::string> read_answers(const std::string& path) {
  struct stat found {};
  if (::stat(path.c_str(), &found) != 0) {
    if (errno == ENOENT) return std::string();
    return conf::error("cannot be read: " + system_text(errno));
  }
  if ((found.st_uid != ::geteuid() && found.st_uid != 0) || (found.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    return conf::error("others may have written it");
  return conf::read_file(path, largest_file);
}

}  // namespace postern::proxy
