# SPDX-License-Identifier: GPL-3.0-or-later
"""The clients of the stress test: some behave, and know to the byte what they must hear; the others leave in every way
and at every moment, stall, and say what nobody should."""
import socket
import ssl
import time

import wire
from logins import SPEECHES, Client, plain
from stress_backends import password

TLS = {"imap": "implicit", "pop3": "implicit", "managesieve": "starttls", "submission": "starttls", "imap-plain": "starttls",
       "smtp": "implicit"}


class Wrong(AssertionError):
    """A client that behaves heard what it must not hear."""


def address(rng):
    return f"127.{rng.randrange(1, 200)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"


def steady(stress, rng):
    """A login by the book, some talk, and an end in order."""
    listener = rng.choice(list(TLS))
    user = rng.choice((f"user{rng.randrange(50)}@example.com", f"mover{rng.randrange(8)}@example.com"))
    stage = "connecting"
    try:
        stream = wire.connect(stress.ports[listener], source=f"127.0.0.{rng.randrange(2, 250)}")
        if TLS[listener] == "implicit":
            stage = "the TLS handshake"
            stream = wire.TlsStream(stream, stress.client_tls, server_name="mail.example.com").handshake()
        if listener == "smtp":
            stage = "the greeting"
            stream.expect("220 relay\r\n")
        else:
            speech = SPEECHES[listener.removesuffix("-plain")]
            stage = "the greeting"
            client = Client(stream, speech)
            if TLS[listener] == "starttls":
                stage = "STARTTLS"
                client.upgrade(stress.client_tls)
                stream = client.stream
            if rng.random() < 0.2:
                stage = "a wrong password"
                client.attempt(user, "wrong" + str(rng.random()))
                client.hear(speech.reject)
            stage = "the login"
            client.attempt(user, password(user))
            client.hear(speech.accept)
        stage = "talking"
        for _ in range(rng.randrange(1, 6)):
            words = rng.randbytes(rng.choice((1, 100, 5000, 40_000)))
            stream.send(words)
            stream.expect(words)
        stage = "the end"
        stream.finish()
        stream.expect_eof()
        if isinstance(stream, wire.TlsStream) and stream.ragged:
            raise Wrong("the end came without close_notify")
        stream.close()
    except (AssertionError, OSError, ssl.SSLError) as e:
        raise Wrong(f"{listener}, {user}, {stage}: {type(e).__name__}: {e}") from e
    stress.count("steady")


def leave(stream, rng):
    how = rng.random()
    if how < 0.3:
        stream.reset()
        return
    if how < 0.5:
        stream.sock.shutdown(socket.SHUT_WR)
        time.sleep(rng.random() * 0.3)
    elif how < 0.7:
        stream.finish()
        if rng.random() < 0.5:
            stream.sock.settimeout(1)
            stream.sock.recv(65536)
    stream.close()


def stuff(stream, rng):
    """Sends without reading, as much as is taken at once, then stalls."""
    stream.sock.setblocking(False)
    try:
        for _ in range(rng.randrange(1, 100)):
            stream.sock.send(b"u" * 32_768)
    except OSError:
        pass
    stream.sock.setblocking(True)
    time.sleep(rng.random() * 1.5)


def chaos(stress, rng):
    stress.count("chaos")
    try:
        misbehave(stress, rng)
    except (OSError, ssl.SSLError, AssertionError):
        pass


def misbehave(stress, rng):
    listener = rng.choice(list(TLS))
    stream = wire.connect(stress.ports[listener], source=address(rng), receive_buffer=rng.choice((None, None, 4096)))
    # The kernel remembers a connection that nobody owns for this long, not for a minute.
    stream.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, 1)
    try:
        scene(stress, rng, listener, stream)
    except (OSError, ssl.SSLError, AssertionError):
        pass
    finally:
        try:
            leave(stream, rng)
        except (OSError, ssl.SSLError, AssertionError):
            stream.close()


def scene(stress, rng, listener, stream):
    wire_sock = stream.sock
    if rng.random() < 0.1:
        return None
    if TLS[listener] == "implicit":
        stream = shake(stress, rng, stream)
        if stream is None:
            return None
    if listener == "smtp":
        return bridged(rng, stream)
    speech = SPEECHES[listener.removesuffix("-plain")]
    if rng.random() < 0.1:
        stream.send(rng.choice((b"\r\n" * 50, b"x" * 70_000, b"\0\xff\r\n", b"GET / HTTP/1.0\r\n\r\n", b"a LOGIN {99999999}\r\n")))
    client = Client(stream, speech)
    if TLS[listener] == "starttls" and rng.random() < 0.7:
        stream.send(speech.starttls[0] + "\r\n")
        if rng.random() < 0.1:
            stream.send("a NOOP\r\n")  # in clear behind STARTTLS
        if rng.random() < 0.1:
            return None
        client.hear(speech.starttls[1])
        secure = shake(stress, rng, stream)
        if secure is None:
            return None
        client.stream = stream = secure
        if speech.name == "managesieve":
            client.greeting()
    for _ in range(rng.randrange(1, 4)):
        user = rng.choice((f"user{rng.randrange(50)}@example.com", f"liar{rng.randrange(16)}@example.com",
                           f"liar{rng.randrange(16)}@example.com", "no body", f"mover{rng.randrange(8)}@example.com"))
        right = rng.random() < 0.8
        words = speech.attempt.format("PLAIN", plain(user, password(user) if right else "wrong")) + "\r\n"
        if rng.random() < 0.1:
            words = words[:rng.randrange(len(words))]
        stream.send(words + rng.choice(("", "", "b NOOP\r\n", "c " + "p" * 20_000 + "\r\n")))
        if rng.random() < 0.3:
            time.sleep(rng.random() * 0.05)
            return None  # before the answer
        wire_sock.settimeout(5)
        line = stream.line(timeout=5)
        if line.startswith(speech.accept.split("\r")[0]):
            return bridged(rng, stream)
    return None


def shake(stress, rng, stream):
    """A handshake, or some of one, or none; None if nothing can follow."""
    how = rng.random()
    if how < 0.05:
        stream.send(b"a NOOP\r\n" * rng.randrange(1, 2000))
        return None
    if how < 0.15:
        secure = wire.TlsStream(stream, stress.client_tls, server_name="mail.example.com")
        try:
            secure.tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        hello = secure.outgoing.read()
        stream.send(hello[:rng.randrange(len(hello))])
        return None
    return wire.TlsStream(stream, stress.client_tls, server_name="mail.example.com").handshake(timeout=30)


def bridged(rng, stream):
    """What there is to do wrong with a session."""
    for _ in range(rng.randrange(5)):
        what = rng.random()
        if what < 0.4:
            stream.send(rng.randbytes(rng.choice((1, 1000, 30_000))))
        elif what < 0.6:
            stream.recv(timeout=rng.random())
        elif what < 0.7:
            time.sleep(rng.random() * 0.3)
        elif what < 0.8 and not isinstance(stream, wire.TlsStream):
            stuff(stream, rng)
        elif what < 0.9:
            stream.finish()
            stream.recv(timeout=1)
            return
