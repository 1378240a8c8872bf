# SPDX-License-Identifier: GPL-3.0-or-later
"""Many sessions that stay: they hear of their mail while certificates, mappings and the configuration change around them."""
import concurrent.futures
import os
import signal
import time

import wire
from harness import test
from mailtalk import Imap, edge
from servers import PASSWORD, DovecotServer


class Sitter(Imap):
    """A session that idles in its INBOX."""

    def sit(self, user):
        accepted, words = self.plain(f"{user}@example.org", PASSWORD)
        assert accepted, words
        self.ok("SELECT INBOX")
        self.send("i IDLE")
        assert self.line().startswith("+ idling")
        return self

    def hears(self, wanted):
        """The next message; Dovecot's signs of life and what is recent do not count."""
        while (line := self.line()).startswith("* OK Still here") or line.endswith(" RECENT"):
            pass
        assert line == wanted, f"{line!r} instead of {wanted!r}"

    def leave(self):
        self.send("DONE")
        while not (line := self.line()).startswith("i "):
            assert line.startswith("* "), line
        self.quit()


def swap(path, other):
    """Puts a copy in place by rename, as certbot's hooks do."""
    with open(other, "rb") as source, open(path + ".new", "wb") as copy:
        copy.write(source.read())
    os.rename(path + ".new", path)


def serial(t, port):
    stream = wire.TlsStream(wire.connect(port), t.pki.client(), server_name="mail.example.com").handshake()
    der = stream.tls.getpeercert(True)
    stream.close()
    return der


def long_life(t, count, rounds):
    users = [f"user{n}" for n in range(20)]
    dovecot = DovecotServer(t, users, crowd=True)
    plain = {"imap": dovecot.ports["imap", "plain-proxy"]}
    conf = edge(t, {"first": (plain, "plain", "proxy"), "second": (plain, "plain", "proxy")}, listeners=("implicit",), protocols=("imap",))
    conf["listener.imap-implicit.max_connections"] = count + 100
    conf["mapping"].update(positive_ttl="1s", negative_ttl="1s")  # a reload leaves the cache as it is
    pair, later = t.pki.leaf("mail.example.com", key=0), t.pki.leaf("mail.example.com", key=1)
    cert, key = t.file("live/cert.pem", open(pair.chain, "rb").read()), t.file("live/key.pem", open(pair.key, "rb").read())
    conf["tls.certificate.main"].update(cert=cert, key=key)
    daemon = t.postern(conf)
    port = daemon.port("imap-implicit")
    wire.PATIENCE = t.scaled(60)
    empty = daemon.resident()
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        sitters = list(pool.map(lambda n: Sitter(t, port, "implicit", source=f"127.0.{2 + n % 8}.1").sit(users[n % 20]), range(count)))
    print(f"{count} sessions in {time.monotonic() - started:.1f} s")
    writers = [Sitter(t, port, "implicit") for _ in users]
    for user, writer in zip(users, writers):
        assert writer.plain(f"{user}@example.org", PASSWORD)[0]
    daemon.await_metric("postern_sessions_active", count + 20, protocol="imap")
    mails = 0

    def deliver():
        """One message to everybody, heard of by every session."""
        nonlocal mails
        mails += 1
        for writer in writers:
            writer.ok("APPEND INBOX {14+}\r\nSubject: x\r\n\r\n")
        for sitter in sitters:
            sitter.hears(f"* {mails} EXISTS")

    deliver()
    memory, descriptors = daemon.resident(), daemon.descriptors()
    print(f"{(memory - empty) / (count + 20) / 1024:.1f} kB a session")
    old = serial(t, port)
    for number in range(rounds):
        swap(key, (later if number % 2 == 0 else pair).key)
        swap(cert, (later if number % 2 == 0 else pair).chain)
        daemon.wait("file changed", count=1)
        t.await_that(lambda: (serial(t, port) == old) == (number % 2 == 1), 10, 0.05, "the new certificate")
        deliver()
        t.file("accounts", "".join(f"{user}@example.org\t{'second' if number % 2 == 0 else 'first'}\n" for user in users))
        daemon.reload()
        t.await_that(lambda n=number: routed_to(t, daemon, users[0], "second" if n % 2 == 0 else "first"), 15, 0.3, "the new route")
        deliver()
        conf["capabilities.imap.banner"] = f"round {number}"
        daemon.reload(conf)
        fresh = Imap(t, port, "implicit")
        assert f"round {number}" in fresh.greeting, fresh.greeting
        fresh.quit()
        daemon.rewrite("nonsense = [")
        daemon.reload(good=False)
        daemon.rewrite(conf)
        daemon.signal(signal.SIGHUP)
        deliver()
    grown = daemon.resident() - memory
    allowed = (4 << 20) + count * 1024
    assert grown < allowed or t.sanitized, f"{grown >> 10} kB more after {rounds} rounds with {count} sessions"
    daemon.await_descriptors(descriptors + 4)
    ended = [r for r in daemon.closings() if r["reason"] not in ("eof",) and r["msg"] == "session closed"]
    assert not ended, ended[:3]
    assert daemon.metric("postern_sessions_active", protocol="imap") == count + 20, "sessions were lost"
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(Sitter.leave, sitters))
    for writer in writers:
        writer.quit()
    daemon.await_metric("postern_sessions_active", 0, protocol="imap")
    daemon.await_descriptors(descriptors - 2 * count, timeout=10)


def routed_to(t, daemon, user, destination):
    """Where a new login of this user goes."""
    talk = Imap(t, daemon.port("imap-implicit"), "implicit")
    assert talk.plain(f"{user}@example.org", PASSWORD)[0]
    talk.quit()
    return daemon.wait("session closed", peer=f"{talk.address[0]}:{talk.address[1]}")["destination"] == destination


@test(limit=180, root=True, needs=("dovecot",), alone=True)
def test_a_thousand_idle_sessions_outlive_rotations_reloads_and_remapping(t):
    long_life(t, 200 if t.sanitized else 1000, 2)


@test(limit=1800, root=True, needs=("dovecot",), alone=True, soak=True)
def test_nine_thousand_idle_sessions_outlive_rotations_reloads_and_remapping(t):
    long_life(t, 9000, 10)
