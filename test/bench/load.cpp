// SPDX-License-Identifier: GPL-3.0-or-later
// The load generator: reads commands on standard input, answers each with one line of JSON.
//   open N       bring the number of sessions to N        run SECONDS        do the work of --verb
//   check        every open session answers once          rate SECONDS N     begin N sessions a second
//   storm        lose every session and bring it back     (end of input: leave)
#include <arpa/inet.h>
#include <openssl/pem.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <sstream>
#include <thread>

#include "test/bench/client.hpp"

namespace postern::bench {
namespace {

struct TlsOptions {
  std::string version;  // empty: plain
  std::string cipher;
  std::string signature;
  std::string certificate;
};

Work work_named(const std::string& name) {
  if (name == "get") return Work::get;
  if (name == "put") return Work::put;
  if (name == "echo") return Work::echo;
  if (name == "bye") return Work::bye;
  if (name == "login") return Work::login;
  die("load: no such verb: " + name);
}

// The client offers one version, suite, group and signature, so that every peer negotiates the same.
Context client_context(TlsOptions tls, std::string groups, bool resume) {
  Context owner(SSL_CTX_new(TLS_client_method()));
  SSL_CTX* context = owner.get();
  const int version = tls.version == "1.2" ? TLS1_2_VERSION : TLS1_3_VERSION;
  if (version == TLS1_2_VERSION) groups += ":P-256";  // TLS 1.2 asks that of an ECDSA certificate
  bool good = SSL_CTX_set_min_proto_version(context, version) == 1 &&
              SSL_CTX_set_max_proto_version(context, version) == 1;
  if (!tls.cipher.empty())
    good = good && (version == TLS1_2_VERSION ? SSL_CTX_set_cipher_list(context, tls.cipher.c_str())
                                              : SSL_CTX_set_ciphersuites(context, tls.cipher.c_str())) == 1;
  good = good && SSL_CTX_set1_groups_list(context, groups.data()) == 1;
  if (!tls.signature.empty()) good = good && SSL_CTX_set1_sigalgs_list(context, tls.signature.data()) == 1;
  if (!good) die("load: TLS options: " + tls_errors());
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF);  // hitch says no close_notify; we count bytes
  SSL_CTX_set_read_ahead(context, 1);
  SSL_CTX_set_default_read_buffer_len(context, 64 * 1024);
  if (resume) prepare_tickets(context);
  return owner;
}

X509* read_leaf(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "r");
  if (file == nullptr) die("load: cannot read " + path);
  X509* leaf = PEM_read_X509(file, nullptr, nullptr, nullptr);
  std::fclose(file);
  if (leaf == nullptr) die("load: no certificate in " + path);
  return leaf;
}

Options read_options(int argc, char** argv) {
  Options options;
  TlsOptions tls;
  options.server.sin_family = AF_INET;
  options.server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const std::string value = argv[i + 1];
    const auto number = [&value] { return std::strtoull(value.c_str(), nullptr, 10); };
    if (name == "--port")
      options.server.sin_port = htons(static_cast<uint16_t>(number()));
    else if (name == "--verb")
      options.work = work_named(value);
    else if (name == "--size")
      options.size = number();
    else if (name == "--warm")
      options.warm = number();
    else if (name == "--threads")
      options.threads = std::max<size_t>(1, number());
    else if (name == "--imap")
      options.imap = value == "yes";
    else if (name == "--users")
      options.users = std::max<uint64_t>(1, number());
    else if (name == "--names")
      options.names = number();
    else if (name == "--resume")
      options.resume = value == "yes";
    else if (name == "--tls")
      tls.version = value;
    else if (name == "--cipher")
      tls.cipher = value;
    else if (name == "--group")
      options.group = value;
    else if (name == "--signature")
      tls.signature = value;
    else if (name == "--certificate")
      tls.certificate = value;
    else
      die("load: no such option: " + name);
  }
  if (!tls.version.empty()) options.context = client_context(tls, options.group, options.resume);
  if (!tls.certificate.empty()) options.leaf.reset(read_leaf(tls.certificate));
  return options;
}

void on_all(std::vector<std::unique_ptr<Worker>>& workers, const std::function<void(Worker&, size_t)>& work) {
  const Clock::time_point start = Clock::now();
  std::vector<std::thread> threads;
  for (size_t i = 1; i < workers.size(); ++i)
    threads.emplace_back([&work, &workers, i] { work(*workers[i], i); });
  work(*workers[0], 0);
  for (std::thread& thread : threads) thread.join();
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  Tally tally;
  for (const auto& worker : workers) tally.add(worker->take_tally());
  std::printf("%s\n", tally.json(seconds).c_str());
  std::fflush(stdout);
}

}  // namespace
}  // namespace postern::bench

int main(int argc, char** argv) {
  using namespace postern::bench;
  std::signal(SIGPIPE, SIG_IGN);
  allow_many_files();
  const Options options = read_options(argc, argv);
  std::vector<std::unique_ptr<Worker>> workers;
  for (size_t i = 0; i < options.threads; ++i) workers.push_back(std::make_unique<Worker>(options, i));

  constexpr auto patience = std::chrono::seconds(10);
  std::string line;
  while (std::getline(std::cin, line)) {
    std::istringstream words(line);
    std::string command;
    double number = 0;
    double rate = 0;
    words >> command >> number >> rate;
    const Clock::time_point now = Clock::now();
    if (command == "open") {
      const auto total = static_cast<size_t>(number);
      on_all(workers, [&](Worker& worker, size_t index) {
        const size_t share = total / options.threads + (index < total % options.threads ? 1 : 0);
        worker.open(share, now + 9 * patience);
      });
    } else if (command == "run") {
      const auto until =
          now + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(number));
      on_all(workers, [&](Worker& worker, size_t) { worker.run(until, until + patience); });
    } else if (command == "rate") {
      const auto until =
          now + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(number));
      on_all(workers, [&](Worker& worker, size_t) {
        worker.rate(rate / static_cast<double>(options.threads), until, until + patience);
      });
    } else if (command == "storm") {
      on_all(workers, [&](Worker& worker, size_t) { worker.storm(now + 6 * patience); });
    } else if (command == "check") {
      on_all(workers, [&](Worker& worker, size_t) { worker.check(now + patience); });
    } else {
      die("load: no such command: " + line);
    }
  }
  return 0;
}
