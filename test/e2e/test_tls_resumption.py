# SPDX-License-Identifier: GPL-3.0-or-later
"""Backends whose tickets are odd, or who do not get along with resumption: none becomes unreachable by what it gave."""
import ctypes
import ssl
import threading
import time

import wire
from harness import test
from test_tls_backend import TLS12, secured

GEN = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
PRE_SHARED_KEY = 41


def large_tickets(context, size):
    """Lets this server's tickets carry `size` bytes more; Python has no word for it, its library has."""
    libssl = ctypes.CDLL("libssl.so.3")
    libssl.SSL_get_session.restype = ctypes.c_void_p
    libssl.SSL_get_session.argtypes = [ctypes.c_void_p]
    libssl.SSL_SESSION_set1_ticket_appdata.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    libssl.SSL_CTX_set_session_ticket_cb.argtypes = [ctypes.c_void_p, GEN, ctypes.c_void_p, ctypes.c_void_p]
    data = bytes(i * 7 & 255 for i in range(size))

    def fill(connection, _):
        return libssl.SSL_SESSION_set1_ticket_appdata(libssl.SSL_get_session(connection), data, size)

    context.keep = GEN(fill)
    pointer = ctypes.cast(id(context) + object.__basicsize__, ctypes.POINTER(ctypes.c_void_p))[0]
    assert libssl.SSL_CTX_set_session_ticket_cb(pointer, context.keep, None, None) == 1
    return context


def offers(hello):
    """The numbers of the extensions in a ClientHello that lies in one record."""
    at = 5 + 4 + 2 + 32
    at += 1 + hello[at]
    at += 2 + int.from_bytes(hello[at:at + 2], "big")
    at += 1 + hello[at] + 2
    found = set()
    while at + 4 <= len(hello):
        found.add(int.from_bytes(hello[at:at + 2], "big"))
        at += 4 + int.from_bytes(hello[at + 2:at + 4], "big")
    return found


class Server:
    """A backend that greets after TLS and notes how each connection went: True and False for resumed, or what it said."""

    def __init__(self, t, context, before=None, **settings):
        self.t, self.context, self.before, self.seen = t, context, before, []
        self.backend = t.backend()
        conf = secured(t, self.backend, tls_server_name="backend.test")
        conf["server"].update({"threads": 1, "backend_connect_retries": 0, **settings})
        self.daemon = t.postern(conf)
        self.backend.serve(self.one)

    def one(self, stream):
        if self.before and self.before(self, stream):
            return
        try:
            secure = wire.TlsStream(stream, self.context, server_side=True).handshake()
        except (ssl.SSLError, AssertionError) as e:
            self.seen.append(str(e))
            return
        self.seen.append(secure.tls.session_reused)
        secure.send("220 secure\r\n")
        while secure.recv():
            pass
        secure.finish()

    def log_in(self, works=True):
        """One session; how long it took to the greeting."""
        began = time.monotonic()
        client = wire.connect(self.daemon.port("smtp"))
        if works:
            try:
                client.expect("220 secure\r\n")
            except AssertionError as e:
                raise AssertionError(f"{e}; the backend saw {self.seen}; {self.daemon.closings()}") from e
            took = time.monotonic() - began
            client.finish().expect_eof()
        else:
            client.expect_gone()
            took = time.monotonic() - began
        client.close()
        self.daemon.await_metric("postern_connections_active", 0)
        return took

    def blameless(self):
        assert self.daemon.metric("postern_destination_consecutive_failures", destination="relay") == 0
        assert self.daemon.metric("postern_destination_down", destination="relay") == 0
        for result in ("connect", "later", "refused"):
            assert self.daemon.metric("postern_backend_attempts_total", destination="relay", result=result) == 0, result


def server_context(t, version=None):
    return t.pki.server(t.pki.leaf("backend.test"), maximum=version)


