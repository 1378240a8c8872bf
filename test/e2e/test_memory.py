# SPDX-License-Identifier: GPL-3.0-or-later
"""No memory: each allocation of a login, of a reload, of a scrape and of a trial is refused once, and after some of
them every one that follows. Whatever comes of it, the process lives, nothing is left behind and the next one works."""
import mmap
import os
import signal
import struct
import subprocess
import time

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

    def set(self, armed, first=0, last=0, least=0, seen=0):
        struct.pack_into("=q", self.words, 0, 0)
        struct.pack_into("=qqqq", self.words, 8, least, seen, first, last)
        struct.pack_into("=q", self.words, 0, armed)

    def seen(self):
        return struct.unpack_from("=q", self.words, 16)[0]

    def count(self, work):
        """How many allocations `work` makes the daemon do."""
        self.set(1)
        work()
        count = self.seen()
        self.set(0)
        return count

    def fail(self, work, first=1, last=FOR_EVER, least=0):
        """`work`, while allocations from the first to the last are refused; true if it went well all the same."""
        self.set(1, first, last, least)
        patience, wire.PATIENCE = wire.PATIENCE, 1.5
        try:
            work()
            return True
        except (AssertionError, OSError):
            return False
        finally:
            self.set(0)
            wire.PATIENCE = patience


class Starving:
    """A world whose daemon can be denied memory, and what it is like when it has all it wants."""

    def __init__(self, t, protocols, tls="implicit", leg="plain", **settings):
        self.control = Allocations(t)
        self.upgrade = tls == "starttls"
        settings = {"server__backend_timeout": "2s", "server__bridge_idle": "3s", "server__threads": 1,
                    "each__preauth_timeout": "5s", "each__max_connections": 1000, "each__max_auth_attempts": 100,
                    **{f"destination__legacy__protocol__{p}__tls": leg for p in protocols}, **settings}
        self.w = World(t, tls=tls, protocols=protocols, start=False, **settings)
        self.w.conf["destination.legacy.tls_allow_invalid_certs"] = True
        self.w.conf["destination.legacy.tls_server_name"] = "backend.test"
        self.introduced = self.w.conf["destination.legacy.forwarding"] == "proxy"
        self.w.daemon = self.daemon = t.postern(self.w.conf, env=self.control.env)
        self.context = t.pki.server(t.pki.leaf("backend.test"))
        for p in protocols:
            self.backend(p, leg)

    def backend(self, protocol, leg):
        """Accepts each login and echoes, until the client ends."""
        speech = self.w.speech(protocol)

        def one(stream):
            if self.introduced:
                stream.exactly(int.from_bytes(stream.exactly(16)[14:], "big"))
            if leg == "implicit":
                stream = wire.TlsStream(stream, self.context, server_side=True).handshake()
            server = logins.Server(stream, speech)
            if leg == "starttls":
                stream.send(speech.ready)
                server.ehlo("STARTTLS")
                stream.expect("STARTTLS\r\n").send("220 go\r\n")
                stream = server.stream = wire.TlsStream(stream, self.context, server_side=True).handshake()
                server.ehlo()
            else:
                server.greet()
            server.take()
            server.accept()
            while data := stream.recv():
                stream.send(data)
            stream.finish()
        self.w.legs[protocol].serve(one)

    def session(self, protocol):
        """One client, from the greeting to the end in order."""
        client = self.w.client(protocol) if self.upgrade else self.w.tls_client(protocol)
        try:
            if self.upgrade:
                client.upgrade(self.w.t.pki.client())
            client.attempt().hear(self.w.speech(protocol).accept)
            client.stream.send(b"x" * 3000 + b"\r\n").expect(b"x" * 3000 + b"\r\n")
            client.stream.finish()
            client.stream.rest()
        finally:
            client.close()

    def lives(self, what):
        assert self.daemon.process.poll() is None, f"{what} ended the process: {self.daemon.stderr()[-3000:]}"

    def settle(self):
        for name in ("postern_connections_active", "postern_sessions_active"):
            self.daemon.await_metric(name, 0)


