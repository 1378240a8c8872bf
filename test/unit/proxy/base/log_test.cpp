// SPDX-License-Identifier: GPL-3.0-or-later
// What a record looks like, and that the writer keeps its promises with readers of every kind.
#include "proxy/base/log.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

using namespace postern;
using namespace postern::proxy;
using conf::LogFormat;
using namespace std::chrono_literals;

namespace {

const auto moment = std::chrono::system_clock::time_point(std::chrono::milliseconds(1'795'230'174'123));

std::string record(LogFormat format, std::string_view message, std::initializer_list<Field> fields) {
  return format_record(format, moment, LogLevel::info, message, {fields.begin(), fields.size()});
}
std::string logfmt_value(std::string_view value) {
  const std::string line = record(LogFormat::logfmt, "m", {{"k", value}});
  const std::string head = "time=2026-11-21T03:02:54.123Z level=info msg=m k=";
  REQUIRE(line.starts_with(head));
  REQUIRE(line.ends_with("\n"));
  return line.substr(head.size(), line.size() - head.size() - 1);
}

/// A pipe whose write end the log gets.
struct Pipe {
  Pipe() { REQUIRE(::pipe2(ends, O_CLOEXEC) == 0); }
  ~Pipe() {
    log::stop();
    close_read();
    ::close(ends[1]);
  }
  void close_read() {
    if (ends[0] >= 0) ::close(ends[0]);
    ends[0] = -1;
  }
  /// What is there; waits for nothing.
  std::string drain() {
    ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
    std::string text;
    char buffer[65536];
    for (ssize_t n = 0; (n = ::read(ends[0], buffer, sizeof buffer)) > 0;)
      text.append(buffer, static_cast<size_t>(n));
    return text;
  }
  /// Reads on for up to five seconds, until `done` likes the text.
  template <class Done>
  std::string read_until(Done done) {
    std::string text;
    for (int i = 0; i < 5000 && !done(text); ++i) {
      text += drain();
      std::this_thread::sleep_for(1ms);
    }
    return text;
  }
  int ends[2] = {-1, -1};
};

std::string cut_after(size_t n) { return std::string(1, '"').append(n, 'x').append("...\""); }

size_t lines(const std::string& text) { return static_cast<size_t>(std::ranges::count(text, '\n')); }

}  // namespace

TEST_CASE("a logfmt record is one line of time, level, message and fields") {
  CHECK(record(LogFormat::logfmt, "session closed",
               {{"session", "P1"},
                {"port", 993},
                {"secs", 1.5},
                {"tls", true},
                {"big", uint64_t{1} << 63},
                {"low", -5},
                {"empty", ""}}) ==
        "time=2026-11-21T03:02:54.123Z level=info msg=\"session closed\" session=P1 port=993 secs=1.500 "
        "tls=true "
        "big=9223372036854775808 low=-5\n");
}

TEST_CASE("a JSON record has the same names and real numbers") {
  const std::string line = record(LogFormat::json, "session closed",
                                  {{"session", "P1"}, {"port", 993}, {"secs", 1.5}, {"tls", false}});
  CHECK(line ==
        "{\"time\":\"2026-11-21T03:02:54.123Z\",\"level\":\"info\",\"msg\":\"session "
        "closed\",\"session\":\"P1\","
        "\"port\":993,\"secs\":1.500,\"tls\":false}\n");
}

