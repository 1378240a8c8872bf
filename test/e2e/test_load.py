# SPDX-License-Identifier: GPL-3.0-or-later
"""Much at once: gigabytes in random pieces with a hash at each end, readers that stall, a thousand sessions
whose bytes must never meet (scenarios 262, 268)."""
import asyncio
import hashlib
import os
import random
import socket
import ssl
import threading
import time

import wire
from harness import test
from test_bridge import LEGS, pair

MEGA = 1 << 20


def endpoints(t, client_tls, backend_tls):
    """(daemon, client's socket, backend): connected, no TLS begun, nothing accepted."""
    backend = t.backend()
    conf = t.base(backend, tls=client_tls)
    if backend_tls:
        conf["destination.relay.tls_server_name"] = "backend.test"
        conf["destination.relay.protocol.smtp.tls"] = "implicit"
    conf["listener.smtp.preauth_timeout"] = "60s"
    daemon = t.postern(conf)
    client = socket.create_connection(("127.0.0.1", daemon.port("smtp")), wire.PATIENCE)
    client.settimeout(t.scaled(20))
    return daemon, client, backend


def send_random(sock, total, seed, result):
    """Pieces of 1 byte to 256 KiB cut from a random block at random places."""
    chance, block, digest, left = random.Random(seed), memoryview(os.urandom(4 * MEGA)), hashlib.sha256(), total
    while left:
        size = min(left, chance.choice((chance.randint(1, 100), chance.randint(1, 20_000), chance.randint(60_000, 262_144))))
        start = chance.randrange(len(block) - size)
        piece = block[start:start + size]
        digest.update(piece)
        sock.sendall(piece)
        left -= size
    result.append(digest.digest())


def receive_all(sock, total, result):
    digest, left, buffer = hashlib.sha256(), total, memoryview(bytearray(MEGA))
    while left:
        count = sock.recv_into(buffer[:min(left, MEGA)])
        if not count:
            break
        digest.update(buffer[:count])
        left -= count
    result.append(digest.digest())


async def tls_side(sock, context, server_side, total, seed):
    """One end of a TLS conversation, sending and receiving at the same time: digests of both directions."""
    loop, sock_copy = asyncio.get_running_loop(), sock
    sock_copy.setblocking(False)
    reader = asyncio.StreamReader(MEGA)
    protocol = asyncio.StreamReaderProtocol(reader)
    if server_side:
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock_copy, ssl=context)
    else:
        transport, _ = await loop.create_connection(
            lambda: protocol, sock=sock_copy, ssl=context, server_hostname="mail.example.com" if context else None)
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    chance, block = random.Random(seed), memoryview(os.urandom(4 * MEGA))
    sent, received = hashlib.sha256(), hashlib.sha256()

    async def send():
        left = total
        while left:
            size = min(left, chance.choice((chance.randint(1, 100), chance.randint(60_000, 262_144))))
            start = chance.randrange(len(block) - size)
            sent.update(block[start:start + size])
            writer.write(block[start:start + size])
            await writer.drain()
            left -= size

    async def receive():
        left = total
        while left:
            data = await reader.read(min(left, MEGA))
            assert data, f"the stream ended {left} bytes early"
            received.update(data)
            left -= len(data)

    await asyncio.gather(send(), receive())
    return writer, sent.digest(), received.digest()


