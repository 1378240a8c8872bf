#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The arrows of README.md hold: every #include goes where its folder may look, every outside library stays
# behind its door, and the pure folders touch no socket, clock or thread.
#   layers.sh [--self-test] [ROOT]
set -euo pipefail

# shellcheck disable=SC2016 # the dollars are awk's
# One line a breach: FILE:LINE: what is wrong. Nothing when the house is in order.
breaches() {
  cd "$1"
  find conf protocols tls proxy test -type f \
    \( -name '*.cpp' -o -name '*.hpp' -o -name '*.c' -o -name '*.h' -o -name '*.inc' \) -print0 2>/dev/null |
    xargs -0 -r awk '
      function breach(what) { printf "%s:%d: %s\n", FILENAME, FNR, what }
      function only(pattern, what) { if (FILENAME !~ pattern) breach(what) }
      function arrow(from, to) {
        return to == from || from == "test" || from == "proxy" && to != "test" ||
               to == "conf" && (from == "protocols" || from == "tls")
      }
      FNR == 1 { folder = FILENAME; sub(/\/.*/, "", folder); comment = 0 }
      {
        line = $0
        gsub(/"([^"\\]|\\.)*"/, "\"\"", line)   # what stands in quotes or comments is no code
        sub(/\/\/.*/, "", line)
      }
      /^[ \t]*#[ \t]*(include|include_next|import)/ {
        target = $0
        sub(/^[ \t]*#[ \t]*[a-z_]+[ \t]*/, "", target)
        quoted = target ~ /^"/
        if (target !~ /^["<]/) { breach("an #include that is not spelled out"); next }
        target = substr(target, 2); sub(/[">].*/, "", target)
        root = target; sub(/\/.*/, "", root)
        if (target ~ /(^|\/)\.\.?\//) breach("#include with a relative path: write it from the root")
        else if (root ~ /^(conf|protocols|tls|proxy|test)$/ && target ~ /\//) {
          if (!arrow(folder, root)) breach(folder "/ may not look into " root "/ (" target ")")
        } else if (quoted) breach("\"" target "\" is not written from the root of the tree")
        if (target ~ /^uv(\.h$|\/)/) only("^(proxy|test)/", "<uv.h> outside proxy/")
        if (target ~ /^wolfssl\//) only("^(tls|test/unit/tls)/", "wolfSSL outside tls/")
        if (target ~ /^intel-ipsec-mb/) only("^tls/bulk_cipher\\.cpp$", "ipsec-mb outside tls/bulk_cipher.cpp")
        if (target ~ /^openssl\//) only("^(tls/rsa_power\\.cpp$|test/)", "OpenSSL outside tls/rsa_power.cpp")
        if (target ~ /^toml(\+\+|plusplus|\.h)/) only("^conf/toml\\.cpp$", "toml++ outside conf/toml.cpp")
        if (target ~ /^yaml-cpp\//) only("^conf/yaml\\.cpp$", "yaml-cpp outside conf/yaml.cpp")
        if (target ~ /^prometheus\//) only("^(proxy|test)/", "prometheus-cpp outside proxy/")
        if (target ~ /^seccomp\.h$/) only("^proxy/call_filter\\.cpp$", "libseccomp outside proxy/call_filter.cpp")
        if (target ~ /^systemd\//) only("^(proxy|test)/", "libsystemd outside proxy/")
        if (folder == "protocols" && target ~ /^(thread|mutex|shared_mutex|condition_variable|future|semaphore)$/)
          breach("<" target "> in protocols/: no threads there")
        next
      }
      folder == "protocols" || folder == "tls" {
        if (line !~ /^[A-Za-z_][A-Za-z0-9_:<>*& ]*[ *&](send|recv)\(/ &&  # a function of that name, not a call
            line ~ /(^|[^A-Za-z0-9_.>:])(::)?(socket|send|recv|sendto|recvfrom|sendmsg|recvmsg|setsockopt|getaddrinfo|epoll_wait|poll)[ \t]*\(/)
          breach("a socket call in " folder "/")
      }
      folder == "protocols" && line ~ /_clock::now|(^|[^A-Za-z0-9_.>])(gettimeofday|clock_gettime|time)[ \t]*\(/ {
        breach("a clock in protocols/")
      }'
}

# Plants one breach of each kind, alone, and wants each one found, and what is allowed left alone.
self_test() {
  local caught=0 missed=0 file text verdict
  tree=$(mktemp -d)
  trap 'rm -rf "$tree"' EXIT
  while IFS='|' read -r verdict file text; do
    rm -rf "${tree:?}"/*
    mkdir -p "$tree"/{conf,protocols,tls,proxy,test} "$tree/$(dirname "$file")"
    printf '// planted\n%b\n' "$text" >"$tree/$file"
    if [ "$verdict" = "$([ -n "$(breaches "$tree")" ] && echo bad || echo good)" ]; then
      caught=$((caught + 1))
    else
      echo "layers: self-test: should be $verdict: $file: $text"
      missed=$((missed + 1))
    fi
  done <<'PLANTED'
bad|conf/a.hpp|#include "protocols/sasl.hpp"
bad|conf/a.hpp|#include "tls/engine.hpp"
bad|conf/a.hpp|#include <proxy/log.hpp>
bad|protocols/a.cpp|#include "tls/engine.hpp"
bad|protocols/imap/a.cpp|  #  include "proxy/log.hpp"
bad|tls/a.cpp|#include "protocols/sasl.hpp"
bad|tls/a.cpp|#include "proxy/log.hpp"
bad|proxy/a.cpp|#include "test/unit/help.hpp"
bad|proxy/a.cpp|#include "log.hpp"
bad|proxy/a.cpp|#include "../conf/address.hpp"
bad|proxy/a.cpp|#include POSTERN_HEADER
bad|conf/a.cpp|#include <uv.h>
bad|protocols/a.cpp|#include <uv.h>
bad|tls/a.cpp|#include <uv/unix.h>
bad|proxy/a.cpp|#include <wolfssl/ssl.h>
bad|test/e2e/a.cpp|#include <wolfssl/ssl.h>
bad|conf/check.cpp|#include <toml++/toml.h>
bad|conf/check.cpp|#include <yaml-cpp/yaml.h>
bad|tls/a.cpp|#include <prometheus/registry.h>
bad|conf/a.cpp|#include <systemd/sd-daemon.h>
bad|proxy/a.cpp|#include <seccomp.h>
bad|tls/a.cpp|#include <intel-ipsec-mb.h>
bad|tls/a.cpp|#include <openssl/evp.h>
bad|proxy/a.cpp|#include <openssl/ssl.h>
bad|protocols/a.cpp|int fd = socket(AF_INET, SOCK_STREAM, 0);
bad|tls/a.cpp|  ::send(fd, p, n, 0);
bad|tls/a.cpp|  auto n = recv(fd, p, n, 0);
bad|protocols/a.cpp|#include <thread>
bad|protocols/a.cpp|auto t = std::chrono::steady_clock::now();
good|protocols/a.cpp|#include "conf/address.hpp"\n#include "protocols/sasl.hpp"
good|tls/a.cpp|#include "conf/secret.hpp"\n#include <wolfssl/ssl.h>
good|proxy/a.cpp|#include <uv.h>\n#include "tls/engine.hpp"\n#include "protocols/sasl.hpp"\n#include <systemd/sd-daemon.h>
good|conf/toml.cpp|#include <toml++/toml.h>
good|proxy/call_filter.cpp|#include <seccomp.h>
good|tls/bulk_cipher.cpp|#include <intel-ipsec-mb.h>
good|tls/rsa_power.cpp|#include <openssl/evp.h>
good|conf/yaml.cpp|#include <yaml-cpp/yaml.h>
good|test/unit/tls/a.cpp|#include <wolfssl/ssl.h>\n#include <uv.h>\n#include "proxy/log.hpp"
good|tls/a.cpp|int send(WOLFSSL*, char* from, int size, void* user) {\n  return size;
good|protocols/a.cpp|#include <netinet/in.h>\n// never calls send() or recv(fd)\nauto n = queue.send(b); log("socket(");
PLANTED
  echo "layers: self-test: $caught as expected, $missed not"
  [ "$missed" = 0 ]
}

if [ "${1:-}" = --self-test ]; then
  self_test
  exit
fi
found=$(breaches "${1:-$(dirname "$0")/..}")
[ -z "$found" ] || { printf '%s\n' "$found" && exit 1; }
