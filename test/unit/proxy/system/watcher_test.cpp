// SPDX-License-Identifier: GPL-3.0-or-later
// Every way files change on real hosts, played on a scratch directory with short times.
#include "proxy/system/watcher.hpp"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <utility>

#include "proxy/system/watch_plan.hpp"
#include "test/unit/pace.hpp"

using namespace postern::proxy;
using namespace std::chrono_literals;
namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

namespace {

/// A directory of its own, with its real path; removed at the end.
struct Scratch {
  Scratch() {
    std::string pattern = (fs::temp_directory_path() / "postern-watch-XXXXXX").string();
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    root = fs::canonical(pattern);
  }
  ~Scratch() {
    std::error_code error;
    fs::remove_all(root, error);
  }
  [[nodiscard]] std::string path(const std::string& name) const { return (root / name).string(); }
  void write(const std::string& name, const std::string& text) const { std::ofstream(root / name) << text; }
  fs::path root;
};

/// A watcher on a loop, with what it reported.
struct Watching {
  explicit Watching(std::chrono::milliseconds settle = 40ms, std::chrono::milliseconds poll = 10s) {
    uv_loop_init(&loop);
    watcher = std::make_unique<Watcher>(
        &loop,
        [this](std::vector<std::string> changed) {
          reports.push_back(std::move(changed));
          if (on_report) on_report();
        },
        Watcher::Timing{settle, poll});
  }
  ~Watching() {
    if (watcher) watcher->close();
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&loop) == 0);
  }
  void run(std::chrono::milliseconds time) {
    const auto end = Clock::now() + time;
    while (Clock::now() < end) {
      uv_run(&loop, UV_RUN_NOWAIT);
      ::usleep(1000);
    }
  }
  /// Runs until a report came and 150 ms longer, at most four seconds. All reports since the last call.
  std::vector<std::vector<std::string>> wait() {
    const auto end = Clock::now() + 4s;
    while (reports.empty() && Clock::now() < end) run(5ms);
    run(150ms);
    return std::exchange(reports, {});
  }
  /// Reports that come although nothing should.
  std::vector<std::vector<std::string>> quiet() {
    run(250ms);
    return std::exchange(reports, {});
  }

  uv_loop_t loop{};
  std::unique_ptr<Watcher> watcher;
  std::vector<std::vector<std::string>> reports;
  std::function<void()> on_report;
};

using Reports = std::vector<std::vector<std::string>>;

}  // namespace

TEST_CASE("a file that is written, renamed over, removed and made again is reported each time, once") {
  Scratch scratch;
  scratch.write("a", "one");
  scratch.write("other", "x");
  Watching w;
  const std::string a = scratch.path("a");
  w.watcher->watch({a});
  CHECK(w.quiet().empty());

  scratch.write("a", "two");
  CHECK(w.wait() == Reports{{a}});

  scratch.write("a.new", "three");
  fs::rename(scratch.path("a.new"), a);
  CHECK(w.wait() == Reports{{a}});

  fs::remove(a);
  CHECK(w.wait() == Reports{{a}});
  scratch.write("a", "four");
  CHECK(w.wait() == Reports{{a}});

  scratch.write("other", "y");
  scratch.write("unrelated", "z");
  CHECK(w.quiet().empty());
}

TEST_CASE("many writes that end soon are one report; the last content is what was measured") {
  Scratch scratch;
  scratch.write("a", "");
  scratch.write("b", "");
  Watching w(200ms);
  w.watcher->watch({scratch.path("a"), scratch.path("b")});
  for (int i = 0; i < 20; ++i) {
    scratch.write("a", std::string(static_cast<size_t>(i + 1), 'x'));
    scratch.write("b", std::string(static_cast<size_t>(i + 1), 'x'));
    w.run(5ms);
  }
  CHECK(w.wait() == Reports{{scratch.path("a"), scratch.path("b")}});
  CHECK(w.quiet().empty());
}

TEST_CASE("a file that never rests is reported all the same") {
  Scratch scratch;
  scratch.write("a", "");
  Watching w(100ms);
  w.watcher->watch({scratch.path("a")});
  const auto end = Clock::now() + 2500ms;
  for (size_t i = 1; Clock::now() < end; ++i) {
    scratch.write("a", std::string(i, 'x'));
    w.run(10ms);
  }
  CHECK(w.reports.size() >= 1);
  CHECK(w.reports.size() <= 10);
}

