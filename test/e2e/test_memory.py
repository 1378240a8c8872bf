# SPDX-License-Identifier: GPL-3.0-or-later
"""No memory: each allocation of a login is refused once, and after some of them every one that follows. Whatever comes
of that login, the process lives and the next one works."""
import mmap
import os
import struct
import subprocess

import logins
import wire
from harness import need, test
from logins import World

HERE = os.path.dirname(os.path.abspath(__file__))
FOR_EVER = 1 << 40


class Allocations:
    """What test/e2e/failing_alloc.c shares with the daemon."""

    def __init__(self, t):
        need("cc")
        self.library = f"{t.folder}/failing_alloc.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-fno-builtin", "-o", self.library,
                        f"{HERE}/failing_alloc.c"], check=True)
        self.path = t.file("allocations", b"\0" * 4096)
        with open(self.path, "r+b") as f:
            self.words = mmap.mmap(f.fileno(), 4096)
        self.env = {"LD_PRELOAD": self.library, "ALLOC_CONTROL": self.path}

    def set(self, armed, seen, first, last):
        struct.pack_into("=q", self.words, 0, 0)
        struct.pack_into("=qqq", self.words, 8, seen, first, last)
        struct.pack_into("=q", self.words, 0, armed)

    def seen(self):
        return struct.unpack_from("=q", self.words, 8)[0]

    def count(self, work):
        """How many allocations `work` makes the daemon do."""
        self.set(1, 0, 0, 0)
        work()
        self.set(0, self.seen(), 0, 0)
        return self.seen()

    def fail(self, first, last, work):
        """`work`, while allocations from the first to the last are refused; true if it went well all the same."""
        self.set(1, 0, first, last)
        try:
            work()
            return True
        except (AssertionError, OSError):
            return False
        finally:
            self.set(0, 0, 0, 0)


def scripted(w, protocol):
    """A backend that accepts each login and echoes, until the client ends."""
    def one(stream):
        try:
            server = logins.Server(stream, w.speech(protocol)).greet()
            server.take()
            server.accept()
            while data := stream.recv():
                stream.send(data)
        except (AssertionError, OSError):
            pass
        stream.close()
    w.legs[protocol].serve(one)


def session(w, protocol, upgrade):
    """One client, from the greeting to the end in order."""
    wire.PATIENCE = 1.5
    client = w.client(protocol) if upgrade else w.tls_client(protocol)
    try:
        if upgrade:
            client.upgrade(w.t.pki.client())
        client.attempt().hear(w.speech(protocol).accept)
        client.stream.send(b"x" * 3000 + b"\r\n").expect(b"x" * 3000 + b"\r\n")
        client.stream.finish()
        client.stream.rest()
    finally:
        client.close()


def refuse_each(t, protocol, upgrade):
    control = Allocations(t)
    w = World(t, tls="starttls" if upgrade else "implicit", protocols=(protocol,), start=False,
              server__backend_timeout="1s", each__preauth_timeout="1s", server__bridge_idle="1s", server__threads=1,
              each__max_connections=1000)
    w.daemon = t.postern(w.conf, env=control.env)
    scripted(w, protocol)
    for _ in range(3):
        session(w, protocol, upgrade)
    many = max(control.count(lambda: session(w, protocol, upgrade)) for _ in range(3))
    assert many > 20, f"only {many} allocations were seen: the library is not in place"
    lost = 0
    for number in range(1, many + 1):
        for last in (number, FOR_EVER) if number % 7 == 1 else (number,):
            lost += not control.fail(number, last, lambda: session(w, protocol, upgrade))
            assert w.daemon.process.poll() is None, \
                f"the refusal of allocation {number} ended the process: {w.daemon.stderr()[-500:]}"
        if number % 10 == 0:
            session(w, protocol, upgrade)
    session(w, protocol, upgrade)
    assert lost > 0
    w.daemon.await_metric("postern_connections_active", 0)
    w.daemon.await_metric("postern_sessions_active", 0)
    w.daemon.stop()
    print(f"{protocol}: {many} allocations a login, {lost} logins lost, none of the others")


@test(limit=300, plain=True)
def test_no_refused_allocation_of_a_login_over_tls_ends_the_process(t):
    refuse_each(t, "imap", upgrade=False)


@test(limit=300, plain=True)
def test_no_refused_allocation_of_a_login_with_starttls_ends_the_process(t):
    refuse_each(t, "submission", upgrade=True)


@test(limit=120, plain=True, alone=True)
def test_a_crowd_beyond_the_memory_of_the_process_is_turned_away_and_the_rest_served(t):
    """A limit of address space, as by a service manager: connections that find no memory end, the process lives."""
    w = World(t, tls="implicit", protocols=("imap",), start=False, each__preauth_timeout="5s", each__max_connections=4000,
              each__max_connections_per_client=4000, server__threads=1, server__preauth_memory="1GiB")
    w.daemon = t.postern(w.conf, env={"MALLOC_ARENA_MAX": "1"})
    scripted(w, "imap")
    session(w, "imap", False)
    with open(f"/proc/{w.daemon.pid}/statm", encoding="ascii") as f:
        now = int(f.read().split()[0]) * 4096
    subprocess.run(["prlimit", f"--as={now + (12 << 20)}", "--pid", str(w.daemon.pid)], check=True)
    crowd = []
    for _ in range(1500):
        try:
            stream = wire.connect(w.daemon.port("imap"))
            stream.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"r" * 300)
            crowd.append(stream)
        except (AssertionError, OSError):
            pass
        assert w.daemon.process.poll() is None, f"no memory ended the process: {w.daemon.stderr()[-500:]}"
    for stream in crowd:
        stream.close()
    w.daemon.await_metric("postern_connections_active", 0, timeout=20)
    session(w, "imap", False)
    w.daemon.stop()
