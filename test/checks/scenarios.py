#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The acceptance scenarios and the tests that show them.

  scenarios.py         every marker names a scenario that exists, and every scenario that is due has a test
  scenarios.py FOLDER  what the run whose logs are in FOLDER has shown, in one line

A test marks its scenarios where it stands: a transcript in its comment, "(scenarios.md 31)"; an end-to-end test in
its name, "test_scenarios_43_to_52_...", or at the start of its docstring; a unit test in its case's name or in a
comment inside, "Scenario 143". What the head of a file says is no marker."""
import ast
import glob
import json
import os
import re
import sys

TEST = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PAGE = os.path.join(TEST, "..", "deploy", "specification", "scenarios.md")
NOT_BUILT = {"HTTP", "Management"}  # sections of that page
LATER = {54, 55, 257}  # stores that can be down or ask in vain; the call that resets a destination
MARK = re.compile(r"[Ss]cenarios?(?:\.md)?[ _]+(\d+(?:(?:_and_|_to_|, and | and | to |, |_)\d+)*)")
NO_PEERS = {"unshare", "mount", "script", "prlimit", "setpriv", "ss", "promtool"}  # for the stage, not to talk to


def scenarios():
    """{number: title of its section}"""
    found, section = {}, ""
    for title, number in re.findall(r"^(?:## [A-Z]\. (.+)|### (\d+)\. .+)$", read(PAGE), re.MULTILINE):
        section = title or section
        if number:
            found[int(number)] = section
    return found


def due():
    return {number for number, section in scenarios().items() if section not in NOT_BUILT} - LATER


def marks(text):
    found = set()
    for match in MARK.finditer(text):
        words = re.findall(r"\d+|to", match[1].replace("_", " "))
        for i, word in enumerate(words):
            if word == "to":
                found |= set(range(int(words[i - 1]), int(words[i + 1])))
            else:
                found.add(int(word))
    return found


def read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def transcripts():
    """{path: marks}"""
    return {path: marks("".join(line for line in read(path).splitlines() if line.startswith("#")))
            for path in sorted(glob.glob(f"{TEST}/transcripts/*/*.txt"))}


def end_to_end():
    """{title: (marks, whether real peers take part)}"""
    found = {}
    for path in sorted(glob.glob(f"{TEST}/e2e/test_*.py")):
        topic = os.path.basename(path).removeprefix("test_").removesuffix(".py")
        for node in ast.parse(read(path)).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                said = (ast.get_docstring(node) or "") if (ast.get_docstring(node) or "").startswith("Scenario") else ""
                needs = {c.value for d in node.decorator_list if isinstance(d, ast.Call) for k in d.keywords
                         if k.arg == "needs" for c in ast.walk(k.value) if isinstance(c, ast.Constant)}
                title = f"{topic}: {node.name.removeprefix('test_').replace('_', ' ')}"
                found[title] = marks(node.name) | marks(said), bool(needs - NO_PEERS) or topic in ("servers", "real_peers")
    return found


def unit():
    """{program: marks}"""
    found = {}
    for path in sorted(glob.glob(f"{TEST}/unit/*/**/*.?pp", recursive=True)):
        program = os.path.relpath(path, f"{TEST}/unit").split(os.sep)[0]
        body = re.sub(r"\A(//[^\n]*\n)+", "", read(path))
        found[program] = found.get(program, set()) | marks(body)
    return found


def check():
    places = [(path, numbers) for path, numbers in transcripts().items()]
    places += [(title, numbers) for title, (numbers, _) in end_to_end().items()] + list(unit().items())
    known = set(scenarios())
    wrong = [f"{place}: no such scenario: {n}" for place, numbers in places for n in sorted(numbers - known)]
    shown = set().union(*(numbers for _, numbers in places))
    wrong += [f"scenario {n} has no test" for n in sorted(due() - shown)]
    print(*wrong, sep="\n") if wrong else print(f"{len(due())} scenarios, each with a test")
    return not wrong


def ran(logs):
    """From the logs alone: a test that did not run or did not pass shows nothing."""
    shown, plays, targets, peers = set(), set(), set(), set()
    programs, tests, played_out = unit(), end_to_end(), set().union(*transcripts().values())
    for path in glob.glob(f"{logs}/tests-*.json"):
        for record in map(json.loads, filter(str.strip, read(path).splitlines())):
            if record["result"] != "OK":
                continue
            name = record["name"].split(" ")[-1]
            shown |= programs.get(name, set())
            if name.startswith("fuzz_"):
                targets.add(name.removeprefix("fuzz_"))
            if played := re.search(r"^(\d+) transcripts, (\d+) plays$", record.get("stdout") or "", re.MULTILINE):
                plays.add((int(played[1]), int(played[2])))
                shown |= played_out
    for path in glob.glob(f"{logs}/end-to-end*.log"):
        for title in re.findall(r"^ok +[\d.]+s  (.*)$", read(path), re.MULTILINE):
            numbers, real = tests.get(title, (set(), False))
            shown |= numbers
            peers |= {title} if real else set()
    if os.path.exists(f"{logs}/fuzz-runs"):
        targets |= set(re.findall(r"^(\w+): \d+ runs$", read(f"{logs}/fuzz-runs").replace("fuzz_", ""), re.MULTILINE))
    files, runs = max(plays, default=(0, 0))
    print(f"scenarios {len(shown & due())} of {len(due())}, transcripts {files} ({runs} plays), "
          f"fuzz targets {len(targets)}, real-peer cases {len(peers)}")
    return True


if __name__ == "__main__":
    sys.exit(0 if (ran(sys.argv[1]) if len(sys.argv) == 2 else check()) else 1)