TEST_CASE("time is UTC with milliseconds, also before 1970 and on a leap day") {
  const auto at = [](int64_t ms) {
    const auto time = std::chrono::system_clock::time_point(std::chrono::milliseconds(ms));
    return format_record(LogFormat::logfmt, time, LogLevel::warn, "m", {}).substr(5, 24);
  };
  CHECK(at(0) == "1970-01-01T00:00:00.000Z");
  CHECK(at(-1) == "1969-12-31T23:59:59.999Z");
  CHECK(at(951'782'400'000) == "2000-02-29T00:00:00.000Z");
}

TEST_CASE("logfmt quotes and escapes what could be taken for something else") {
  struct Row {
    std::string value;
    std::string shown;
  };
  const std::vector<Row> rows = {
      {"imap", "imap"},
      {"[2001:db8::1]:993", "[2001:db8::1]:993"},
      {"a b", "\"a b\""},
      {"a=b", "\"a=b\""},
      {"say \"x\"", "\"say \\\"x\\\"\""},
      {"c:\\x", "\"c:\\\\x\""},
      {"1\nlevel=error msg=forged", "\"1\\nlevel=error msg=forged\""},
      {"\r\t", "\"\\r\\t\""},
      {std::string("\0\x01\x1b[31m\x7f", 8), "\"\\x00\\x01\\x1b[31m\\x7f\""},
      {"M\xC3\xBCller", "\"M\xC3\xBCller\""},
      {"\xE2\x82\xAC\xF0\x9F\x93\xAC", "\"\xE2\x82\xAC\xF0\x9F\x93\xAC\""},
      {"\xC2\x85", "\"\\xc2\\x85\""},                    // NEL
      {"\xC2\x9B", "\"\\xc2\\x9b\""},                    // CSI
      {"\xE2\x80\xA8", "\"\\xe2\\x80\\xa8\""},           // line separator
      {"\xE2\x80\xAE", "\"\\xe2\\x80\\xae\""},           // right-to-left override
      {"\xE2\x81\xA6", "\"\\xe2\\x81\\xa6\""},           // left-to-right isolate
      {"\xF3\xA0\x81\x81", "\"\\xf3\\xa0\\x81\\x81\""},  // a tag letter
      {"\xFF", "\"\\xff\""},                             // no UTF-8 at all
      {"\xC0\xAF", "\"\\xc0\\xaf\""},                    // overlong
      {"\xE0\x80\xAF", "\"\\xe0\\x80\\xaf\""},
      {"\xED\xA0\x80", "\"\\xed\\xa0\\x80\""},           // surrogate
      {"\xF4\x90\x80\x80", "\"\\xf4\\x90\\x80\\x80\""},  // beyond Unicode
      {"x\xE2\x82", "\"x\\xe2\\x82\""},                  // cut short
  };
  for (const auto& [value, shown] : rows) CHECK(logfmt_value(value) == shown);
}

TEST_CASE("an empty message is still a message") {
  CHECK(record(LogFormat::logfmt, "", {}).ends_with(" msg=\"\"\n"));
  CHECK(record(LogFormat::json, "", {}).ends_with(",\"msg\":\"\"}\n"));
}

TEST_CASE("any bytes give valid JSON that reads back, on one line") {
  for (int first = 0; first < 256; ++first) {
    for (const int second : {0x00, 0x22, 0x5C, 0x78, 0x80, 0x85, 0xA8, 0xBF, 0xFF}) {
      std::string value = {'a', static_cast<char>(first), static_cast<char>(second), '\xE2', '\x80', '\xAE'};
      const std::string line = record(LogFormat::json, value, {{"k", value}});
      CHECK(lines(line) == 1);
      const auto parsed = nlohmann::json::parse(line, nullptr, false);
      REQUIRE_FALSE(parsed.is_discarded());
      CHECK(parsed.size() == 4);
      CHECK(parsed["k"] == parsed["msg"]);
      const std::string text = parsed["k"];
      if (first < 0x80 && second < 0x80) CHECK(text == value);
    }
  }
  const auto tag = nlohmann::json::parse(record(LogFormat::json, "m", {{"k", "\xF3\xA0\x81\x81"}}));
  CHECK(tag["k"] == "\xF3\xA0\x81\x81");
}

TEST_CASE("numbers that are none stay numbers") {
  const double inf = std::numeric_limits<double>::infinity();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto line = record(LogFormat::json, "m", {{"a", inf}, {"b", -inf}, {"c", nan}, {"d", 1e300}});
  CHECK_FALSE(nlohmann::json::parse(line, nullptr, false).is_discarded());
}

TEST_CASE("a long value is cut at a character's border and marked") {
  CHECK(logfmt_value(std::string(1024, 'x')) == std::string(1024, 'x'));
  CHECK(logfmt_value(std::string(1025, 'x')) == cut_after(1024));
  const std::string euro = "\xE2\x82\xAC";
  CHECK(logfmt_value(std::string(1023, 'x') + euro) == cut_after(1023));
  CHECK(logfmt_value(std::string(100'000, '\n')).size() == 2 * 1024 + 5);
  CHECK(record(LogFormat::json, std::string(1'000'000, '\xFF'), {}).size() < 8000);
}

TEST_CASE("levels are filtered and may change while running") {
  Pipe pipe;
  log::start(LogLevel::warn, LogFormat::logfmt, pipe.ends[1]);
  CHECK_FALSE(log::enabled(LogLevel::info));
  CHECK(log::enabled(LogLevel::error));
  CHECK_FALSE(log::enabled(LogLevel::off));
  log::info("hidden");
  log::warn("shown");
  log::configure(LogLevel::debug, LogFormat::json);
  log::debug("json", {{"k", 1}});
  log::configure(LogLevel::off, LogFormat::json);
  log::error("hidden");
  log::stop();
  const std::string text = pipe.drain();
  CHECK(lines(text) == 2);
  CHECK(text.find("level=warn msg=shown\n") != std::string::npos);
  CHECK(text.find("\"level\":\"debug\",\"msg\":\"json\",\"k\":1}\n") != std::string::npos);
}

TEST_CASE("stop writes everything that was queued, from many threads, each thread's records in order") {
  Pipe pipe;
  std::string text;
  std::atomic<bool> done{false};
  log::start(LogLevel::info, LogFormat::logfmt, pipe.ends[1]);
  std::thread reader([&] {
    while (!done) {
      text += pipe.drain();
      std::this_thread::sleep_for(1ms);
    }
    text += pipe.drain();
  });
  std::vector<std::thread> writers;
  writers.reserve(4);
  for (int t = 0; t < 4; ++t)
    writers.emplace_back([t] {
      for (int i = 0; i < 5000; ++i) log::info("n", {{"t", t}, {"i", i}});
    });
  for (auto& w : writers) w.join();
  log::stop();
  done = true;
  reader.join();
  CHECK(lines(text) == 20'000);
  size_t at = 0;
  for (int i = 0; i < 5000; ++i) {
    at = text.find(" t=2 i=" + std::to_string(i) + "\n", at);
    REQUIRE(at != std::string::npos);
  }
}

TEST_CASE("a reader that stalls costs records, not time, and the loss is reported when there is room") {
  Pipe pipe;
  log::start(LogLevel::info, LogFormat::logfmt, pipe.ends[1]);
  const uint64_t before = log::dropped();
  const std::string filler(1000, 'x');
  const auto begin = std::chrono::steady_clock::now();
  constexpr int sent = 12'000;  // about 12 MB, against 64 KiB of pipe and twice 4 MiB of queue
  for (int i = 0; i < sent; ++i) log::info("full", {{"x", filler}});
  CHECK(std::chrono::steady_clock::now() - begin < 3s);
  const uint64_t lost = log::dropped() - before;
  CHECK(lost > 0);
  CHECK(lost < sent);
  const std::string report = "level=warn msg=\"log records dropped\" count=" + std::to_string(lost) + "\n";
  const std::string text = pipe.read_until([&](const std::string& t) { return t.ends_with(report); });
  CHECK(text.ends_with(report));
  CHECK(lines(text) == sent - lost + 1);
  log::info("after");
  log::stop();
  CHECK(pipe.drain().ends_with("msg=after\n"));
}

TEST_CASE("stop does not wait for a stalled reader longer than it promises") {
  Pipe pipe;
  log::start(LogLevel::info, LogFormat::logfmt, pipe.ends[1]);
  const std::string filler(1000, 'x');
  for (int i = 0; i < 500; ++i) log::info("full", {{"x", filler}});
  const uint64_t before = log::dropped();
  const auto begin = std::chrono::steady_clock::now();
  log::stop();
  CHECK(std::chrono::steady_clock::now() - begin < 3s);
  CHECK(log::dropped() > before);
}

TEST_CASE("a non-blocking pipe with short writes loses nothing") {
  Pipe pipe;
  REQUIRE(::fcntl(pipe.ends[1], F_SETFL, O_NONBLOCK) == 0);
  log::start(LogLevel::info, LogFormat::logfmt, pipe.ends[1]);
  const std::string filler(900, 'x');
  for (int i = 0; i < 1000; ++i) log::info("n", {{"i", i}, {"x", filler}});
  const std::string text = pipe.read_until([](const std::string& t) { return lines(t) == 1000; });
  REQUIRE(lines(text) == 1000);
  CHECK(text.find("msg=n i=999 x=") != std::string::npos);
}

TEST_CASE("a reader that goes away ends neither the process nor the log") {
  // As the daemon does; a record written without the thread could otherwise raise it.
  const auto previous = std::signal(SIGPIPE, SIG_IGN);
  {
    Pipe pipe;
    log::start(LogLevel::info, LogFormat::logfmt, pipe.ends[1]);
    pipe.close_read();
    const uint64_t before = log::dropped();
    log::info("lost");
    for (int i = 0; i < 2000 && log::dropped() == before; ++i) std::this_thread::sleep_for(1ms);
    CHECK(log::dropped() == before + 1);
    log::info("lost");
    log::stop();
    CHECK(log::dropped() == before + 2);
    log::info("directly, lost as well");
    CHECK(log::dropped() == before + 3);
  }
  std::signal(SIGPIPE, previous);
}

TEST_CASE("after stop records go out directly") {
  Pipe pipe;
  log::start(LogLevel::info, LogFormat::logfmt, pipe.ends[1]);
  log::stop();
  log::info("direct");
  CHECK(pipe.drain().ends_with("msg=direct\n"));
  log::stop();  // again: nothing to do
}

TEST_CASE("a throttle lets a burst pass a second and counts the rest") {
  Throttle throttle(2);
  uint64_t suppressed = 99;
  CHECK(throttle.allow(5000, suppressed));
  CHECK(suppressed == 0);
  CHECK(throttle.allow(5100, suppressed));
  CHECK_FALSE(throttle.allow(5200, suppressed));
  CHECK_FALSE(throttle.allow(5999, suppressed));
  CHECK(throttle.allow(6000, suppressed));
  CHECK(suppressed == 2);
  CHECK(throttle.allow(6001, suppressed));
  CHECK(suppressed == 0);
}