def refuse_each(t, protocol, tls="implicit", leg="plain", **settings):
    s = Starving(t, (protocol,), tls, leg, **settings)

    def one():
        s.session(protocol)
    for _ in range(3):
        one()
    s.settle()
    descriptors = s.daemon.descriptors()
    many = max(s.control.count(one) for _ in range(3))
    assert many > 20, f"only {many} allocations were seen: the library is not in place"
    lost = 0
    for number in range(1, many + 1):
        for last in (number, FOR_EVER) if number % 7 == 1 else (number,):
            lost += not s.control.fail(one, number, last)
            s.lives(f"the refusal of allocation {number}")
        if number % 5 == 0:
            one()
    one()
    assert lost > 10, lost
    s.settle()
    s.daemon.await_descriptors(descriptors)
    assert s.daemon.metric("postern_out_of_memory_total") > 0
    assert [r for r in s.daemon.records() if "for want of memory" in r["msg"]]
    s.daemon.stop()
    print(f"{protocol}: {many} allocations a login, {lost} logins lost, none of the others")


@test(limit=120, plain=True)
def test_no_refused_allocation_of_an_imap_login_ends_the_process(t):
    refuse_each(t, "imap", leg="implicit")


@test(limit=120, plain=True)
def test_no_refused_allocation_of_a_pop3_login_ends_the_process(t):
    refuse_each(t, "pop3", tls="starttls", destination__legacy__host="localhost")


@test(limit=120, plain=True)
def test_no_refused_allocation_of_a_managesieve_login_ends_the_process(t):
    refuse_each(t, "managesieve", destination__legacy__forwarding="proxy")


@test(limit=120, plain=True)
def test_no_refused_allocation_of_a_submission_login_ends_the_process(t):
    refuse_each(t, "submission", tls="starttls", leg="starttls")


@test(limit=60, plain=True)
def test_while_no_block_above_some_size_is_to_be_had_the_process_lives(t):
    s = Starving(t, ("imap", "submission"), leg="plain")
    for p in s.w.protocols:
        s.session(p)
    s.settle()
    descriptors = s.daemon.descriptors()
    for least in (16384, 4096, 1024, 512, 256, 128, 64, 32, 0):
        for _ in range(2):
            for p in s.w.protocols:
                s.control.fail(lambda p=p: s.session(p), least=least)
                s.lives(f"the refusal of blocks from {least} bytes on")
        for p in s.w.protocols:
            s.session(p)
    s.settle()
    s.daemon.await_descriptors(descriptors)
    s.daemon.stop()


