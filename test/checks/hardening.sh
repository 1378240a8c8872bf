#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The release binary carries the protections it was built for; a flag that got lost is found here.
#   hardening.sh BINARY
set -euo pipefail

binary=$1
lost=0
want() {  # TITLE COMMAND PATTERN
  if readelf --wide "$2" "$binary" 2>/dev/null | grep -E -- "$3" >/dev/null; then return; fi
  echo "hardening: $binary: no $1"
  lost=$((lost + 1))
}
want "position independence" --file-header 'Type: *DYN'
want "position independence (flag)" --dynamic 'FLAGS_1.* PIE'
want "read-only relocations" --program-headers 'GNU_RELRO'
want "immediate binding" --dynamic 'BIND_NOW|FLAGS_1.*NOW'
want "stack protector" --symbols '__stack_chk_fail'
want "checked library calls" --symbols '__(mem|str|v?s[n]?printf|read|fdelt)[a-z]*_chk'
want "stack marked as not executable" --program-headers 'GNU_STACK .* RW '
if readelf --wide --program-headers "$binary" | grep -E 'LOAD .* RWE|GNU_STACK .* RWE' >/dev/null; then
  echo "hardening: $binary: memory both writable and executable"
  lost=$((lost + 1))
fi
if readelf --wide --dynamic "$binary" | grep -E 'RPATH|RUNPATH' >/dev/null; then
  echo "hardening: $binary: a library path from the build"
  lost=$((lost + 1))
fi
[ "$lost" = 0 ]
