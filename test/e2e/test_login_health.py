# SPDX-License-Identifier: GPL-3.0-or-later
"""Strangers cannot decide that a backend is down: guesses that it drops or answers too late, from as many addresses as
one likes, refuse nobody else; each counts against whoever made it. A backend that is dead, hung or broken is still
found out, by Postern's own trial."""
import asyncio
import base64
import signal
import time

import logins
import wire
from harness import test
from logins import Client, World, end, lines, plain
from mailtalk import edge
from servers import PASSWORD, DovecotServer

LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"


def visit(w, protocol, source):
    """A client whose address the hop in front of Postern tells."""
    stream = w.connect(protocol)
    stream.send(wire.v2(source=source, destination="2001:db8::1" if ":" in source else "198.51.100.7"))
    client = Client(stream, w.speech(protocol))
    client.name = f"[{source}]:40123" if ":" in source else f"{source}:40123"
    return client


def behind_a_hop(t, **settings):
    return World(t, each__proxy_protocol="required", each__proxy_trusted=["127.0.0.0/8"], **settings)


def sources():
    """Nobody is who was there before: IPv4 addresses and IPv6 networks of 64 bits."""
    i = 0
    while True:
        i += 1
        yield f"203.0.{i >> 8 & 255}.{i & 255}" if i % 2 else f"2001:db8:{i >> 16 & 65535:x}:{i & 65535:x}::1"


def judge(w, protocol, refuse):
    """Serves a leg: alice gets in, mallory is dealt with by `refuse(server)`; counts trials in w.trials."""
    speech = w.speech(protocol)

    def handle(stream):
        server = logins.Server(stream, speech).greet()
        line = server.stream.line()
        if line == logins.GOODBYES[protocol]:
            w.trials += 1
            return
        server.stream.buffer = line.encode() + b"\r\n" + server.stream.buffer
        _, message = server.take()
        if b"mallory" in message:
            return refuse(server)
        server.accept()
        server.stream.rest(60)

    w.legs[protocol].serve(handle)


def drop(server):
    """What Dovecot does with a line that is too long for it."""
    server.close()


def delay(server):
    """A penalty for guessing, longer than anybody waits."""
    server.stream.rest(30)


def gets_in(w, protocol, source="198.51.100.1"):
    client = visit(w, protocol, source).attempt()
    client.hear(w.speech(protocol).accept)
    client.stream.finish()
    client.stream.rest()
    client.close()


# --- strangers --------------------------------------------------------------------------------------


@test(quick=True, limit=60)
def test_five_guesses_that_a_backend_drops_refuse_nobody_else(t):
    w = behind_a_hop(t)
    w.trials = 0
    where = sources()
    for protocol, speech in w.each():
        judge(w, protocol, drop)
        gets_in(w, protocol)
        for _ in range(8):
            guesser = visit(w, protocol, next(where)).attempt("mallory@example.com", "x" * 12_000)
            guesser.hear(speech.said_unavailable).close()
            assert w.record(guesser)["refused_logins"] == "1"
            assert w.daemon.metric("postern_destination_down") == 0
        gets_in(w, protocol)
    w.daemon.await_metric("postern_destination_probes_total", 4, result="up")
    assert w.daemon.metric("postern_destination_probes_total", result="down") == 0
    assert w.trials == 4
    assert w.daemon.metric("postern_auth_total", result="unanswered") == 32
    assert w.daemon.metric("postern_auth_total", result="unavailable") == 0
    assert w.daemon.metric("postern_backend_attempts_total", result="unanswered") == 32
    assert not w.daemon.find("destination marked down")


@test(quick=True, limit=60)
def test_five_guesses_that_a_backend_lets_wait_refuse_nobody_else(t):
    w = behind_a_hop(t, server__backend_timeout="1s")
    w.trials = 0
    where = sources()
    guessers = []
    for protocol, _ in w.each():
        judge(w, protocol, delay)
        guessers += [visit(w, protocol, next(where)).attempt("mallory@example.com", "guess") for _ in range(6)]
    for guesser in guessers:
        guesser.told_unavailable()
    for protocol, _ in w.each():
        gets_in(w, protocol)
    w.daemon.await_metric("postern_auth_total", 24, result="unanswered")
    t.await_that(lambda: w.trials >= 1, about="a trial")
    assert w.daemon.metric("postern_destination_down") == 0
    assert w.daemon.metric("postern_destination_probes_total", result="down") == 0


