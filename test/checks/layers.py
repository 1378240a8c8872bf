#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arrows between the rooms of the house hold: every #include goes where test/checks/arrows.txt lets its room look,
every outside library stays behind its door, and the pure rooms touch no socket, clock or thread.

  layers.py              names every breach
  layers.py --graph      prints who looks into whom, and fails on an upward arrow or a circle
  layers.py --self-test  plants every forbidden pair of the table, and what is allowed, and compares"""
import collections
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TABLE = os.path.join(ROOT, "test/checks/arrows.txt")
TOPS = ("conf", "protocols", "tls", "proxy", "test")
SOURCES = (".cpp", ".hpp", ".c", ".h", ".inc")
STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
DIRECTIVE = re.compile(r"\s*#\s*(?:include|include_next|import)\b\s*(.*)")
# A call, not a declaration of a function of that name.
SOCKET = re.compile(r"(?:^|[^\w.>:])(?:::)?(?:socket|send|recv|sendto|recvfrom|sendmsg|recvmsg|setsockopt|getaddrinfo|epoll_wait|poll)\s*\(")
DECLARED = re.compile(r"[A-Za-z_][\w:<>*& ]*[ *&](?:send|recv)\(")
CLOCK = re.compile(r"_clock::now|(?:^|[^\w.>])(?:gettimeofday|clock_gettime|time)\s*\(")
THREADS = {"thread", "mutex", "shared_mutex", "condition_variable", "future", "semaphore"}


class Table:
    def __init__(self, path):
        self.rooms = {}    # name: the rooms it may look into, None for all
        self.outside = {}  # library: (headers, rooms)
        self.excused = set()
        self.faults = []
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                words = line.split("#")[0].split()
                if words:
                    self.take(f"{path}:{number}", *words)

    def take(self, place, kind, name, *words):
        if kind == "room":
            self.faults += [f"{place}: {name} looks into {word}, which does not stand above it"
                            for word in words if word != "*" and word not in self.rooms]
            self.rooms[name] = None if words == ("*",) else set(words)
        elif kind == "outside":
            colon = words.index(":")
            self.outside[name] = (words[:colon], words[colon + 1:])
        elif kind == "except":
            self.excused.add((name, words[0]))
        else:
            self.faults.append(f"{place}: what is {kind}?")

    def room(self, path):
        return max((room for room in self.rooms if within(path, room)), key=len, default=None)

    def may_look(self, room, target):
        return room == target or self.rooms[room] is None or target in self.rooms[room]

    def library(self, header):
        for name, (headers, rooms) in self.outside.items():
            if any(header == h or h.endswith("/") and header.startswith(h) for h in headers):
                return name, rooms
        return None, ()


def within(path, place):
    return place == "*" or path.startswith((place + "/", place + "."))


def includes(text):
    """(line number, what stands behind #include) of each; a comment or a string holds none."""
    for number, line in enumerate(text.splitlines(), 1):
        if found := DIRECTIVE.match(line):
            yield number, found[1]


def breaches(table, files):
    """One line each. `files`: {path: text}."""
    for path, text in sorted(files.items()):
        room = table.room(path)
        if room is None:
            yield f"{path}: no room of {os.path.basename(TABLE)} has it"
            continue
        for number, behind in includes(text):
            fault = include_fault(table, path, room, behind)
            if fault:
                yield f"{path}:{number}: {fault}"
        if room.split("/")[0] in ("protocols", "tls"):
            for number, line in enumerate(text.splitlines(), 1):
                code = STRING.sub('""', line).split("//")[0]
                if SOCKET.search(code) and not DECLARED.match(code):
                    yield f"{path}:{number}: a socket call in {room}/"
                if room == "protocols" and CLOCK.search(code):
                    yield f"{path}:{number}: a clock in protocols/"


def include_fault(table, path, room, behind):
    if not behind or behind[0] not in '"<':
        return "an #include that is not spelled out"
    header = re.split('[">]', behind[1:])[0]
    if re.search(r"(^|/)\.\.?/", header):
        return "#include with a relative path: write it from the root"
    if "/" in header and header.split("/")[0] in TOPS:
        target = table.room(header)
        if target is None:
            return f"no room has {header}"
        if not table.may_look(room, target) and (path, header) not in table.excused:
            return f"{room} may not look into {target} ({header})"
        return None
    if behind[0] == '"':
        return f'"{header}" is not written from the root of the tree'
    if room == "protocols" and header in THREADS:
        return f"<{header}> in protocols/: no threads there"
    if "/" not in header and "." not in header:
        return None  # the standard library
    library, rooms = table.library(header)
    if library is None:
        return f"<{header}> belongs to no library of {os.path.basename(TABLE)}"
    if not any(within(path, place) for place in rooms):
        return f"<{header}>: {library} belongs to {', '.join(rooms)}"
    return None


def house():
    files = {}
    for top in TOPS:
        for folder, _, names in os.walk(f"{ROOT}/{top}"):
            for name in names:
                if name.endswith(SOURCES):
                    path = os.path.join(folder, name)
                    with open(path, encoding="utf-8", errors="replace") as file:
                        files[os.path.relpath(path, ROOT)] = file.read()
    return files


def check(table):
    files = house()
    wrong = table.faults + list(breaches(table, files))
    used = {(path, STRING.match(behind)[0].strip('"')) for path, text in files.items()
            for _, behind in includes(text) if behind.startswith('"')}
    wrong += [f"{path} no longer includes {header}: its exception can go" for path, header in sorted(table.excused - used)]
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return not wrong


def graph(table):
    edges = collections.Counter()
    for path, text in house().items():
        room = table.room(path)
        for _, behind in includes(text):
            target = table.room(behind[1:])
            if behind[0] == '"' and room != "test" and target not in (None, room):
                edges[room, target] += 1
    order, upward = list(table.rooms), []
    for room in order:
        if room != "test":
            below = [(target, count) for (source, target), count in edges.items() if source == room]
            print(f"{room:15} -> " + (", ".join(f"{t} ({n})" for t, n in sorted(below, key=lambda e: order.index(e[0]))) or "nothing"))
            upward += [f"upward: {room} -> {t}" for t, _ in below if order.index(t) > order.index(room)]
    print(*upward, f"{len(edges)} arrows between {len(order) - 1} rooms, {len(upward)} upward"
          + ("" if upward else ": each goes to a room above it in this list, so there is no circle"), sep="\n")
    return not upward


KINDS = [  # (whether it is a breach, file, text)
    (True, "proxy/base/a.cpp", '#include "log.hpp"'),
    (True, "proxy/base/a.cpp", '#include "../conf/address.hpp"'),
    (True, "proxy/base/a.cpp", "#include POSTERN_HEADER"),
    (True, "conf/a.hpp", "#include <proxy/base/log.hpp>"),
    (True, "protocols/imap/a.cpp", '  #  include "proxy/base/log.hpp"'),
    (True, "proxy/a.cpp", "int x;"),
    (True, "proxy/base/a.cpp", "#include <boost/asio.hpp>"),
    (True, "protocols/a.cpp", "int fd = socket(AF_INET, SOCK_STREAM, 0);"),
    (True, "tls/a.cpp", "  ::send(fd, p, n, 0);"),
    (True, "tls/a.cpp", "  auto n = recv(fd, p, n, 0);"),
    (True, "protocols/a.cpp", "#include <thread>"),
    (True, "protocols/a.cpp", "auto t = std::chrono::steady_clock::now();"),
    (False, "tls/a.cpp", "#include <thread>\nint send(WOLFSSL*, char* from, int size, void* user) {\n  return size;"),
    (False, "protocols/a.cpp", '#include <netinet/in.h>\n// never calls send() or recv(fd)\nauto n = queue.send(b); log("socket(");'),
]


def planted(room):
    return f"{room}/planted" if os.path.isdir(f"{ROOT}/{room}") else room


def self_test(table):
    cases = list(KINDS)
    for room in table.rooms:
        cases += [(not table.may_look(room, target), f"{planted(room)}.cpp", f'#include "{planted(target)}.hpp"')
                  for target in table.rooms]
    for headers, rooms in table.outside.values():
        places = set(table.rooms) | set(rooms) - {"*"}
        for header in headers:
            header += "planted.h" if header.endswith("/") else ""
            cases += [(not any(within(f"{planted(place)}.cpp", room) for room in rooms), f"{planted(place)}.cpp", f"#include <{header}>")
                      for place in places]
    wrong = [case for case in cases if bool(list(breaches(table, {case[1]: "// planted\n" + case[2]}))) != case[0]]
    for bad, path, text in wrong:
        print(f"layers: self-test: should be {'found' if bad else 'let pass'}: {path}: {text}")
    print(f"layers: self-test: {sum(case[0] for case in cases)} planted breaches and {sum(not case[0] for case in cases)} "
          f"allowed lines, {len(wrong)} not as expected")
    return not wrong


def main():
    ways = {"": check, "--graph": graph, "--self-test": self_test}
    way = ways.get(sys.argv[1] if len(sys.argv) > 1 else "")
    if way is None or len(sys.argv) > 2:
        sys.exit(__doc__)
    sys.exit(not way(Table(TABLE)))


main()
