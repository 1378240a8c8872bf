#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# House rules a machine can see: the licence tag on every source, a fixed top level, files of one thought,
# nothing left open, and no trace of the machine somebody worked on.
set -euo pipefail
cd "$(dirname "$0")/.."

files() {  # every file of the project, also from an unpacked release
  if [ -e .git ] && command -v git >/dev/null; then
    git ls-files -z --cached --others --exclude-standard
  else
    find . -type f -not -path './build*' -not -path './subprojects/packagecache/*' \
      -not -path './subprojects/wolfssl-*' -not -name '*.pyc' -printf '%P\0'
  fi
}

found=0
breach() {
  printf '%s\n' "$*"
  found=$((found + 1))
}

while IFS= read -r -d '' file; do
  [ -f "$file" ] || continue
  case $file in
    .* | meson.build | meson_options.txt | README.md | LICENSE) ;;
    proxy/* | protocols/* | tls/* | conf/* | test/* | deploy/* | subprojects/*) ;;
    *) breach "$file: not in the fixed top level" ;;
  esac

  read -r -n 2 mark <"$file" 2>/dev/null || mark=
  source=no
  case $file in
    */corpus/* | test/transcripts/*) ;;
    *.cpp | *.hpp | *.c | *.h | *.sh | *.py | *.toml | *.yaml | *.yml | *.service | *.md | *meson.build) source=yes ;;
    *) [ "$mark" != '#!' ] || source=yes ;;
  esac
  if [ $source = yes ] && ! head -n 3 "$file" | grep -F 'SPDX-License-Identifier: GPL-3.0-or-later' >/dev/null; then
    breach "$file:1: no licence tag in the first three lines"
  fi
  if [ "$mark" = '#!' ] && [ ! -x "$file" ]; then breach "$file: a script that is not executable"; fi

  case $file in
    conf/*.?pp | protocols/*.?pp | tls/*.?pp | proxy/*.?pp)
      lines=$(wc -l <"$file")
      [ "$lines" -le 450 ] || breach "$file: $lines lines; is it still one thing?"
      ;;
  esac
done < <(files)

open_marks='\b(TODO|FIXME|XXX|HACK)\b|not implemented|unimplemented'
traces='(^|[^A-Za-z0-9_.])/(work|farm|root|home/[a-z]+)/[A-Za-z.]'
while IFS= read -r -d '' file; do
  case $file in
    LICENSE | test/house.sh | subprojects/* | */corpus/* | *.pem) continue ;;
  esac
  while IFS= read -r line; do breach "$file:$line: left open"; done < <(grep -nIoE "$open_marks" -- "$file" || true)
  while IFS= read -r line; do breach "$file:$line: a path of one machine"; done < <(grep -nIoE "$traces" -- "$file" || true)
done < <(files)

[ "$found" = 0 ]