@test(quick=True, limit=40)
def test_tickets_above_two_kilobytes_are_not_kept_and_the_others_are(t):
    for version in (None, TLS12):
        for size, resumes in ((1000, True), (2500, False), (15_000, False), (15_800, False)):
            server = Server(t, large_tickets(server_context(t, version), size))
            for _ in range(3):
                server.log_in()
            assert server.seen == [False, resumes, resumes], (version, size, server.seen)
            server.blameless()
            server.daemon.stop()


@test(quick=True)
def test_a_tls_1_3_backend_that_resumes_but_gives_no_new_ticket_stays_reachable(t):
    context = server_context(t)
    server = Server(t, context)
    server.log_in()
    context.num_tickets = 0
    for _ in range(4):
        server.log_in()
    assert server.seen == [False, True, True, True, True], server.seen
    server.blameless()


@test(quick=True)
def test_a_tls_1_2_backend_that_stops_giving_tickets_stays_reachable(t):
    context = server_context(t, TLS12)
    server = Server(t, context)
    server.log_in()
    server.log_in()
    context.options |= ssl.OP_NO_TICKET
    for _ in range(4):
        server.log_in()
    assert server.seen[:2] == [False, True] and len(server.seen) >= 6, server.seen
    server.blameless()


@test(quick=True, limit=40)
def test_a_backend_that_changes_its_version_of_tls_stays_reachable(t):
    for first, then in ((TLS12, ssl.TLSVersion.TLSv1_3), (ssl.TLSVersion.TLSv1_3, TLS12)):
        server = Server(t, t.pki.server(t.pki.leaf("backend.test"), minimum=first, maximum=first))
        server.log_in()
        server.context = t.pki.server(t.pki.leaf("backend.test"), minimum=then, maximum=then)
        for _ in range(3):
            server.log_in()
        server.blameless()
        server.daemon.stop()


@test(quick=True, limit=60)
def test_a_handshake_that_fails_when_it_resumes_is_repeated_in_full_within_the_same_login(t):
    def refuse(how):
        def before(server, stream):
            hello = stream.exactly(5)
            hello += stream.exactly(int.from_bytes(hello[3:5], "big"))
            stream.buffer = hello + stream.buffer
            if PRE_SHARED_KEY not in offers(hello):
                return False
            server.seen.append(how)
            if how == "alert":
                stream.send(b"\x15\x03\x03\x00\x02\x02\x2f")
            elif how == "reset":
                stream.reset()
            elif how == "silence":
                time.sleep(t.scaled(6))
            elif how == "noise":
                stream.send(b"* OK plain\r\n")
            return True
        return before

    for how in ("alert", "close", "reset", "noise", "silence"):
        server = Server(t, server_context(t), refuse(how), backend_timeout=f"{int(t.scaled(4))}s")
        for number in range(3):
            took = server.log_in()
            assert took < t.scaled(4), f"{how}: login {number} took {took:.1f} s"
        # The second login finds out, the third does not try again.
        assert server.seen == [False, how, False, False], (how, server.seen)
        server.blameless()
        server.daemon.stop()


@test(quick=True)
def test_it_is_repeated_once_and_a_backend_that_fails_in_full_as_well_has_failed(t):
    broken = threading.Event()

    def before(server, stream):
        if broken.is_set():
            stream.exactly(5)
            server.seen.append("closed")
        return broken.is_set()

    server = Server(t, server_context(t), before)
    server.log_in()
    broken.set()
    server.log_in(works=False)
    assert server.seen == [False, "closed", "closed"], server.seen
    assert server.daemon.closing(2)["reason"] == "backend_handshake"
    assert server.daemon.metric("postern_backend_attempts_total", destination="relay", result="later") == 1
    broken.clear()
    server.log_in()


@test(quick=True)
def test_a_certificate_that_is_not_believed_is_not_asked_for_twice(t):
    server = Server(t, server_context(t))
    server.log_in()
    server.context = t.pki.server(t.pki.leaf("elsewhere.test"))
    server.log_in(works=False)
    assert len(server.seen) == 2, server.seen
    assert server.daemon.closing(2)["reason"] == "backend_certificate"
