#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever the project refers to exists in the project: documents, their sections, rules, and the links of Markdown.

  references.py              looks through every text file, says file:line of each reference that leads nowhere
  references.py --self-test  plants one breach of each kind and makes sure that each is found

What counts as a reference, in comments, names of tests and documents alike:
  a name ending in .md  a document of the project; a number behind it is a section of that document: "4.2", "P2.9", also
                        "1.2, 1.3 and 1.12", "2.1 to 2.4", or on the next line of a comment
  R-14b, scenario 31    a rule of configuration.md, a scenario of scenarios.md; "scenarios 43 to 52", also in a test's name
  [text](FILE#ANCHOR)   in Markdown: a file, and a heading in it
and within the specification, section numbers in brackets, "(1.7)", which are those of the same page."""
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PAGES = "deploy/specification/"
RULES = PAGES + "configuration.md"
SCENARIOS = PAGES + "scenarios.md"

NUMBER = r"P?\d+(?:\.\d+)*"
# A space, or the end of a line and what begins the next one of a comment.
GAP = r"(?:[ \t]+|[ \t]*\n[ \t]*(?://+|#+|\*)?[ \t]*)"
NAMED = re.compile(rf"((?:[\w.-]+/)*[A-Za-z][\w-]*\.md)\b(?:`?{GAP}(?:sections?{GAP})?(?=P?\d)"
                   rf"({NUMBER}(?:(?:,|{GAP}and|{GAP}to|,{GAP}and){GAP}{NUMBER}(?![\w-]))*))?")
RULE = re.compile(r"(?<![\w-])R-\d+b?(?![\w-])")
SCENARIO = re.compile(r"(?<![A-Za-z])[Ss]cenarios?[ _](\d+(?:(?:_and_|_to_|_|, and | and | to |, )\d+)*)")
LINK = re.compile(r"\[[^\]\n]*\]\(([^()\s]+)\)")
OWN = re.compile(r"\((\d{1,2}\.\d{1,2})\)")
HEADING = re.compile(r"^(#{1,6}) +(.*?) *#*$")
CODE = re.compile(r"(`+)(?:.|\n)*?\1")


def tracked(root):
    """Paths of text that the project is made of."""
    if os.path.exists(f"{root}/.git"):
        listed = subprocess.run(["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                                check=True, capture_output=True, text=True).stdout.split("\0")
    else:
        listed = [os.path.relpath(os.path.join(folder, name), root) for folder, _, names in os.walk(root) for name in names]
    left_out = re.compile(r"(^|/)(LICENSE|corpus/.*|.*\.(pem|pyc|png))$|^(build[^/]*|subprojects/(packagecache|wolfssl-).*)/")
    return sorted(path for path in listed if path and not left_out.search(path) and os.path.isfile(f"{root}/{path}"))


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except UnicodeDecodeError:
        return ""


def headings(text):
    """The headings of a document without those that only look like one inside a block of code."""
    found, code = [], False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            code = not code
        elif not code and (match := HEADING.match(line)):
            found.append(match[2])
    return found


def sections(text):
    """Numbers of the headings: "4.2 Title", "31. Title", "P2.9 Title"."""
    return {match[1] for title in headings(text) if (match := re.match(rf"({NUMBER})\.?(?: |$)", title))}


def anchors(text):
    """What a link may name: the headings as forges write them."""
    found, seen = set(), {}
    for title in headings(text):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        count = seen[slug] = seen.get(slug, -1) + 1
        found.add(f"{slug}-{count}" if count else slug)
    return found


def without_code(text):
    """Blocks and words of code become spaces, so that places stay where they are."""
    blank = lambda match: re.sub(r"[^\n]", " ", match[0])
    return CODE.sub(blank, re.sub(r"^ *```.*?^ *```", blank, text, flags=re.MULTILINE | re.DOTALL))


class Project:
    def __init__(self, root):
        self.root = root
        self.seen = 0  # references
        self.files = {path: read(f"{root}/{path}") for path in tracked(root)}
        self.folders = {os.path.dirname(path)[:end] for path in self.files
                        for end in [m.start() for m in re.finditer("/|$", os.path.dirname(path))]}
        self.documents = {}  # by name: those of the specification first
        for path in sorted(self.files, key=lambda path: (not path.startswith(PAGES), path)):
            if path.endswith(".md"):
                self.documents.setdefault(os.path.basename(path), []).append(path)
        self.scenarios = sections(self.files.get(SCENARIOS, ""))
        self.rules = set(re.findall(r"\*\*(R-\d+b?)\*\*", self.files.get(RULES, "")))

    def document(self, name, place):
        """What a name means where it is used: a neighbour of that name, one whose path ends so, or the one of it."""
        known = self.documents.get(os.path.basename(name), [])
        beside = os.path.normpath(os.path.join(os.path.dirname(place), name))
        if beside in known and not any(path.startswith(PAGES) for path in known):
            return beside
        ending = [path for path in known if f"/{path}".endswith("/" + re.sub(r"^(\.\.?/)+", "", name))]
        # A path of an installed file, or one that is put together, ends in another folder than it has here.
        return (ending or ([] if place.endswith(".md") else known) or [None])[0]

    def named(self, place, text):
        for match in NAMED.finditer(text):
            if "://" in text[text.rfind("\n", 0, match.start()) + 1 : match.start()].rpartition(" ")[2]:
                continue  # a place elsewhere
            self.seen += 1
            page = self.document(match[1], place)
            if not page:
                yield match.start(1), f"{match[1]}: there is no such document"
                continue
            there = sections(self.files[page]) if match[2] else set()
            for number in re.findall(NUMBER, match[2] or ""):
                if number not in there:
                    yield match.start(1), f"{match[1]} {number}: {page} has no such section"

    def numbered(self, place, text):
        if self.rules:
            for match in RULE.finditer(text):
                self.seen += 1
                if match[0] not in self.rules:
                    yield match.start(), f"{match[0]}: {RULES} has no such rule"
        for match in SCENARIO.finditer(text) if self.scenarios else ():
            for number in re.findall(r"\d+", match[1]):
                self.seen += 1
                if number not in self.scenarios:
                    yield match.start(), f"scenario {number}: {SCENARIOS} has no such scenario"
        if place.startswith(PAGES):
            there = sections(text)
            for match in OWN.finditer(without_code(text)):
                self.seen += 1
                if there and match[1] not in there:
                    yield match.start(), f"({match[1]}): this page has no such section"

    def links(self, place, text):
        for match in LINK.finditer(without_code(text)):
            target, _, anchor = match[1].partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            self.seen += 1
            path = os.path.normpath(os.path.join(os.path.dirname(place), target)) if target else place
            if path not in self.files and path not in self.folders and not os.path.isfile(f"{self.root}/{path}"):
                yield match.start(), f"{match[1]}: there is no such file"
            elif anchor and anchor not in anchors(self.files.get(path, "")):
                yield match.start(), f"{match[1]}: {path} has no such heading"

    def breaches(self):
        found = []
        for place, text in self.files.items():
            wrong = [*self.named(place, text), *self.numbered(place, text)]
            if place.endswith(".md"):
                wrong += self.links(place, text)
            found += [(place, text.count("\n", 0, at) + 1, what) for at, what in sorted(wrong)]
        return found


def self_test():
    # Put together here, so that this file itself refers to nothing that is not there.
    md = ".md"
    page = f"# Page\n\n## 1. One\n\n### 1.2 Two\n\nSee `other{md}` 3, (1.2) and [there](other{md}#3-three).\n```\n# 9 in code\n```\n"
    good = {
        PAGES + f"page{md}": page,
        PAGES + f"other{md}": "# Other\n\n## 3. Three\n\n## P2.9 Objects\n",
        PAGES + f"configuration{md}": "# Keys\n\n* **R-1** No file.\n",
        PAGES + f"scenarios{md}": "# Scenarios\n\n### 1. First\n\n### 2. Second\n",
        f"README{md}": f"# Readme\n\nA [page](deploy/specification/page{md}), [itself](#readme), [a folder](deploy), [out](https://x.test/y{md}).\n",
        "conf/a.cpp": f"// As page{md} 1.2 and\n// other{md} 3, P2.9 say (R-1); page{md}\n// 1, or deploy/specification/page{md}.\n",
        "test/b.py": f'"""Rules of page{md} 1 to 1.2, scenarios{md} 1 and 2."""\ndef test_scenarios_1_and_2_of_8():\n',
    }
    bad = {
        "a document that is not there": ("conf/x.cpp", f"// promised\n// by gone{md} 1\n", 2),
        "a document without a number": ("conf/x.py", f'"""As gone{md} says."""\n', 1),
        "a document in another folder": (f"x{md}", f"See `elsewhere/page{md}`.\n", 1),
        "a section that is not there": ("conf/x.cpp", f"int x;  // page{md} 1.3\n", 1),
        "a section on the next line": ("conf/x.hpp", f"// as in page{md}\n// 4\n", 1),
        "the last of several sections": ("conf/x.sh", f"# page{md} 1, 1.2 and 7\n", 1),
        "the end of a range": ("test/x.txt", f"# (page{md} 1 to 5)\n", 1),
        "a heading inside code": ("conf/x.cpp", f"// page{md} 9\n", 1),
        "a section in a test's name": ("test/x_test.cpp", f'TEST_CASE("page{md} 8: all of it") {{}}\n', 1),
        "a rule that is not there": ("test/x.hpp", 'x = {"R-' + '99", "", ""};\n', 1),
        "a scenario that is not there": ("test/x.txt", f"# (scenarios{md} 4)\n", 1),
        "a scenario in a test's name": ("test/x.py", "def test_scenarios_1_and_" + "3_of_8():\n", 1),
        "a section of the same page": (PAGES + f"x{md}", "# X\n\n## 1. One\n\nAs above (1" + ".4).\n", 5),
        "a link to a file": (f"deploy/x{md}", f"# X\n\n[x](nowhere{md})\n", 3),
        "a link to a heading": (f"deploy/x{md}", f"# X\n\n[x](specification/page{md}#4-four)\n", 3),
        "a link within the page": (f"deploy/x{md}", "# X\n\n[x](#y)\n", 3),
    }
    missed = []
    for name, planted in [("nothing", None), *bad.items()]:
        with tempfile.TemporaryDirectory() as root:
            files = dict(good) if planted is None else {**good, planted[0]: planted[1]}
            for path, text in files.items():
                os.makedirs(os.path.dirname(f"{root}/{path}"), exist_ok=True)
                with open(f"{root}/{path}", "w", encoding="utf-8") as file:
                    file.write(text)
            found = sorted({(place, line) for place, line, _ in Project(root).breaches()})
            if found != ([] if planted is None else [(planted[0], planted[2])]):
                missed.append(f"planted {name}: found {found}")
    print(*missed, sep="\n") if missed else print(f"{len(bad)} planted breaches, each found")
    return not missed


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    project = Project(ROOT)
    found = project.breaches()
    for place, line, what in found:
        print(f"{place}:{line}: {what}")
    if not found:
        print(f"{project.seen} references, each to something that is there")
    return not found


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