TEST_CASE("the Kubernetes swap of ..data is one report of all files in it") {
  Scratch scratch;
  fs::create_directory(scratch.root / "..2026_1");
  scratch.write("..2026_1/tls.crt", "cert 1");
  scratch.write("..2026_1/tls.key", "key 1");
  fs::create_directory_symlink("..2026_1", scratch.root / "..data");
  fs::create_symlink("..data/tls.crt", scratch.root / "tls.crt");
  fs::create_symlink("..data/tls.key", scratch.root / "tls.key");
  Watching w;
  const Reports both{{scratch.path("tls.crt"), scratch.path("tls.key")}};
  w.watcher->watch(both[0]);
  for (int round = 2; round < 6; ++round) {
    const std::string next = "..2026_" + std::to_string(round);
    const std::string before = "..2026_" + std::to_string(round - 1);
    fs::create_directory(scratch.root / next);
    scratch.write(next + "/tls.crt", "cert 2");
    scratch.write(next + "/tls.key", "key 2");
    fs::create_directory_symlink(next, scratch.root / "..data_tmp");
    fs::rename(scratch.root / "..data_tmp", scratch.root / "..data");
    fs::remove_all(scratch.root / before);
    CHECK(w.wait() == both);
  }
}

TEST_CASE("a link is followed through any number of links, and any of them may change") {
  Scratch scratch;
  fs::create_directories(scratch.root / "x/y");
  fs::create_directories(scratch.root / "z");
  scratch.write("x/y/file", "1");
  scratch.write("z/file", "another");
  fs::create_symlink(scratch.root / "x/y/file", scratch.root / "two");
  fs::create_symlink("./z/../two", scratch.root / "one");
  Watching w;
  w.watcher->watch({scratch.path("one")});

  scratch.write("x/y/file", "22");
  CHECK(w.wait() == Reports{{scratch.path("one")}});

  fs::create_symlink("z/file", scratch.root / "two.new");
  fs::rename(scratch.root / "two.new", scratch.root / "two");
  CHECK(w.wait() == Reports{{scratch.path("one")}});

  scratch.write("z/file", "changed at its new place");
  CHECK(w.wait() == Reports{{scratch.path("one")}});
  scratch.write("x/y/file", "of no interest now");
  CHECK(w.quiet().empty());
}

TEST_CASE("a directory that does not exist yet, at any depth, is waited for") {
  Scratch scratch;
  Watching w;
  const std::string file = scratch.path("not/yet/here.pem");
  w.watcher->watch({file});
  CHECK(w.quiet().empty());
  fs::create_directory(scratch.root / "not");
  CHECK(w.quiet().empty());
  fs::create_directory(scratch.root / "not/yet");
  CHECK(w.quiet().empty());
  scratch.write("not/yet/here.pem", "now");
  CHECK(w.wait() == Reports{{file}});

  fs::remove_all(scratch.root / "not");
  CHECK(w.wait() == Reports{{file}});
  fs::create_directories(scratch.root / "not/yet");
  scratch.write("not/yet/here.pem", "again");
  CHECK(w.wait() == Reports{{file}});
  scratch.write("not/yet/here.pem", "and again");
  CHECK(w.wait() == Reports{{file}});
}

TEST_CASE("a directory that is moved away and replaced is followed by its path") {
  Scratch scratch;
  fs::create_directory(scratch.root / "d");
  fs::create_directory(scratch.root / "e");
  scratch.write("d/file", "1");
  scratch.write("e/file", "22");
  Watching w;
  w.watcher->watch({scratch.path("d/file")});
  fs::rename(scratch.root / "d", scratch.root / "d.old");
  fs::rename(scratch.root / "e", scratch.root / "d");
  CHECK(w.wait() == Reports{{scratch.path("d/file")}});
  scratch.write("d/file", "333");
  CHECK(w.wait() == Reports{{scratch.path("d/file")}});
}