def both_ways(t, total, legs):
    """`total` bytes each way at the same time, in random pieces, with a hash at each end."""
    daemon, client, backend = endpoints(t, *legs)
    began, ends, meet = time.monotonic(), {}, threading.Barrier(2)

    def run_side(name, take, context, server_side):
        async def whole():
            writer, *digests = await tls_side(take(), context, server_side, total, name)
            ends[name] = digests
            await asyncio.get_running_loop().run_in_executor(None, meet.wait)  # neither leaves before the other has all
            writer.close()
            try:
                await asyncio.wait_for(writer.wait_closed(), t.scaled(10))
            except (ssl.SSLError, ConnectionError, TimeoutError):
                pass

        asyncio.run(whole())

    if any(legs):
        own = t.pki.client() if legs[0] else None
        theirs = t.pki.server(t.pki.leaf("backend.test", key=1)) if legs[1] else None
        start_all([threading.Thread(target=run_side, args=("client", lambda: client, own, False)),
                   threading.Thread(target=run_side, args=("backend", lambda: backend.accept().sock, theirs, True))])
        assert set(ends) == {"client", "backend"}, f"only {set(ends)} finished"
        (up_sent, down_got), (down_sent, up_got) = ends["client"], ends["backend"]
    else:
        results, accepted = [[] for _ in range(4)], backend.accept().sock
        accepted.settimeout(t.scaled(20))
        start_all([threading.Thread(target=send_random, args=(client, total, "up", results[0])),
                   threading.Thread(target=receive_all, args=(accepted, total, results[1])),
                   threading.Thread(target=send_random, args=(accepted, total, "down", results[2])),
                   threading.Thread(target=receive_all, args=(client, total, results[3]))])
        assert all(results), "not every direction finished"
        (up_sent,), (up_got,), (down_sent,), (down_got,) = results
    seconds = time.monotonic() - began
    assert up_sent == up_got, "what reached the backend is not what the client sent"
    assert down_sent == down_got, "what reached the client is not what the backend sent"
    client.close()
    if not any(legs):
        accepted.close()
    record = daemon.closing()
    assert (int(record["bytes_to_backend"]), int(record["bytes_to_client"])) == (total, total), record
    print(f"{legs}: {total / MEGA:.0f} MiB each way in {seconds:.1f} s, {2 * total / MEGA / seconds:.0f} MiB/s")
    daemon.stop()


def start_all(jobs):
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()


@test(limit=60, quick=True)
def test_random_pieces_arrive_whole_over_plain_legs(t):
    both_ways(t, (32 if t.quick or t.sanitized else 512) * MEGA, (False, False))


@test(limit=60, quick=True)
def test_random_pieces_arrive_whole_over_tls_on_both_legs(t):
    both_ways(t, (16 if t.quick or t.sanitized else 256) * MEGA, (True, True))


@test(limit=60)
def test_random_pieces_arrive_whole_over_tls_on_one_leg(t):
    for legs in ((True, False), (False, True)):
        both_ways(t, (16 if t.sanitized else 128) * MEGA, legs)


