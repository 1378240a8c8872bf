// SPDX-License-Identifier: GPL-3.0-or-later
// Real servers for the tests of stores, each a child process with a folder of its own, and a loop on which a
// store is asked.
#pragma once

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "proxy/loop/loop.hpp"
#include "proxy/observe/counters.hpp"
#include "proxy/stores/store.hpp"
#include "proxy/system/process.hpp"

namespace postern::proxy::test {

/// The path of an installed program, or empty: the test says that it is skipped.
inline std::string program(const std::vector<std::string>& candidates) {
  for (const auto& path : candidates)
    if (::access(path.c_str(), X_OK) == 0) return path;
  MESSAGE("skipped: ", candidates.front(), " is not installed");
  return {};
}

inline uint16_t free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0);
  REQUIRE(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  ::close(fd);
  return ntohs(address.sin_port);
}

class Folder {
 public:
  Folder() {
    char name[] = "/tmp/postern-stores-XXXXXX";
    REQUIRE(::mkdtemp(name));
    path = name;
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string operator/(const std::string& name) const { return path + "/" + name; }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(*this / name, std::ios::binary) << text;
    return *this / name;
  }
  std::string path;
};

inline std::string read_all(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

/// A child process, killed at the end. `user`: whom to run it as where the tests run as root.
class Process {
 public:
  Process(const std::vector<std::string>& command, const std::string& log, const char* user = nullptr) {
    pid_ = ::fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0666);
      ::dup2(out, 1);
      ::dup2(out, 2);
      if (user && ::geteuid() == 0)
        if (const passwd* who = ::getpwnam(user)) {
          if (::setgid(who->pw_gid) != 0 || ::setuid(who->pw_uid) != 0) ::_exit(125);
          ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        }
      std::vector<char*> words;
      for (const auto& word : command) words.push_back(const_cast<char*>(word.c_str()));
      words.push_back(nullptr);
      ::execv(words[0], words.data());
      ::_exit(126);
    }
  }
  ~Process() { end(SIGKILL); }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  void signal(int number) const {
    if (pid_ > 0) ::kill(pid_, number);
  }
  int end(int number) {
    if (pid_ <= 0) return 0;
    ::kill(pid_, number);
    if (number == SIGTERM || number == SIGINT) ::kill(pid_, SIGCONT);
    return wait();
  }
  int wait() {
    int status = 0;
    if (pid_ > 0) ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return status;
  }

 private:
  pid_t pid_ = -1;
};

inline bool accepts(uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const bool open = ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  ::close(fd);
  return open;
}

inline bool eventually(const std::function<bool()>& holds,
                       std::chrono::milliseconds limit = std::chrono::seconds(60)) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!holds()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return true;
}

/// The store's loop, run on the test's thread.
class Asking {
 public:
  Asking() { ignore_sigpipe(); }
  ~Asking() {
    store.reset();
    loop.stop();
    uv_run(loop.uv(), UV_RUN_DEFAULT);
  }

  /// All at once, as one turn of the loop would; answers in the order of the names.
  std::vector<StoreAnswer> find(const std::vector<std::string>& names, uint64_t ms = 10'000) {
    std::vector<StoreAnswer> answers(names.size());
    size_t open = names.size();
    std::vector<Store::Question> questions;
    for (size_t i = 0; i < names.size(); ++i)
      questions.push_back({names[i], [&answers, &open, i](StoreAnswer answer) {
                             answers[i] = std::move(answer);
                             --open;
                           }});
    uv_update_time(loop.uv());
    store->find(std::move(questions), loop.now() + ms);
    run([&open] { return open == 0; }, ms + 2000);
    REQUIRE(open == 0);
    return answers;
  }
  StoreAnswer find(const std::string& name, uint64_t ms = 10'000) {
    return find(std::vector{name}, ms).front();
  }

  StoreAnswer put(const std::string& name, const std::string& destination, uint64_t ms = 10'000) {
    return wait(ms, [&](uint64_t deadline, Store::Answered answered) {
      store->put(name, destination, deadline, std::move(answered));
    });
  }
  StoreAnswer erase(const std::string& name, uint64_t ms = 10'000) {
    return wait(ms, [&](uint64_t deadline, Store::Answered answered) {
      store->erase(name, deadline, std::move(answered));
    });
  }

  /// Runs the loop until `over` or so many milliseconds later.
  void run(const std::function<bool()>& over, uint64_t ms) {
    uv_update_time(loop.uv());
    const uint64_t end = loop.now() + ms;
    bool late = false;
    struct Alarm {
      bool* late;
    } alarm{&late};
    Timer timer(
        *loop.timers, [](void* self) { *static_cast<Alarm*>(self)->late = true; }, &alarm);
    timer.at(end);
    while (!over() && !late) uv_run(loop.uv(), UV_RUN_ONCE);
  }
  void rest(uint64_t ms) {
    run([] { return false; }, ms);
  }

  Counters counters{1};
  NameService name_service;
  Loop loop{0, counters.workers[0], name_service};
  std::unique_ptr<Store> store;

 private:
  template <class Call>
  StoreAnswer wait(uint64_t ms, Call call) {
    StoreAnswer got;
    bool done = false;
    uv_update_time(loop.uv());
    call(loop.now() + ms, [&](StoreAnswer answer) {
      got = std::move(answer);
      done = true;
    });
    run([&done] { return done; }, ms + 2000);
    REQUIRE(done);
    return got;
  }
};

inline std::string text(const StoreAnswer& answer) {
  constexpr const char* kinds[] = {"found ", "absent ", "failed ", "timeout "};
  return kinds[static_cast<size_t>(answer.kind)] + answer.text;
}

/// Names that hold every byte but NUL, some of them made to break out of whatever they are put into.
inline std::vector<std::string> nasty_names() {
  std::vector<std::string> names;
  for (int byte = 1; byte < 256; ++byte) names.push_back("a" + std::string(1, static_cast<char>(byte)) + "b");
  for (const char* text : {"' OR '1'='1",
                           "x'; DROP TABLE accounts; --",
                           "\\'; --",
                           "\"; --",
                           "%",
                           "_",
                           "$1",
                           "?",
                           ":name",
                           "a\r\nGET b",
                           "*1\r\n$4\r\nPING\r\n",
                           "{a}{b}",
                           "\xc2'",
                           "\xbf\\' OR 1=1 --",
                           "/*",
                           "*/",
                           "\x1a",
                           "a\\",
                           "''",
                           "a' -- "})
    names.emplace_back(text);
  return names;
}

}  // namespace postern::proxy::test
