#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# House rules a machine can see: the licence tag on every source, a fixed top level, files of one thought,
# nothing left open, and no trace of the machine somebody worked on.
set -euo pipefail
cd "$(dirname "$0")/../.."

files() {  # every file of the project, also from an unpacked release
  if [ -e .git ] && command -v git >/dev/null; then
    git ls-files -z --cached --others --exclude-standard
  else
    find . -type f -not -path './build*' -not -path './subprojects/packagecache/*' \
      -not -path './subprojects/wolfssl-*' -not -name '*.pyc' -printf '%P\0'
  fi
}

list=$(mktemp)
trap 'rm -f "$list"' EXIT
files | grep -zvE '/corpus/|\.pem$' | while IFS= read -r -d '' file; do
  [ ! -f "$file" ] || printf '%s\0' "$file"
done >"$list"

breaches() {
  grep -zvE '^(\.[^/]*|meson\.build|meson_options\.txt|README\.md|LICENSE)$|^(\.ci|proxy|protocols|tls|conf|test|deploy|subprojects)/' \
    "$list" | tr '\0' '\n' | sed 's/$/: not in the fixed top level/'

  # Sources by their name, or scripts by their first two characters.
  xargs -0 -r awk '
    FNR == 1 {
      if (file != "") judge()
      file = FILENAME; tagged = 0; script = /^#!/
    }
    FNR <= 3 && /SPDX-License-Identifier: GPL-3\.0-or-later/ { tagged = 1 }
    { lines = FNR }
    function judge() {
      if (!tagged && (script || file ~ /\.(cpp|hpp|c|h|sh|py|toml|yaml|yml|service|md|8)$|meson\.build$/))
        print file ":1: no licence tag in the first three lines"
      if (lines > 450 && file ~ /^(conf|protocols|tls|proxy)\/.*\.[ch]pp$/)
        print file ": " lines " lines; is it still one thing?"
    }
    END { if (file != "") judge() }' <"$list"

  xargs -0 -r grep -lIE -m 1 '^#!' <"$list" | while IFS= read -r file; do
    if [ "$(head -c 2 "$file")" = '#!' ] && [ ! -x "$file" ]; then echo "$file: a script that is not executable"; fi
  done

  grep -zvE '^(LICENSE|test/checks/house\.sh|subprojects/.*)$' "$list" | xargs -0 -r \
    grep -nIHoE '\b(TODO|FIXME|XXX|HACK)\b|(^|[^A-Za-z0-9_.])(//|#).*(not implemented|unimplemented)|(^|[^A-Za-z0-9_.])/(work|farm|root|home/[a-z]+)/[A-Za-z.]' |
    sed 's/$/: left open, or a path of one machine/'
}
found=$(breaches || true)
[ -z "$found" ] || { printf '%s\n' "$found" && exit 1; }