@test(quick=True)
def test_one_network_of_64_bits_raises_no_suspicion(t):
    w = behind_a_hop(t, protocols=("imap",))
    w.trials = 0
    judge(w, "imap", drop)
    for i in range(12):
        visit(w, "imap", f"2001:db8::{i:x}").attempt("mallory@example.com").hear(logins.IMAP.said_unavailable).close()
    assert w.daemon.metric("postern_destination_consecutive_failures") == 12
    assert not w.daemon.find("destination suspected")
    visit(w, "imap", "2001:db8:0:1::1").attempt("mallory@example.com").hear(logins.IMAP.said_unavailable).close()
    w.daemon.wait("destination suspected")
    w.daemon.await_metric("postern_destination_consecutive_failures", 0)


async def answer(port, credentials, *, header=b"", source=None):
    """What one IMAP login is told, up to the line with its tag."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=source and (source, 0))
    try:
        writer.write(header)
        await reader.readline()
        writer.write(b"a AUTHENTICATE PLAIN " + credentials.encode() + b"\r\n")
        while (line := await asyncio.wait_for(reader.readline(), 15)) and not line.startswith(b"a "):
            pass
        return line
    finally:
        writer.close()


async def under_attack(guess, login, *, rate=50, seconds=20, logins_meanwhile=100):
    """guess(i) so many times a second; from the third second on the logins, spread over the rest. What each was told."""
    guesses, said, began = [], [], time.monotonic()

    async def attack():
        for i in range(seconds * rate):
            await asyncio.sleep(max(0.0, began + i / rate - time.monotonic()))
            guesses.append(asyncio.create_task(guess(i)))
        return time.monotonic() - began

    attacking = asyncio.create_task(attack())
    await asyncio.sleep(2)
    for i in range(logins_meanwhile):
        await asyncio.sleep(max(0.0, began + 2 + i * (seconds - 3) / logins_meanwhile - time.monotonic()))
        said.append(await login())
    took = await attacking
    return took, await asyncio.gather(*guesses), said


def judged(t, daemon, took, told, said, *, seconds=20):
    served = sum(line.startswith(b"a OK ") for line in said)
    trials = daemon.metric("postern_destination_probes_total")
    print(f"{len(told)} guesses in {took:.1f} s, {served} of {len(said)} logins served, {trials:.0f} trials")
    assert seconds * 0.98 < took < t.scaled(seconds * 1.5), took
    assert served >= 99, [line for line in said if not line.startswith(b"a OK ")]
    assert trials > 0
    assert not daemon.find("destination marked down")


async def backend(reader, writer):
    """Takes passwords of ordinary length and thinks about mallory's longer than anybody waits; drops long ones."""
    try:
        writer.write(logins.IMAP.ready.encode())
        words = (await reader.readline()).split()
        if len(words) < 4:
            return  # a trial
        if b"mallory" not in (message := base64.b64decode(words[3])):
            writer.write(words[0] + b" OK in\r\n")
            await reader.read()
        elif len(message) < 1000:
            await reader.read()
    finally:
        writer.close()


@test(limit=90, alone=True)
def test_fifty_guesses_a_second_cost_nobody_else_a_login(t):
    """Half of them dropped, half of them never answered, each from somewhere else; a hundred logins meanwhile."""
    w = behind_a_hop(t, server__backend_timeout="1s", protocols=("imap",), each__max_connections=4096)
    w.legs["imap"].close()
    port, where = w.daemon.port("imap"), sources()

    def guess(i):
        source = next(where)
        header = wire.v2(source=source, destination="2001:db8::1" if ":" in source else "198.51.100.7")
        return answer(port, plain("mallory@example.com", "x" * 6000 if i % 2 else "guess"), header=header)

    def login():
        return answer(port, plain("alice@example.com"), header=wire.v2(source="198.51.100.1", destination="198.51.100.7"))

    async def everything():
        server = await asyncio.start_server(backend, "127.0.0.1", w.legs["imap"].port, backlog=1000, limit=1 << 20)
        try:
            return await under_attack(guess, login)
        finally:
            server.close()

    took, told, said = asyncio.run(everything())
    judged(t, w.daemon, took, told, said)
    assert set(told) == {b"a NO [UNAVAILABLE] backend unavailable\r\n"}
    assert w.daemon.metric("postern_auth_total", result="unanswered") == len(told)


class Strict(DovecotServer):
    """It punishes wrong guesses for longer than Postern waits, as a stock one comes to do."""

    def text(self, trusted, crowd):
        return super().text(trusted, crowd).replace("auth_failure_delay = 0", "auth_failure_delay = 3 secs")


