#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Every sample configuration is one Postern accepts, once the files it names exist; and the check can tell.
#   samples.sh BINARY
set -euo pipefail

binary=$(readlink -f "$1")
cd "$(dirname "$0")/../../deploy/samples"
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir "$stage/tls"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=mx.example.org" \
  -keyout "$stage/tls/privkey.pem" -out "$stage/tls/fullchain.pem" 2>/dev/null
openssl rand -hex 48 | tr -d '\n' >"$stage/tls/tickets.keys"
chmod 600 "$stage"/tls/*.keys "$stage"/tls/privkey.pem
: >"$stage/accounts"

passed=0 failed=0
verdict() {  # WANTED STATUS, TITLE, COMMAND...
  local wanted=$1 title=$2 status=0
  shift 2
  "$@" >"$stage/out" 2>&1 || status=$?
  if [ $status = "$wanted" ]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "$title: status $status instead of $wanted" && cat "$stage/out"
  fi
}
for sample in *.toml *.yaml; do
  sed "s,/etc/postern,$stage,g" "$sample" >"$stage/$sample"
  verdict 0 "$sample" "$binary" check "$stage/$sample"
  # What the samples promise of a missing certificate must not pass unnoticed.
  sed "s,/etc/postern/tls,$stage/absent,g; s,/etc/postern,$stage,g" "$sample" >"$stage/broken-$sample"
  verdict 1 "$sample without its certificate" "$binary" check "$stage/broken-$sample"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
