# SPDX-License-Identifier: GPL-3.0-or-later
"""Many logins at once: each session on its own destination with no byte of another's (scenario 268), and a storm of
clients and backends that do whatever they like, after which nothing is left."""
import random
import re
import threading
import time

import logins
import wire
from harness import test
from logins import Client, Server, World


def crowd(count, work):
    """work(i) on `count` threads; what went wrong."""
    errors = []

    def one(i):
        try:
            work(i)
        except Exception as e:  # pylint: disable=broad-except
            errors.append(f"{i}: {type(e).__name__}: {e}")

    jobs = [threading.Thread(target=one, args=(i,)) for i in range(count)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    return errors


@test(limit=120, alone=True)
def test_scenario_268_a_thousand_sessions_of_a_hundred_accounts_do_not_mix(t):
    accounts = [f"user{i}@example.com" for i in range(100)]
    w = World(t, second=True, mapping="".join(f"{a} legacy2\n" for a in accounts[::2]), server__backend_timeout="30s",
              each__preauth_timeout="60s")

    def handle(protocol, name):
        def one(stream):
            server = Server(stream, w.speech(protocol)).greet()
            account = server.take()[1].split(b"\0")[1]
            server.accept()
            while data := stream.recv(timeout=60):
                assert account in data, "somebody else's bytes"
                stream.send(name.encode() + b" " + data)
        return one

    for protocol in w.protocols:
        w.legs[protocol].serve(handle(protocol, "legacy"))
        w.second[protocol].serve(handle(protocol, "legacy2"))
    sessions = [None] * 1000
    together = threading.Barrier(50)

    def part(i):
        together.wait()
        for n in range(i, 1000, 50):
            protocol, account = w.protocols[n % 4], accounts[n // 10]
            client = w.client(protocol).attempt(account.upper() if n % 3 else account)
            client.hear(w.speech(protocol).accept)
            sessions[n] = (client, account, "legacy2" if n // 10 % 2 == 0 else "legacy")

    # Upper case reaches the backend as it is.
    def speak(i):
        for n in range(i, 1000, 50):
            client, account, where = sessions[n]
            said = f"session {n} of {account.upper() if n % 3 else account} " + "x" * (n % 700) + "\r\n"
            client.stream.send(said)
            client.stream.expect(f"{where} {said}")

    assert not (errors := crowd(50, part)), errors[:3]
    assert w.daemon.metric("postern_sessions_active") == 1000
    for _ in range(3):
        assert not (errors := crowd(50, speak)), errors[:3]
    for client, _, _ in sessions:
        client.close()
    w.daemon.await_metric("postern_sessions_active", 0, timeout=20)
    assert w.daemon.metric("postern_auth_total", result="ok") == 1000
    assert w.daemon.metric("postern_cache_entries") == 100
    assert w.daemon.metric("postern_cache_misses_total") <= 100 * 50


# What can be heard before a login is accepted: Postern's words, or a backend's verdict.
ANSWERS = {"imap": re.compile(r"[an*] (OK|NO|BAD|BYE) "), "pop3": re.compile(r"\+OK|-ERR "),
           "managesieve": re.compile(r"(OK|NO|BYE) "), "submission": re.compile(r"\d{3}[ -]")}


class Storm:
    """Clients and backends from dice; what a client hears must be an answer it could get."""

    def __init__(self, t, w, seed):
        self.t, self.w, self.dice, self.lock = t, w, random.Random(seed), threading.Lock()

    def roll(self, *faces):
        with self.lock:
            return self.dice.choice(faces)

    def backend(self, protocol):
        def one(stream):
            server = Server(stream, self.w.speech(protocol))
            what = self.roll("accept", "accept", "reject", "reject", "later", "close", "reset", "silent", "greeting", "half",
                             "garbage", "flood", "early")
            if what == "greeting":
                stream.send(server.speech.reject)
            elif what == "half":
                stream.send(server.speech.ready[:5])
            elif what == "garbage":
                stream.send(bytes(range(256)) * 4)
            elif what == "early":
                return
            else:
                server.greet().take()
            if what in ("accept", "reject"):
                getattr(server, what)()
            elif what == "flood":
                for _ in range(200):
                    stream.send(b"* 1 EXISTS\r\n" * 100)
            elif what == "reset":
                stream.reset()
                return
            elif what == "silent":
                time.sleep(0.3)
            while what not in ("close", "half") and (data := stream.recv(timeout=5)):
                stream.send(data)
        return one

    def client(self, protocol):
        speech = self.w.speech(protocol)
        client = Client(wire.connect(self.w.daemon.port(protocol)), speech)
        accepted = False
        for _ in range(4):
            what = self.roll("login", "login", "pipeline", "reset", "finish", "close", "noop", "slow")
            if what == "noop":
                client.say(speech.noop[0])
            elif what == "pipeline":
                client.say((client.words() + "\r\n" + speech.noop[0] + "\r\n") * 3)
            elif what == "slow":
                for byte in (client.words() + "\r\n")[:self.roll(5, 30, 500)]:
                    client.stream.send(byte)
            else:
                client.attempt()
            if what == "reset":
                time.sleep(self.roll(0, 0.001, 0.02))
                client.stream.reset()
                return
            if what == "close":
                client.close()
                return
            if what == "finish":
                client.stream.finish()
                client.stream.rest()
                return
            if what == "slow":
                continue
            said = client.stream.line()
            assert accepted or ANSWERS[protocol].match(said), f"{what} heard {said[:200]!r}"
            if logins.lines(said) == speech.accept:
                accepted = True
                client.stream.send("echo\r\n")
        client.close()


@test(quick=True, limit=60)
def test_a_storm_of_whatever_clients_and_backends_leaves_nothing_behind(t):
    rounds = 30 if t.quick else 150
    w = World(t, server__backend_timeout="600ms", server__backend_connect_retries=1, each__preauth_timeout="2s",
              server__host_down_threshold=0, server__bridge_idle="2s", each__max_auth_attempts=3)
    before = w.daemon.descriptors() + 4  # the metrics page, and what a first lookup opens
    storm = Storm(t, w, 4713)
    for protocol in w.protocols:
        w.legs[protocol].serve(storm.backend(protocol))
    unexpected = []

    def work(i):
        for n in range(rounds // 5):
            protocol = w.protocols[(i + n) % 4]
            try:
                storm.client(protocol)
            except (wire.Reset, wire.Silence, OSError):
                pass
            except AssertionError as e:
                if "stream ended" not in str(e):
                    unexpected.append(f"{protocol}: {e}")

    assert not (errors := crowd(20, work)), errors[:3]
    assert not unexpected, unexpected[:3]
    t.await_that(lambda: w.daemon.metric("postern_connections_active") == 0, 20, 0.1, "the end of all sessions")
    count = w.daemon.metric("postern_connections_total")
    w.daemon.closing(int(count), timeout=t.scaled(10))
    assert len(w.daemon.closings()) == count
    assert w.daemon.metric("postern_sessions_active") == 0
    w.daemon.await_descriptors(before)
