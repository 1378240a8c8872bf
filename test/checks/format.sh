#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The formatter settles the format: without arguments names every file that differs, with --fix mends them.
# Only clang-format 14 counts, since each release of it has opinions of its own.
set -euo pipefail
cd "$(dirname "$0")/../.."

tool=$(command -v clang-format-14 || command -v clang-format || true)
case $([ -z "$tool" ] || "$tool" --version) in
  *" version 14."*) ;;
  *)
    archive_has() { [ -n "$(apt-cache show --no-all-versions "$1" 2>/dev/null)" ]; }
    if archive_has clang-format && ! archive_has clang-format-14; then
      echo "this Debian has no clang-format 14; sources are the same on one that has" && exit 78
    fi
    echo "format: clang-format 14 is not installed" && exit 77
    ;;
esac
sources() { find conf protocols tls proxy test \( -name '*.cpp' -o -name '*.hpp' \) -print0; }
if [ "${1:-}" = --fix ]; then
  sources | xargs -0 -r "$tool" --style=file -i
  exit
fi
places=$(sources | xargs -0 -r -P "$(nproc)" -n 20 "$tool" --style=file --dry-run 2>&1 |
  sed -n 's/^\([^ :]*:[0-9]*\):.*clang-format.*/\1/p' | sort -u -t: -k1,1 -k2,2n)
[ -z "$places" ] && exit
printf '%s\n' "$places" | awk -F: '{ lines[$1] = lines[$1] " " $2 } END { for (f in lines) print f ": lines" lines[f] }' | sort
echo "format: test/checks/format.sh --fix mends them"
exit 1
