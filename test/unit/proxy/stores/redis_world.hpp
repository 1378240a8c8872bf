// SPDX-License-Identifier: GPL-3.0-or-later
// A Redis or Valkey server for a test, and one question asked of it past the store.
#pragma once

#include "proxy/stores/redis.hpp"
#include "test/unit/proxy/stores/world.hpp"

namespace postern::proxy::test {

class RedisServer {
 public:
  explicit RedisServer(std::vector<std::string> more = {}, uint16_t wanted = 0, bool tls = false)
      : path(program({"/usr/bin/redis-server", "/usr/bin/valkey-server"})),
        port(wanted ? wanted : free_port()) {
    if (path.empty()) return;
    command_ = {path,
                tls ? "--tls-port" : "--port",
                std::to_string(port),
                "--bind",
                "127.0.0.1",
                "--dir",
                folder.path,
                "--save",
                "",
                "--appendonly",
                "no",
                "--unixsocket",
                folder / "redis.sock"};
    if (tls) command_.insert(command_.end(), {"--port", "0"});
    command_.insert(command_.end(), more.begin(), more.end());
    start();
  }
  void start() {
    process = std::make_unique<Process>(command_, folder / "log");
    REQUIRE_MESSAGE(eventually([this] { return accepts(port); }), read_all(folder / "log"));
  }
  explicit operator bool() const { return !path.empty(); }

  /// By redis-cli, from a pipe; what it prints.
  std::string command(const std::string& line, const std::string& options = {}) const {
    const std::string cli = path.find("valkey") == std::string::npos ? "redis-cli" : "valkey-cli";
    const std::string all = cli + " -s " + (folder / "redis.sock") + " " + options + " " + line + " 2>&1";
    std::string out;
    FILE* pipe = ::popen(all.c_str(), "r");
    char buffer[4096];
    while (size_t n = ::fread(buffer, 1, sizeof buffer, pipe)) out.append(buffer, n);
    ::pclose(pipe);
    while (out.ends_with('\n')) out.pop_back();
    return out;
  }

  Folder folder;
  const std::string path;
  const uint16_t port;
  std::unique_ptr<Process> process;

 private:
  std::vector<std::string> command_;
};

inline RedisSettings settings_of(const std::string& url) {
  RedisSettings settings;
  auto parsed = conf::parse_redis_url(url);
  REQUIRE_MESSAGE(parsed, (parsed ? std::string() : parsed.error().text));
  settings.url = std::move(*parsed);
  return settings;
}

inline std::unique_ptr<Store> redis_store(Asking& asking, RedisSettings settings) {
  auto tls = redis_tls(settings);
  REQUIRE_MESSAGE(tls, (tls ? std::string() : tls.error().text));
  return make_redis_store(asking.loop, std::move(settings), std::move(*tls));
}

inline std::string local(uint16_t port) { return "127.0.0.1:" + std::to_string(port); }

}  // namespace postern::proxy::test
