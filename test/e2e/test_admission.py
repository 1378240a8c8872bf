# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is let in when many want to be: one client's share, room made by those who have not logged in, and the memory of
all of them together. Sessions never go; a client that logs in gets through whatever strangers hold."""
import resource
import socket
import ssl
import threading
import time

import wire
from harness import Skip, test
from logins import IMAP, Client, Server, World

REJECTED = "postern_connections_rejected_total"
SHARE = "max_connections_per_client reached; dropping connection"
ROOM = "max_connections reached; the oldest connection without a login makes room"
MEMORY = "preauth_memory used up; the oldest connections without a login are closed"


def descriptors(count):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise Skip(f"needs {count} descriptors, the limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def willing(stream):
    """A backend that lets everybody in and says again what it is told."""
    Server(stream, IMAP).greet().take()
    stream.send(IMAP.accept)
    while data := stream.recv():
        stream.send(data)


def world(t, **settings):
    """An IMAP listener with two workers and a willing backend."""
    w = World(t, protocols=("imap",), start=False, **settings)
    w.legs["imap"].serve(willing)
    for key in [k for k, v in settings.items() if v is None]:
        del w.conf[key.replace("__", ".")]
    w.daemon = t.postern(w.conf)
    return w


def open_some(w, count, source):
    """Connections that say nothing; some may be closed at once."""
    held = []
    for _ in range(count):
        sock = socket.socket()
        sock.bind((source, 0))
        sock.connect(("127.0.0.1", w.daemon.port("imap")))
        held.append(sock)
    return held


def drop(held):
    for sock in held:
        sock.close()


def logs_in(w, source="127.0.0.2", before=b""):
    """Whether a client gets from accept to its session and back out."""
    stream = wire.connect(w.daemon.port("imap"), source=source)
    try:
        if before:
            stream.send(before)
        client = Client(stream, IMAP).attempt().hear(IMAP.accept)
        client.say("x").hear("x")
        return True
    except (AssertionError, OSError):
        return False
    finally:
        stream.close()


def rejected(w, **reasons):
    for reason, count in reasons.items():
        w.daemon.await_metric(REJECTED, count, listener="imap", reason=reason)


@test(quick=True)
def test_one_address_cannot_fill_a_listener(t):
    w = world(t, listener__imap__max_connections=80, server__max_connections_per_client=None)
    held = open_some(w, 600, "127.0.0.66")
    rejected(w, client_limit=590, limit=0, made_room=0)
    w.daemon.await_metric("postern_connections_active", 10, listener="imap")
    assert all(logs_in(w) for _ in range(20))
    lines = w.daemon.find(SHARE, listener="imap")
    told = len(lines) + sum(int(line.get("suppressed", 0)) for line in lines)
    assert 1 <= len(lines) <= 10 and told <= 590 and lines[0]["peer"].startswith("127.0.0.66:"), lines
    drop(held)
    w.daemon.await_metric("postern_connections_active", 0, listener="imap")
    assert logs_in(w, "127.0.0.66")


@test(quick=True)
def test_a_crowd_of_addresses_makes_room_and_sessions_stay(t):
    w = world(t, listener__imap__max_connections=40, listener__imap__max_connections_per_client=5)
    sessions = [Client(w.connect("imap", "127.0.0.3"), IMAP).attempt().hear(IMAP.accept) for _ in range(5)]
    crowd = []
    for n in range(20):
        crowd += open_some(w, 5, f"127.0.0.{100 + n}")
    w.daemon.await_metric("postern_connections_active", 40, listener="imap")
    for n in range(30):
        assert logs_in(w), f"login {n}"
        crowd += open_some(w, 5, f"127.0.0.{130 + n}")  # and more of them come all the time
    for session in sessions:
        session.say("still here").hear("still here")
    made = w.daemon.metric(REJECTED, listener="imap", reason="made_room")
    assert made >= 60, made
    assert w.daemon.metric("postern_connections_active", listener="imap") <= 40
    lines = w.daemon.find(ROOM, listener="imap")
    assert lines and len(lines) + sum(int(line.get("suppressed", 0)) for line in lines) <= made, lines
    ends = [r for r in w.daemon.closings() if r["reason"] == "made_room"]
    assert ends and all(not r["peer"].startswith("127.0.0.3:") for r in ends)
    drop(crowd)
    for session in sessions:
        session.say("to the end").hear("to the end").close()


@test(quick=True)
def test_a_listener_full_of_sessions_closes_the_newcomer(t):
    w = world(t, listener__imap__max_connections=6)
    sessions = [Client(w.connect("imap", f"127.0.0.{10 + n}"), IMAP).attempt().hear(IMAP.accept) for n in range(6)]
    for _ in range(5):
        w.connect("imap", "127.0.0.99").expect_eof()
    rejected(w, limit=5, made_room=0)
    for session in sessions:
        session.say("here").hear("here")
    sessions.pop().close()
    w.daemon.await_metric("postern_connections_active", 5, listener="imap")
    waiting = w.client("imap", "127.0.0.99")
    assert logs_in(w, "127.0.0.98")
    waiting.stream.expect_gone()
    rejected(w, made_room=1)


@test(quick=True)
def test_opaque_sessions_are_safe_once_their_backend_stands(t):
    backend = t.backend().serve(wire.greeter())
    conf = t.base(backend)
    conf["listener.smtp.max_connections"] = 2
    daemon = t.postern(conf)
    held = [wire.connect(daemon.port("smtp")).expect("220 relay\r\n") for _ in range(2)]
    wire.connect(daemon.port("smtp"), source="127.0.0.9").expect_eof()
    for stream in held:
        stream.send("still served").expect("still served")
    assert daemon.metric(REJECTED, reason="limit") == 1


@test(quick=True)
def test_behind_a_balancer_the_client_in_the_header_counts(t):
    w = world(t, listener__imap__max_connections=30, listener__imap__max_connections_per_client=5,
              listener__imap__proxy_protocol="required", listener__imap__proxy_trusted=["127.0.0.0/8"])

    def header(source):
        return f"PROXY TCP6 {source} 2001:db8:ffff::1 4000 143\r\n"

    held = []
    for n in range(12):  # many addresses of one /64
        held.append(wire.connect(w.daemon.port("imap")).send(header(f"2001:db8:1:2:{n:x}::1")))
    rejected(w, client_limit=7)
    w.daemon.await_metric("postern_connections_active", 5, listener="imap")
    assert logs_in(w, before=header("2001:db8:1:3::1"))
    assert [r["reason"] for r in w.daemon.closings() if r["peer"].startswith("[2001:db8:1:2:")] == ["client_limit"] * 7
    for n in range(60):  # each /64 alone: the oldest make room
        held.append(wire.connect(w.daemon.port("imap")).send(header(f"2001:db8:2:{n:x}::1")))
    assert all(logs_in(w, before=header(f"2001:db8:3:{n:x}::1")) for n in range(10))
    # The balancer itself is nobody's client: it may open as many as the listener takes.
    silent = [wire.connect(w.daemon.port("imap")) for _ in range(20)]
    assert logs_in(w, before=header("2001:db8:4::1"))
    rejected(w, client_limit=7)
    drop(held + silent)


@test(quick=True)
def test_limits_follow_a_reload(t):
    w = world(t, listener__imap__max_connections=40, listener__imap__max_connections_per_client=3)
    held = [w.client("imap", "127.0.0.5") for _ in range(3)]
    w.connect("imap", "127.0.0.5").expect_eof()
    w.conf["listener.imap.max_connections_per_client"] = 4
    w.conf["server.preauth_memory"] = "1MiB"
    w.daemon.reload(w.conf)
    held.append(w.client("imap", "127.0.0.5"))
    w.connect("imap", "127.0.0.5").expect_eof()
    rejected(w, client_limit=2)
    assert w.daemon.metric("postern_preauth_memory_limit_bytes") == 1 << 20
    # Fewer than there are: those who are in stay, who comes is counted with them.
    w.conf["listener.imap.max_connections_per_client"] = 1
    w.conf["listener.imap.max_connections"] = 2
    w.daemon.reload(w.conf)
    for client in held:
        client.noop()
    w.connect("imap", "127.0.0.5").expect_eof()
    rejected(w, client_limit=3)
    for n in range(3):
        w.client("imap", f"127.0.0.{50 + n}").close()
    t.await_that(lambda: w.daemon.metric("postern_connections_active", listener="imap") <= 2, about="the lower limit")


def half_login(size=60_000):
    return b"a AUTHENTICATE PLAIN " + b"A" * (size - 21)


@test(limit=120, alone=True, quick=True, plain=True)
def test_half_sent_logins_by_the_thousand_stay_within_the_budget(t):
    count, budget = 3000, 16 << 20
    descriptors(count + 400)
    w = world(t, server__preauth_memory="16MiB")
    w.conf["server.log_level"] = "warn"  # the closing records of tens of thousands would take the test's time
    w.daemon.reload(w.conf)
    port, before = w.daemon.port("imap"), w.daemon.resident()
    over, held = threading.Event(), []

    def attack(source):
        """Holds as many as it can, and comes back for each that is closed."""
        mine = []
        while not over.is_set():
            try:
                sock = socket.create_connection(("127.0.0.1", port), 5, (source, 0))
                sock.settimeout(5)
                sock.sendall(half_login())
                mine.append(sock)
            except OSError:
                pass
            if len(mine) > count // 4:
                mine.pop(0).close()
            time.sleep(0.004)  # a thousand a second, all together
        held.extend(mine)

    threads = [threading.Thread(target=attack, args=(f"127.0.0.{60 + n}",), daemon=True) for n in range(4)]
    for thread in threads:
        thread.start()
    w.daemon.wait(MEMORY, timeout=t.scaled(20))
    good, most, told = 0, 0, 0
    for _ in range(100):
        good += logs_in(w)
        most = max(most, w.daemon.resident() - before)
        told = max(told, w.daemon.metric("postern_preauth_memory_bytes"))
        time.sleep(0.02)
    over.set()
    for thread in threads:
        thread.join()
    closed = w.daemon.metric(REJECTED, listener="imap", reason="preauth_memory")
    print(f"{good} of 100 logins; {most >> 20} MiB more at most, {told / 2**20:.1f} MiB counted; {closed:.0f} closed")
    assert good >= 99, f"{good} of 100 logins"
    assert told <= budget * 1.05, f"{told:.0f} bytes counted"
    assert most <= budget * 1.5, f"{most >> 20} MiB more than before"
    assert closed > count / 10, closed
    lines = w.daemon.find(MEMORY)
    assert len(lines) + sum(int(line.get("suppressed", 0)) for line in lines) <= closed, len(lines)
    drop(held)
    w.daemon.await_metric("postern_connections_active", 0, timeout=20, listener="imap")
    assert w.daemon.metric("postern_preauth_memory_bytes") == 0


@test(limit=90, alone=True, plain=True)
def test_what_connections_hold_before_a_login_is_what_is_counted(t):
    """The figure on the metrics page against resident memory, for each way of waiting."""
    count = 400
    descriptors(2 * count + 400)
    hello = bytearray()
    context = t.pki.client()

    def client_hello():
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="mail.example.com")
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        return outgoing.read()

    hello += client_hello()
    ways = {
        "plain, silent": ("plain", b"", None),
        "plain, 60 kB of a login": ("plain", half_login(), None),
        "plain, 60 kB of a literal": ("plain", b"a LOGIN {61000+}\r\n" + b"x" * 60_000, None),
        "TLS, silent": ("implicit", b"", None),
        "TLS, half a ClientHello": ("implicit", bytes(hello[:-10]), None),
        "TLS, a handshake without its end": ("implicit", bytes(hello), None),
        "TLS, greeted": ("implicit", None, context),
    }
    for way, (tls, said, secured) in ways.items():
        w = World(t, tls=tls, protocols=("imap",), server__preauth_memory="1GiB", server__threads=2)
        port = w.daemon.port("imap")
        warm, held = [], []
        for total, into in ((40, warm), (count, held)):
            if into is held:
                time.sleep(0.3)
                before, counted = w.daemon.resident(), w.daemon.metric("postern_preauth_memory_bytes")
            for _ in range(total):
                if secured:
                    into.append(wire.tls_connect(port, context, "mail.example.com").expect("* OK"))
                else:
                    into.append(wire.connect(port).send(said))
        time.sleep(0.5)
        real = (w.daemon.resident() - before) / count
        told = (w.daemon.metric("postern_preauth_memory_bytes") - counted) / count
        print(f"{way}: {real:.0f} bytes each, {told:.0f} counted")
        assert w.daemon.metric("postern_connections_active", listener="imap") == count + 40
        assert real <= 100_000, f"{way}: {real:.0f} bytes each"
        assert real * 0.8 - 1500 <= told <= real * 1.6 + 2500, f"{way}: {told:.0f} counted, {real:.0f} held"
        drop(warm + held)
        w.daemon.stop()
        w.reset_legs()


@test(quick=True)
def test_probes_are_answered_whoever_holds_the_metrics_port(t):
    w = World(t, protocols=("imap",))
    port, held = int(w.conf["metrics.bind"].rsplit(":", 1)[1]), []

    def hold(source, count, what=b"GET /hea"):
        for _ in range(count):
            sock = socket.socket()
            sock.bind((source, 0))
            sock.connect(("127.0.0.1", port))
            try:
                sock.sendall(what)
            except OSError:
                pass
            held.append(sock)

    hold("127.0.0.1", 64)
    assert w.daemon.http("/healthz")[0] == 200
    hold("127.0.0.66", 300)
    assert w.daemon.http("/healthz")[0] == 200
    for n in range(200):
        hold(f"127.0.0.{20 + n}", 2, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" if n % 2 else b"GET /")
        if n % 20 == 0:
            assert w.daemon.http("/healthz")[0] == 200 and w.daemon.http("/readyz")[0] == 200
    assert all(w.daemon.http("/healthz")[0] == 200 for _ in range(50))
    drop(held)