@test(limit=120, root=True, alone=True, needs=("dovecot", "doveadm"))
def test_fifty_guesses_a_second_at_dovecot_cost_nobody_else_a_login(t):
    """Wrong passwords, and passwords of 12,000 bytes, which it drops the connection for."""
    dovecot = Strict(t, name="dovecot-strict")
    conf = edge(t, {"dovecot": ({"imap": dovecot.ports["imap", "plain-proxy"]}, "plain", "proxy")}, listeners=("plain",), protocols=("imap",))
    conf["server.backend_timeout"] = "1s"
    conf["listener.imap-plain.max_connections"] = 4096
    daemon = t.postern(conf)
    port = daemon.port("imap-plain")

    def guess(i):
        return answer(port, plain("bob@example.org", "x" * 12_000 if i % 2 else f"guess {i}"), source=f"127.1.{i >> 7}.{1 + i % 128}")

    def login():
        return answer(port, plain("alice@example.org", PASSWORD), source="127.2.0.1")

    took, told, said = asyncio.run(under_attack(guess, login))
    judged(t, daemon, took, told, said)
    assert not [line for line in told if line.startswith(b"a OK")]


# --- what a guess without an answer costs -----------------------------------------------------------


@test(quick=True)
def test_logins_without_an_answer_count_until_max_auth_attempts(t):
    w = World(t, server__host_down_threshold=0, each__max_auth_attempts=3)
    for protocol, speech in w.each():
        client = w.client(protocol)
        for i in range(3):
            client.attempt(password=f"guess {i}")
            w.server(protocol).greet().taken(password=f"guess {i}").close()
            client.hear(speech.said_unavailable)
        client.stream.expect(lines(speech.said_failures)).expect_eof()
        record = w.record(client)
        assert (record["reason"], record["refused_logins"]) == ("auth_failures", "3"), record
        refused = w.daemon.find("login refused", peer=client.name)
        assert [(r["result"], r["address"]) for r in refused] == [("unanswered", "127.0.0.1")] * 3, refused
        assert w.daemon.metric("postern_auth_total", protocol=protocol, result="unanswered") == 3


@test(quick=True)
def test_a_client_without_an_answer_may_try_again_at_once_and_is_served(t):
    w = World(t, server__backend_timeout="1s", server__host_down_threshold=0)
    for protocol, speech in w.each()[:1 if t.quick else 4]:
        client = w.client(protocol).attempt()
        silent = w.server(protocol).greet().taken()
        client.hear(speech.said_unavailable).noop()
        client.stream.silent(0.7)  # it has spoken, so it has all the time it had before
        client, server = w.logged_in(protocol, client=client)
        end(client, server)
        assert w.record(client)["refused_logins"] == "1"
        silent.close()


# --- a backend that is down -------------------------------------------------------------------------


@test(quick=True, limit=40)
def test_a_backend_that_dies_is_found_out_and_comes_back_by_a_trial(t):
    w = World(t, server__host_down_cooldown="1s", protocols=("imap",))
    port = w.legs["imap"].port
    client, server = w.logged_in("imap")
    end(client, server)
    w.reset_legs()
    for i in range(5):
        assert w.daemon.metric("postern_destination_down") == 0, i
        w.client("imap").attempt().told_unavailable()
    w.daemon.wait("destination marked down", destination="legacy", fault="connect")
    began = time.monotonic()
    client = w.client("imap").attempt().told_unavailable()
    assert time.monotonic() - began < t.scaled(0.5)
    assert w.record(client)["reason"] == "breaker_open"

    w.legs["imap"] = t.backend(port=port)
    w.daemon.await_metric("postern_destination_down", 0)
    client = w.client("imap").attempt()
    w.server("imap").tried()
    server = w.server("imap").greet().taken().accept()
    client.hear(w.speech("imap").accept)
    w.daemon.wait("destination is up again", destination="legacy")
    end(client, server)


@test(quick=True)
def test_a_backend_that_accepts_and_never_greets_is_found_out(t):
    w = World(t, server__backend_timeout="1s", server__host_down_cooldown="60s")
    clients = [w.client(p).attempt() for p in ("imap", "pop3", "submission", "managesieve", "imap")]
    for client in clients:
        client.told_unavailable()
    w.daemon.wait("destination marked down", destination="legacy", fault="backend_timeout", timeout=t.scaled(3))
    began = time.monotonic()
    client = w.client("pop3").attempt().told_unavailable()
    assert time.monotonic() - began < t.scaled(0.5)
    assert w.record(client)["reason"] == "breaker_open"