@test(limit=120, plain=True)
def test_no_refused_allocation_of_a_reload_ends_the_process_or_changes_half_of_it(t):
    s = Starving(t, ("imap",))
    results = ("ok", "failed")

    def counts():
        return [s.daemon.metric("postern_reloads_total", result=r) for r in results]

    def reload(first, last):
        """SIGHUP, with allocations refused until the reload is over; whether it went well."""
        before = counts()
        done = len(s.daemon.find("reloaded")) + len(s.daemon.find("reload failed, nothing changed"))
        s.control.set(1, first, last)
        s.daemon.signal(signal.SIGHUP)
        time.sleep(0.02)
        if last == FOR_EVER:
            s.control.set(0)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            s.lives(f"the refusal of allocation {first} of a reload")
            now = len(s.daemon.find("reloaded")) + len(s.daemon.find("reload failed, nothing changed"))
            if now > done:
                break
            time.sleep(0.005)
        seen = s.control.seen()
        s.control.set(0)
        after = counts()
        assert sum(after) == sum(before) + 1, (first, last, before, after)
        return after[0] > before[0], seen

    for _ in range(2):
        assert reload(0, 0)[0]
    _, many = reload(0, 0)
    refused = 0
    for number in [*range(1, 40), *range(40, many, max(1, many // 100))]:
        for last in (number, FOR_EVER) if number % 5 == 0 else (number,):
            refused += not reload(number, last)[0]
        if number % 10 == 0:
            s.session("imap")
    assert refused > 5, refused
    assert reload(0, 0)[0]
    s.session("imap")
    s.daemon.stop()
    print(f"{many} allocations a reload, {refused} reloads refused")


@test(limit=60, plain=True)
def test_no_refused_allocation_of_a_scrape_or_the_status_page_ends_the_process(t):
    s = Starving(t, ("imap",))
    for path in ("/metrics", "/", "/readyz", "/nothing"):
        def ask(path=path):
            status, body, _ = s.daemon.http(path, timeout=1)
            assert status in (200, 404) and body, status
        ask()
        many = s.control.count(ask)
        refused = 0
        for number in [*range(1, 30), *range(30, many, max(1, many // 40))]:
            for last in (number, FOR_EVER) if number % 5 == 1 else (number,):
                refused += not s.control.fail(ask, number, last)
                s.lives(f"the refusal of allocation {number} of {path}")
            if number % 10 == 0:
                ask()
        assert refused > 0
        ask()
    s.session("imap")
    s.daemon.stop()


@test(limit=60, plain=True)
def test_no_refused_allocation_of_a_trial_ends_the_process_or_loses_the_trial(t):
    """A destination goes down and comes back, by trials of Postern's own."""
    s = Starving(t, ("imap",), server__host_down_threshold=1, server__host_down_min_clients=0,
                 server__host_down_cooldown="50ms", server__backend_timeout="500ms")

    def outage(first=0, last=0):
        port = s.w.legs["imap"].port
        s.w.legs["imap"].close()
        if first:
            s.control.set(1, first, last)
        for _ in range(2):
            try:
                s.session("imap")
            except (AssertionError, OSError):
                pass
            s.lives(f"the refusal of allocation {first} while a destination went down")
        s.w.legs["imap"] = wire.Backend(port)
        s.backend("imap", "plain")
        s.control.set(0)

    def again():
        try:
            s.session("imap")
            return True
        except (AssertionError, OSError):
            return False

    many = s.control.count(outage)
    s.control.set(0)
    t.await_that(again, every=0.05, about="a login after an outage")
    for number in [*range(1, many + 1, max(1, many // 40))]:
        outage(number, FOR_EVER if number % 3 == 0 else number)
        t.await_that(again, every=0.02, about=f"a login after the refusal of allocation {number}")
    s.settle()
    s.daemon.stop()


@test(limit=30, plain=True)
def test_without_any_memory_a_drain_still_ends_the_process_in_order(t):
    s = Starving(t, ("imap",))
    s.session("imap")
    client = s.w.tls_client("imap")
    s.control.set(1, 1, FOR_EVER)
    s.daemon.signal(signal.SIGTERM)
    assert s.daemon.wait_exit() == 0
    client.close()


@test(limit=60, plain=True, alone=True)
def test_a_crowd_beyond_the_memory_of_the_process_is_turned_away_and_the_rest_served(t):
    """A limit of address space, as by a service manager: connections that find no memory end, the process lives."""
    w = World(t, tls="implicit", protocols=("imap",), start=False, each__preauth_timeout="5s", each__max_connections=4000,
              each__max_connections_per_client=4000, server__threads=1, server__preauth_memory="1GiB")
    w.daemon = t.postern(w.conf, env={"MALLOC_ARENA_MAX": "1"})
    w.legs["imap"].serve(lambda stream: logins.Server(stream, logins.IMAP).greet().accept().stream.rest())
    w.tls_client("imap").close()
    with open(f"/proc/{w.daemon.pid}/statm", encoding="ascii") as f:
        now = int(f.read().split()[0]) * 4096
    subprocess.run(["prlimit", f"--as={now + (2 << 20)}", "--pid", str(w.daemon.pid)], check=True)
    crowd = []
    for _ in range(800):
        try:
            stream = wire.connect(w.daemon.port("imap"))
            stream.send(b"\x16\x03\x01\x20\x00\x01\x00\x1f\xfc\x03\x03" + b"r" * 4000)
            crowd.append(stream)
        except (AssertionError, OSError):
            pass
        assert w.daemon.process.poll() is None, f"no memory ended the process: {w.daemon.stderr()[-500:]}"
    for stream in crowd:
        stream.close()


    def settled():
        try:
            return w.daemon.metric("postern_connections_active") == 0
        except AssertionError:  # no memory for the answer, for a moment
            return False
    t.await_that(settled, timeout=20, about="the end of the crowd")
    assert w.daemon.metric("postern_out_of_memory_total") > 0
    w.tls_client("imap").close()
    w.daemon.stop()
