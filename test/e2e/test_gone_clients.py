# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that are gone: whoever ended, how, when and over what, the session ends with the failed write and nothing
but that. One session for each order of events, all at once."""
import itertools
import socket
import threading
import time

import wire
from harness import test
from logins import ALL, World

LEGS = [(False, False), (True, False), (False, True), (True, True)]
WAYS = ("closes", "ends and closes", "says goodbye and closes", "resets")
WORDS = ("once", "now and then", "without end", "and ends", "and closes", "and resets")


def leave(client, way):
    if way == "resets":
        return client.reset()
    if way == "says goodbye and closes":
        client.finish()
    elif way == "ends and closes":
        client.sock.shutdown(socket.SHUT_WR)
    return client.close()


def speak(backend, words):
    """What a backend does that has not noticed anything yet; errors are the point."""
    try:
        for _ in range({"now and then": 5, "without end": 60}.get(words, 1)):
            backend.send(b"* 1 EXISTS\r\n" if words != "without end" else b"f" * 65536)
            if words == "now and then":
                time.sleep(0.05)
        if words == "and ends":
            backend.finish()
        elif words == "and closes":
            backend.close()
        elif words == "and resets":
            backend.reset()
    except (wire.Reset, wire.Silence, OSError):
        pass


def stuff(stream):
    """More than anybody takes at once, so that reading from this client stops."""
    stream.sock.setblocking(False)
    try:
        for _ in range(400):
            stream.sock.send(b"u" * 65536)
    except OSError:
        pass
    stream.sock.setblocking(True)


def all_gone(t, daemon, names, seconds=1.5):
    """Every session has ended, `seconds` from now at the latest; those that have not are named."""
    began = time.monotonic()
    while daemon.metric("postern_connections_active"):
        if time.monotonic() - began > t.scaled(seconds):
            ended = {r["peer"] for r in daemon.closings()}
            stuck = sorted({what for peer, what in names.items() if peer not in ended})
            raise AssertionError(f"{len(stuck)} sessions did not end: {stuck[:12]}")
        time.sleep(0.02)


@test(quick=True, limit=60)
def test_a_client_that_is_gone_ends_its_session_within_a_second_in_every_order_of_events(t):
    for client_tls, backend_tls in LEGS:
        backend = t.backend(receive_buffer=4096)
        conf = t.base(backend, tls=client_tls)
        conf["server.host_down_threshold"] = 0
        server = t.pki.server(t.pki.leaf("backend.test", key=1))
        if backend_tls:
            conf["destination.relay.tls_server_name"] = "backend.test"
            conf["destination.relay.protocol.smtp.tls"] = "implicit"
        daemon = t.postern(conf)
        sessions, names = [], {}
        for way, words, deaf in itertools.product(WAYS, WORDS, (False, True)):
            if way == "says goodbye and closes" and not client_tls or deaf and client_tls:
                continue
            accepted = []
            if backend_tls:
                thread = threading.Thread(target=lambda to=accepted: to.append(backend.accept_tls(server)))
                thread.start()
            client = wire.tls_connect(daemon.port("smtp"), t.pki.client(), "mail.example.com") if client_tls \
                else wire.connect(daemon.port("smtp"))
            if backend_tls:
                thread.join(wire.PATIENCE)
            else:
                accepted.append(backend.accept())
            client.send("x")
            accepted[0].expect("x")
            names["%s:%d" % client.local] = f"the client {way}, the backend speaks {words}{', deaf' if deaf else ''}"
            sessions.append((client, accepted[0], way, words, deaf))
        for client, _, _, _, deaf in sessions:
            if deaf:
                stuff(client)
        for client, _, way, _, _ in sessions:
            leave(client, way)
        time.sleep(0.05)
        speakers = [threading.Thread(target=speak, args=(peer, words)) for _, peer, _, words, _ in sessions]
        for speaker in speakers:
            speaker.start()
        time.sleep(0.3)  # who speaks now and then has spoken
        all_gone(t, daemon, names)
        for _, peer, _, _, _ in sessions:
            peer.close()
        for speaker in speakers:
            speaker.join(wire.PATIENCE)
        daemon.stop()
        backend.close()


@test(quick=True, limit=40)
def test_a_client_that_left_before_its_login_was_accepted_does_not_stay_behind_what_the_backend_says_next(t):
    world = World(t, server__host_down_threshold=0)
    behind = {"imap": b"* 1 EXISTS\r\n", "pop3": b"+OK\r\n", "managesieve": b"OK\r\n", "submission": b"250 ok\r\n"}
    names, servers = {}, []
    for protocol, way, late in itertools.product(ALL, ("closes", "ends and closes", "resets"), (False, True)):
        client = world.client(protocol).attempt()
        server = world.server(protocol).greet().taken()
        names[client.name] = f"{protocol}: {way}, the backend speaks {'later' if late else 'at once'}"
        leave(client.stream, way)
        time.sleep(0.01)
        server.accept(b"" if late else behind[protocol])
        servers.append((server, protocol, late))
    for server, protocol, late in servers:
        if late:
            speak(server.stream, "now and then")
    all_gone(t, world.daemon, names)


@test(quick=True)
def test_what_a_client_that_is_gone_said_last_reaches_the_backend(t):
    world = World(t, protocols=("imap",))
    client = world.client("imap").attempt()
    client.say("b STORE 1 +FLAGS (\\Seen)").say("c LOGOUT")
    server = world.server("imap").greet().taken()
    client.stream.close()
    time.sleep(0.05)
    server.accept(b"* 1 EXISTS\r\n")
    server.stream.expect("b STORE 1 +FLAGS (\\Seen)\r\nc LOGOUT\r\n").expect_eof()
    all_gone(t, world.daemon, {client.name: "imap"})


@test(quick=True)
def test_a_client_that_breaks_off_while_its_backend_is_asked_is_noticed_although_it_is_not_read(t):
    world = World(t, protocols=("imap",), server__backend_timeout="20s")
    client = world.client("imap").attempt()
    server = world.server("imap").greet().taken()
    stuff(client.stream)  # pipelined, far more than Postern keeps
    time.sleep(0.1)
    client.stream.reset()
    server.stream.expect_gone(t.scaled(2))
    all_gone(t, world.daemon, {client.name: "imap"})
    assert world.record(client)["reason"] == "client_gone"


@test(limit=40)
def test_a_client_that_closed_while_nobody_speaks_is_found_out_and_one_that_only_ended_is_not(t):
    backend = t.backend()
    daemon = t.postern(t.base(backend))
    pairs = []
    for _ in range(2):
        client = wire.connect(daemon.port("smtp"))
        pairs.append((client, backend.accept()))
        client.send("x")
        pairs[-1][1].expect("x")
    pairs[0][0].finish()
    pairs[0][1].expect_eof()
    # How long the kernel remembers a connection that nobody owns: a minute, but for this.
    pairs[1][0].sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, 1)
    pairs[1][0].close()
    pairs[1][1].expect_eof()
    t.await_that(lambda: daemon.metric("postern_sessions_active") == 1, 15, 0.1, "the end of the session")
    pairs[0][1].send("still there").close()
    pairs[0][0].expect("still there").expect_eof()
