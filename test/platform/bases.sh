# SPDX-License-Identifier: GPL-3.0-or-later
# Sourced by the tests that need another Debian than the one they run on: made once from its archive, kept for
# the next run under the user's cache. DEBIAN=trixie asks for another release.
# shellcheck shell=bash

cache=${XDG_CACHE_HOME:-$HOME/.cache}/postern-test
# shellcheck disable=SC2034 # for those who source this
codename=${DEBIAN:-$(. /etc/os-release && echo "$VERSION_CODENAME")}
mkdir -p "$cache"

needs_root_and() {  # TOOL...: status 77 and the reason if something is missing
  local tool
  [ "$(id -u)" = 0 ] || { echo "not root" && exit 77; }
  for tool in "$@"; do
    command -v "$tool" >/dev/null || { echo "$tool is not installed" && exit 77; }
  done
  unshare --mount --pid --fork true || { echo "no namespaces here" && exit 77; }
}

shopt -s inherit_errexit

persistently() {  # COMMAND...: what asks the network is tried three times; what it says goes to standard error
  local tries
  for tries in 1 2 3; do
    if "$@" >&2; then return 0; fi
    echo "attempt $tries of 3 failed: $1" >&2
    sleep $((tries * 5))
  done
  return 1
}

# The lines of apt for a release, from the mirrors this machine uses.
sources() {  # CODENAME
  local main security
  # shellcheck disable=SC2016 # the dollars are apt's
  main=$(apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)' 2>/dev/null | sed -n 's,/*$,,; s/^Debian|Debian|main|//p' | head -n 1)
  # shellcheck disable=SC2016 # the dollars are apt's
  security=$(apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)' 2>/dev/null | sed -n 's,/*$,,; s/^Debian|Debian-Security|main|//p' | head -n 1)
  main=${main:-http://deb.debian.org/debian} security=${security:-http://security.debian.org/debian-security}
  printf 'deb %s main\n' "$main $1" "$main $1-updates" "$security $1-security"
}

base_archive() {  # what debian:NAME-slim is; prints where it lies
  local archive=$cache/base-$codename.tar
  if [ ! -s "$archive" ] || [ -n "$(find "$archive" -mtime +14)" ]; then
    persistently mmdebstrap --quiet --format=tar --variant=minbase --include=ca-certificates \
      --aptopt='Acquire::Retries "3"' --aptopt='Acquire::http::Timeout "30"' "$codename" "$archive.new" || {
      rm -f "$archive.new"
      echo "Debian's archive gave no base system: the reason is above"
      exit 77
    }
    mv "$archive.new" "$archive"
  fi
  echo "$archive"
}

base_system() {  # PACKAGE...: a tree that can be booted, with these in it; prints where it stands
  local tree
  tree=$cache/system-$codename-$(echo "$@" | sha256sum | cut -c1-8)
  if [ ! -e "$tree/made" ]; then
    rm -rf "$cache/system-$codename"-*
    local archive
    archive=$(base_archive)
    mkdir -p "$tree"
    tar -C "$tree" -xf "$archive"
    printf '#!/bin/sh\nexit 101\n' >"$tree/usr/sbin/policy-rc.d" && chmod 755 "$tree/usr/sbin/policy-rc.d"
    cp /etc/resolv.conf "$tree/etc/"
    printf '127.0.0.1 localhost\n' >"$tree/etc/hosts"
    # shellcheck disable=SC2016 # the inner shell's own
    DEBIAN_FRONTEND=noninteractive persistently chroot "$tree" sh -c 'set -- -o Acquire::Retries=3 -o Acquire::http::Timeout=30 "$@"
      apt-get -q update && apt-get -q install -y --no-install-recommends "$@"' - systemd systemd-sysv dbus procps "$@"
    rm -f "$tree/usr/sbin/policy-rc.d" "$tree/etc/resolv.conf"
    : >"$tree/made"
  fi
  echo "$tree"
}
