# SPDX-License-Identifier: GPL-3.0-or-later
"""The backends of the stress test: honest ones, which check the password and say back what they hear, and liars, which
do everything a backend should not."""
import collections
import hashlib
import socket
import ssl
import threading
import time

import wire
from logins import SPEECHES, SUBMISSION, Server
from test_tls_resumption import large_tickets

PROTOCOLS = ("imap", "pop3", "managesieve", "submission")
HONEST = ("honest", "honest-too")
TLS12 = ssl.TLSVersion.TLSv1_2


def password(user):
    return hashlib.sha256(user.encode()).hexdigest()[:20]


def contexts(t):
    """TLS of backends, by name; the odd ones are for liars."""
    pair, other = t.pki.leaf("backend.test", key=2), t.pki.leaf("elsewhere.test", key=3)
    found = {"honest": t.pki.server(pair), "1.2": t.pki.server(pair, maximum=TLS12), "wrong name": t.pki.server(other),
             "no tickets": t.pki.server(pair), "no tickets in 1.2": t.pki.server(pair, maximum=TLS12)}
    found["no tickets"].num_tickets = 0
    found["no tickets in 1.2"].options |= ssl.OP_NO_TICKET
    for size in (1900, 2300, 15_600, 40_000):
        found[f"tickets of {size}"] = large_tickets(t.pki.server(pair), size)
    return found


class Backends:
    """A thread a connection. `legs`: destination -> protocol -> (port, tls)."""

    def __init__(self, stress):
        self.stress, self.sockets, self.number = stress, [], 0
        self.held = collections.deque()  # of liars that never close
        self.closed = False
        self.legs = {name: {} for name in (*HONEST, "lying", "lying-tls")}
        for name in HONEST:
            for protocol, tls in (("imap", "implicit"), ("pop3", "plain"), ("managesieve", "plain"), ("submission", "starttls"),
                                  ("smtp", "plain")):
                self.listen(name, protocol, tls, self.honest)
        for name, tls in (("lying", "plain"), ("lying-tls", "implicit")):
            for protocol in PROTOCOLS:
                self.listen(name, protocol, tls, self.lie)

    def listen(self, name, protocol, tls, handler):
        backend = wire.Backend(port=self.stress.t.port())
        self.sockets.append(backend)
        self.legs[name][protocol] = (backend.port, tls)

        def one(stream, number):
            rng = self.stress.rng(name, protocol, number)
            keep = False
            try:
                keep = handler(stream, protocol, tls, rng)
            except (OSError, ssl.SSLError, AssertionError, ValueError, IndexError):
                pass
            if keep:
                self.hold(stream)
            else:
                stream.close()

        def loop():
            number = 0
            while not self.closed:
                try:
                    connection, _ = backend.sock.accept()
                except OSError:
                    time.sleep(0.01)
                    continue
                number += 1
                threading.Thread(target=one, args=(wire.Stream(connection), number), daemon=True).start()

        backend.sock.settimeout(None)
        threading.Thread(target=loop, daemon=True).start()

    def hold(self, stream):
        """Neither closed nor read again, until there are too many of them."""
        self.held.append(stream)
        while len(self.held) > 200:
            self.held.popleft().close()

    def close(self):
        self.closed = True
        for backend in self.sockets:
            backend.close()
        while self.held:
            self.held.popleft().close()

    # --- honest ----------------------------------------------------------------------------------------

    def honest(self, stream, protocol, tls, _rng):
        if protocol == "smtp":
            stream.send("220 relay\r\n")
            return self.echo(stream)
        if tls == "implicit":
            stream = wire.TlsStream(stream, self.stress.server_tls["honest"], server_side=True).handshake()
        server = Server(stream, SPEECHES[protocol])
        stream.send(server.speech.ready)
        if protocol == "submission":
            server.ehlo("STARTTLS")
            assert stream.line() == "STARTTLS"
            stream.send("220 go\r\n")
            server.stream = stream = wire.TlsStream(stream, self.stress.server_tls["honest"], server_side=True).handshake()
            server.ehlo()
        _, message = server.take()
        _, user, given = message.decode().split("\0")
        if given != password(user):
            server.reject()
            return stream.recv() and None
        server.accept()
        return self.echo(stream)

    @staticmethod
    def echo(stream):
        while data := stream.recv():
            stream.send(data)
        stream.finish()

    # --- lying -----------------------------------------------------------------------------------------

    def lie(self, stream, protocol, tls, rng):
        """One lie a connection. True: it is never closed."""
        self.stress.count("lies")
        if rng.random() < 0.1:
            return self.part(stream, rng, False)  # before a word
        if tls == "implicit":
            stream = self.lie_in_tls(stream, rng)
            if stream is None:
                return False
        speech = SPEECHES[protocol]
        if rng.random() < 0.15:
            stream.send(rng.choice((b"* BYE no\r\n", b"\0" * 100, b"x" * 100_000, b"* PREAUTH in\r\n", b"-ERR\r\n", b"421 later\r\n",
                                    speech.ready.encode() + speech.accept.encode(), b"\r\n" * 5000)))
            return self.part(stream, rng, False)
        server = Server(stream, speech)
        stream.send(speech.ready)
        if speech is SUBMISSION:
            server.ehlo()
        if rng.random() < 0.1:
            return self.part(stream, rng, False)
        server.take()
        accepted = False
        verdict = rng.random()
        if verdict < 0.15:
            server.reject()
        elif verdict < 0.3:
            stream.send(rng.choice((b"a WHAT\r\n", b"* " + b"y" * 70_000, b"\xff\xfe\r\n")))
        elif verdict < 0.4:
            return self.part(stream, rng, False)  # no answer at all
        else:
            accepted = True
            time.sleep(rng.random() * 0.1)  # time for the client to leave
            server.accept(rng.choice((b"", b"* 1 EXISTS\r\n", b"z" * 50_000)))
            self.after_login(stream, rng)
        return self.part(stream, rng, accepted)

    def lie_in_tls(self, stream, rng):
        """None: there is no conversation."""
        if rng.random() < 0.15:
            stream.recv(rng.randrange(1, 600))
            stream.send(rng.choice((b"", b"\x15\x03\x03\x00\x02\x02\x28", b"* OK plain\r\n", b"\x16\x03\x03\xff\xff" + b"z" * 100)))
            self.part(stream, rng, False)
            stream.close()
            return None
        name = rng.choice(list(self.stress.server_tls))
        secure = wire.TlsStream(stream, self.stress.server_tls[name], server_side=True)
        return secure.handshake()

    @staticmethod
    def after_login(stream, rng):
        for _ in range(rng.randrange(6)):
            what = rng.random()
            if what < 0.3:
                stream.send(b"* 2 EXISTS\r\n")
            elif what < 0.5:
                stream.send(b"f" * rng.randrange(300_000))
            elif what < 0.7:
                time.sleep(rng.random() * 0.3)
            elif what < 0.8:
                stream.finish()
                return
            else:
                stream.recv(timeout=rng.random())

    @staticmethod
    def part(stream, rng, may_stay):
        """How it leaves, if it does. Whoever did not answer a login yet does not stay: that would be waiting, no test."""
        how = rng.random()
        if how < 0.25:
            stream.reset()
        elif how < 0.4:
            stream.sock.shutdown(socket.SHUT_WR)
            time.sleep(rng.random() * 0.5)
        elif how < 0.6:
            time.sleep(rng.random() * 2)
        elif how < 0.75:
            return may_stay
        return False