TEST_CASE("the poll finds what no event told, such as a replaced directory further up") {
  Scratch scratch;
  fs::create_directories(scratch.root / "a/b/c");
  scratch.write("a/b/c/file", "1");
  fs::create_directories(scratch.root / "a2/b/c");
  scratch.write("a2/b/c/file", "22");
  Watching w(40ms, 100ms);
  w.watcher->watch({scratch.path("a/b/c/file")});
  fs::rename(scratch.root / "a", scratch.root / "a.old");
  fs::rename(scratch.root / "a2", scratch.root / "a");
  CHECK(w.wait() == Reports{{scratch.path("a/b/c/file")}});
  scratch.write("a/b/c/file", "333");
  CHECK(w.wait() == Reports{{scratch.path("a/b/c/file")}});
}

TEST_CASE("a new set keeps the measure of files it shares with the old one") {
  Scratch scratch;
  scratch.write("a", "1");
  scratch.write("b", "1");
  Watching w;
  w.watcher->watch({scratch.path("a")});
  scratch.write("a", "22");
  scratch.write("b", "22");
  w.watcher->watch({scratch.path("a"), scratch.path("b")});
  CHECK(w.wait() == Reports{{scratch.path("a")}});
  w.watcher->watch({scratch.path("b")});
  scratch.write("a", "333");
  CHECK(w.quiet().empty());
  scratch.write("b", "333");
  CHECK(w.wait() == Reports{{scratch.path("b")}});
}

TEST_CASE("a report may replace the set or end the watcher") {
  Scratch scratch;
  scratch.write("a", "1");
  scratch.write("b", "1");
  Watching w;
  w.watcher->watch({scratch.path("a")});
  w.on_report = [&] { w.watcher->watch({scratch.path("b")}); };
  scratch.write("a", "22");
  CHECK(w.wait() == Reports{{scratch.path("a")}});
  w.on_report = [&] { w.watcher.reset(); };
  scratch.write("b", "22");
  CHECK(w.wait() == Reports{{scratch.path("b")}});
  scratch.write("b", "333");
  CHECK(w.quiet().empty());
}

TEST_CASE("nothing is reported after close, and circles of links are survived") {
  Scratch scratch;
  fs::create_symlink("loop2", scratch.root / "loop1");
  fs::create_symlink("loop1", scratch.root / "loop2");
  Watching w;
  w.watcher->watch({scratch.path("loop1"), scratch.path("loop1/file"), "", "/",
                    scratch.path("x") + std::string(5000, '/')});
  CHECK(w.quiet().empty());
  w.watcher->close();
  scratch.write("x", "1");
  w.watcher->watch({scratch.path("x")});
  CHECK(w.quiet().empty());
}

TEST_CASE("ten thousand files cost one watch a directory, and little time") {
  Scratch scratch;
  std::vector<std::string> files;
  for (int d = 0; d < 10; ++d) {
    const std::string directory = "d" + std::to_string(d);
    fs::create_directory(scratch.root / directory);
    for (int f = 0; f < 1000; ++f) {
      files.push_back(scratch.path(directory + "/" + std::to_string(f)));
      scratch.write(directory + "/" + std::to_string(f), "x");
    }
  }
  WatchPlanner planner;
  for (const auto& file : files) planner.add(file);
  CHECK(planner.plan().size() == 10);

  Watching w;
  const auto begin = Clock::now();
  w.watcher->watch(files);
  CHECK(Clock::now() - begin < (postern::slow_machine() ? 20s : 2s));
  scratch.write("d7/777", "changed");
  CHECK(w.wait() == Reports{{scratch.path("d7/777")}});
}

TEST_CASE("a plan names the directories of links, files and what is missing") {
  Scratch scratch;
  fs::create_directories(scratch.root / "real/sub");
  scratch.write("real/sub/file", "1");
  fs::create_directory_symlink("real", scratch.root / "link");
  WatchPlanner planner;
  planner.add(scratch.path("link/sub/../sub/./file"));
  planner.add(scratch.path("real/absent/file"));
  const WatchPlan expected = {{scratch.root.string(), {"link"}},
                              {scratch.path("real"), {"absent"}},
                              {scratch.path("real/sub"), {"file"}}};
  CHECK(planner.plan() == expected);
}
