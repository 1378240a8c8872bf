#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many cases passed, failed and were skipped, from what a test step printed or meson recorded.

  count.py LOG          a closing line "N passed, M failed[, K skipped][ in T s]", else one case
  count.py TESTLOG.json every case doctest counted, one for each program that counts none
"""
import json
import re
import sys

DOCTEST = re.compile(r"test cases:\s*(\d+)\s*\|\s*(\d+) passed\s*\|\s*(\d+) failed\s*\|\s*(\d+) skipped")
CLOSING = re.compile(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?(?: in \d+ s)?$", re.MULTILINE)


def of_program(record):
    text = re.sub(r"\x1b\[[0-9;]*m", "", record.get("stdout") or "")
    good = record["result"] in ("OK", "EXPECTEDFAIL")
    counted = DOCTEST.findall(text)
    if not counted:
        if record["result"] == "SKIP":
            return 0, 0, 1
        return int(good), int(not good), 0
    passed, failed, skipped = (sum(int(row[i]) for row in counted) for i in (1, 2, 3))
    # A program may die, or be found wanting by a sanitizer, after its last case passed.
    return passed, failed or int(not good), skipped


def main(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    if path.endswith(".json"):
        rows = [of_program(json.loads(line)) for line in text.splitlines() if line.strip()]
    else:
        rows = [tuple(int(n or 0) for n in row) for row in CLOSING.findall(text)[-1:]]
    print(*(sum(column) for column in zip(*rows)) if rows else (0, 0, 0))


main(sys.argv[1])