@test(quick=True)
def test_a_backend_whose_tls_is_broken_is_found_out_before_and_behind_starttls(t):
    for mode in ("implicit", "starttls"):
        w = World(t, server__host_down_threshold=2, server__host_down_cooldown="60s", protocols=("imap",),
                  destination__legacy__tls_server_name="backend.test", destination__legacy__protocol__imap__tls=mode)
        context = t.pki.server(t.pki.leaf("elsewhere.test", key=1))

        def handle(stream, mode=mode, context=context):
            if mode == "starttls":
                stream.send("* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\n")
                stream.expect("P1 STARTTLS\r\n").send("P1 OK go\r\n")
            wire.TlsStream(stream, context, server_side=True).handshake().line()

        w.legs["imap"].serve(handle)
        for i in range(2):
            w.client("imap", f"127.0.0.{i + 1}").attempt().told_unavailable()
        w.daemon.wait("destination marked down", destination="legacy", fault="backend_certificate")
        client = w.client("imap").attempt().told_unavailable()
        assert w.record(client)["reason"] == "breaker_open"


# --- how a trial is made ----------------------------------------------------------------------------


def suspected(w, protocol="imap"):
    """One failed login, which is enough here."""
    w.client(protocol).attempt()
    w.server(protocol).close()
    w.daemon.wait("destination suspected", protocol=protocol)


@test(quick=True)
def test_a_trial_speaks_for_nobody_in_its_proxy_header(t):
    w = World(t, server__host_down_threshold=1, server__host_down_min_clients=0, server__host_down_cooldown="60s",
              destination__legacy__forwarding="proxy")
    for protocol, _ in w.each():
        client = w.client(protocol).attempt()
        server = w.server(protocol)
        assert server.stream.exactly(16)[12] == 0x21
        server.close()
        client.told_unavailable()
        server = w.server(protocol)
        server.stream.expect(LOCAL)
        server.tried()
    w.daemon.await_metric("postern_destination_probes_total", 4, result="up")
    assert w.daemon.metric("postern_destination_down") == 0


@test(quick=True)
def test_a_trial_is_made_over_tls_and_sends_no_credentials(t):
    w = World(t, server__host_down_threshold=1, server__host_down_min_clients=0, protocols=("imap",),
              destination__legacy__tls_server_name="backend.test", destination__legacy__protocol__imap__tls="starttls")
    context = t.pki.server(t.pki.leaf("backend.test", key=1))
    suspected(w)
    server = w.server("imap")
    server.stream.send("* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\n").expect("P1 STARTTLS\r\n").send("P1 OK go\r\n")
    stream = wire.TlsStream(server.stream, context, server_side=True).handshake()
    while (line := stream.line()).endswith("CAPABILITY"):
        stream.send(f"* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n{line.split()[0]} OK done\r\n")
    assert line == "P9 LOGOUT", line
    w.daemon.await_metric("postern_destination_probes_total", 1, result="up")


@test(quick=True)
def test_a_reload_while_a_trial_runs_changes_nothing_about_it(t):
    w = World(t, server__host_down_threshold=1, server__host_down_min_clients=0, server__host_down_cooldown="60s",
              protocols=("imap",))
    suspected(w)
    server = w.server("imap")
    w.daemon.reload()
    server.close()
    w.daemon.await_metric("postern_destination_down", 1)
    client = w.client("imap").attempt().told_unavailable()
    assert w.record(client)["reason"] == "breaker_open"


@test(quick=True)
def test_a_stop_does_not_wait_for_a_trial(t):
    w = World(t, server__host_down_threshold=1, server__host_down_min_clients=0, server__shutdown_grace="30s",
              server__backend_timeout="30s", protocols=("imap",))
    suspected(w)
    server = w.server("imap")
    began = time.monotonic()
    w.daemon.signal(signal.SIGTERM)
    assert w.daemon.wait_exit() == 0
    assert time.monotonic() - began < t.scaled(3)
    server.close()


@test(quick=True)
def test_a_stop_while_a_login_waits_for_a_trial_ends_both(t):
    w = World(t, server__host_down_threshold=1, server__host_down_min_clients=0, server__host_down_cooldown="1s",
              server__shutdown_grace="1s", server__backend_timeout="30s", protocols=("imap",))
    suspected(w)
    w.server("imap").close()
    w.daemon.await_metric("postern_destination_down", 1)
    w.daemon.await_metric("postern_destination_down", 0)
    client = w.client("imap").attempt()
    server = w.server("imap")
    w.daemon.signal(signal.SIGTERM)
    client.hear(w.speech("imap").said_shutdown)
    assert w.daemon.wait_exit() == 0
    server.close()