@test(limit=3600, soak=True)
def test_ten_gibibytes_in_random_pieces_arrive_whole_both_ways(t):
    size = int(os.environ.get("POSTERN_SOAK_GIB", "10")) << 30
    both_ways(t, size, (False, False))
    both_ways(t, size // 2, (True, True))


@test(limit=60, alone=True, quick=True)
def test_scenario_262_memory_stays_flat_behind_a_reader_that_stalls(t):
    size = 200 * MEGA
    for legs in LEGS:
        daemon, client, backend = pair(t, *legs)
        backend.send("warm\r\n")
        client.expect("warm\r\n")
        before = daemon.resident()
        sent = [0]

        def pour():
            piece = b"p" * MEGA
            while sent[0] < size:
                backend.send(piece)
                sent[0] += MEGA

        thread = threading.Thread(target=pour)
        wire_patience, wire.PATIENCE = wire.PATIENCE, t.scaled(60)
        backend.sock.settimeout(wire.PATIENCE)
        thread.start()
        time.sleep(1)
        stuck = sent[0]
        time.sleep(0.5)
        assert sent[0] == stuck < size, f"the backend could write {sent[0]} bytes to nobody"
        grown = daemon.resident() - before
        if not t.sanitized:
            assert grown < MEGA, f"{legs}: memory grew by {grown} bytes"
        total = 0
        while total < size:
            data = client.recv(MEGA, t.scaled(10))
            assert data.count(b"p") == len(data) > 0
            total += len(data)
        thread.join()
        wire.PATIENCE = wire_patience
        print(f"{legs}: {stuck} bytes on the way, {grown} bytes grown")
        client.close(), backend.close()
        daemon.stop()


@test(limit=60, alone=True)
def test_a_stalled_backend_stops_its_client_and_no_other_session(t):
    backend = t.backend()
    conf = t.base(backend)
    conf["server.threads"] = 1
    daemon = t.postern(conf)
    client = wire.connect(daemon.port("smtp"))
    stalled = backend.accept()
    before, sent = daemon.resident(), 0
    client.sock.settimeout(t.scaled(0.3))
    try:
        while True:
            sent += client.sock.send(b"u" * 65536)
    except TimeoutError:
        pass
    assert 0 < sent < 64 * MEGA
    assert t.sanitized or daemon.resident() - before < MEGA
    other = wire.connect(daemon.port("smtp"))
    answering = backend.accept()
    began = time.monotonic()
    for _ in range(200):
        other.send("ping")
        answering.expect("ping").send("pong")
        other.expect("pong")
    assert time.monotonic() - began < t.scaled(1), "another session suffers from a stalled one"
    assert stalled.exactly(sent) == b"u" * sent


async def tagged_sessions(port, count, rounds, context):
    """Every session sends records that carry its number; an echo of another's would be seen at once."""
    gate = asyncio.Semaphore(200)
    ready = asyncio.Event()
    up = 0

    async def one(number):
        nonlocal up
        async with gate:
            reader, writer = await asyncio.wait_for(
                asyncio.open_connection("127.0.0.1", port, ssl=context,
                                        server_hostname="mail.example.com" if context else None), 60)
        hello = await asyncio.wait_for(reader.readexactly(11), 60)
        assert hello == b"220 relay\r\n", hello
        up += 1
        if up == count:
            ready.set()
        await asyncio.wait_for(ready.wait(), 90)  # all are open before any goes on
        chance = random.Random(number)
        for step in range(rounds):
            data = (f"<{number}:{step}>" * chance.randint(1, 400)).encode()
            writer.write(data)
            got = await asyncio.wait_for(reader.readexactly(len(data)), 60)
            assert got == data, f"session {number} got {got[:60]!r}"
        writer.close()
        try:
            await asyncio.wait_for(writer.wait_closed(), 30)
        except (ssl.SSLError, ConnectionError):
            pass

    await asyncio.gather(*(one(n) for n in range(count)))


class EchoLoop:
    """An asyncio backend in a thread: greets and echoes a thousand connections without a thousand threads."""

    def __init__(self, port):
        self.loop = asyncio.new_event_loop()
        self.seen = set()

        async def handle(reader, writer):
            writer.write(b"220 relay\r\n")
            mine = None
            try:
                while data := await reader.read(65536):
                    if mine is None:
                        mine = data[1:].split(b":")[0]
                        self.seen.add(mine)
                    writer.write(data)
                    await writer.drain()
            except ConnectionError:
                pass
            writer.close()

        async def start():
            self.server = await asyncio.start_server(handle, "127.0.0.1", port, backlog=4096)

        self.loop.run_until_complete(start())
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()


@test(limit=90, quick=True)
def test_scenario_268_no_byte_of_a_thousand_sessions_appears_in_another(t):
    count = 200 if t.quick or t.sanitized else 1000
    port = t.port()
    echo = EchoLoop(port)
    daemon = t.postern(t.base(port))
    asyncio.run(tagged_sessions(daemon.port("smtp"), 40, 1, None))  # every worker has served
    daemon.closing(40)
    baseline = daemon.descriptors()
    asyncio.run(tagged_sessions(daemon.port("smtp"), count, 5, None))
    assert len(echo.seen) == count
    daemon.closing(count + 40, timeout=20)
    assert {r["reason"] for r in daemon.closings()} == {"eof"}
    daemon.await_descriptors(baseline)
    assert daemon.metric("postern_sessions_total", destination="relay", reason="eof") == count + 40
    assert daemon.metric("postern_connections_active", listener="smtp") == 0


@test(limit=120)
def test_hundreds_of_tls_sessions_at_once_keep_their_bytes_apart(t):
    count = 60 if t.sanitized else 300
    port = t.port()
    echo = EchoLoop(port)
    daemon = t.postern(t.base(port, tls=True))
    asyncio.run(tagged_sessions(daemon.port("smtp"), count, 5, t.pki.client()))
    assert len(echo.seen) == count
    daemon.closing(count, timeout=20)
    assert daemon.metric("postern_tls_handshakes_total", side="client", result="ok") == count


@test(limit=60)
def test_churn_of_short_sessions_leaves_no_descriptor_and_no_memory_behind(t):
    port = t.port()
    EchoLoop(port)
    daemon = t.postern(t.base(port))

    def burst(count):
        for _ in range(count):
            client = wire.connect(daemon.port("smtp"))
            client.expect("220 relay\r\n").send("x").expect("x").finish().expect_eof()
            client.close()

    burst(300)
    daemon.closing(300)
    fds, memory = daemon.descriptors(), daemon.resident()
    burst(300 if t.sanitized else 1500)
    daemon.closing(600 if t.sanitized else 1800)
    daemon.await_descriptors(fds)
    assert t.sanitized or daemon.resident() - memory < MEGA, f"{daemon.resident() - memory} bytes more"
