# SPDX-License-Identifier: GPL-3.0-or-later
"""From signal to signal: draining that cuts nobody, reloads that lose nothing, bad files that change nothing, and
watched files that need no signal at all."""
import asyncio
import copy
import hashlib
import os
import random
import re
import signal
import threading
import time

import wire
from harness import test
from test_load import EchoLoop
from test_tls_client import NAME, front, presented
from test_tls_life import becomes


class Traffic:
    """Sessions that send random pieces, get them back and compare hashes, until finish(): each ends in order."""

    def __init__(self, t, port, sessions, context=None, short=False):
        self.t, self.port, self.context, self.short = t, port, context, short
        self.over, self.errors, self.bytes, self.count, self.greeted = threading.Event(), [], 0, 0, 0
        self.thread = threading.Thread(target=lambda: asyncio.run(self.all(sessions)), daemon=True)
        self.thread.start()
        t.await_that(lambda: self.greeted >= sessions or self.errors, 10, about="the sessions' greeting")

    async def all(self, sessions):
        await asyncio.gather(*(self.loop(random.Random(i)) for i in range(sessions)))

    async def loop(self, chance):
        again = True
        while again:
            try:
                await self.session(chance)
            except (OSError, AssertionError, asyncio.IncompleteReadError, asyncio.TimeoutError) as e:
                self.errors.append(f"{type(e).__name__}: {e}")
                return
            again = self.short and not self.over.is_set()

    async def session(self, chance):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.context, limit=1 << 20,
                                                       server_hostname=NAME if self.context else None)
        patience = self.t.scaled(15)
        greeting = await asyncio.wait_for(reader.readexactly(11), patience)
        assert greeting == b"220 relay\r\n", greeting
        self.greeted += 1
        sent, received, pieces = hashlib.sha256(), hashlib.sha256(), 0
        while pieces < 3 if self.short else not self.over.is_set():
            piece = chance.randbytes(chance.choice((1, 100, 5000, 60_000)))
            sent.update(piece)
            writer.write(piece)
            received.update(await asyncio.wait_for(reader.readexactly(len(piece)), patience))
            self.bytes += len(piece)
            pieces += 1
            await asyncio.sleep(0)
        assert sent.digest() == received.digest(), "the bytes that came back are others"
        if writer.can_write_eof():
            writer.write_eof()
            rest = await asyncio.wait_for(reader.read(), patience)
            assert rest == b"", rest[:100]
        writer.close()
        try:
            await writer.wait_closed()
        except OSError:
            pass
        self.count += 1

    def finish(self):
        self.over.set()
        self.thread.join(self.t.scaled(20))
        assert not self.thread.is_alive(), "sessions hang"
        assert not self.errors, f"{len(self.errors)} sessions failed: {self.errors[:3]}"


def refuses(port):
    try:
        wire.connect(port).close()
    except ConnectionRefusedError:
        return True
    return False


def changed(daemon, **settings):
    """The daemon's configuration with these dotted keys (__ for a dot), for a reload."""
    conf = copy.deepcopy(daemon.conf)
    for path, value in settings.items():
        conf[path.replace("__", ".")] = value
    return conf


def apply(daemon, conf=None, **settings):
    """A reload that every worker has taken over and whose records are out: both follow its count by a moment."""
    daemon.reload(changed(daemon, **settings) if conf is None else conf)
    time.sleep(daemon.t.scaled(0.15))


# --- the end ----------------------------------------------------------------------------------------


@test(quick=True)
def test_a_stop_refuses_new_clients_at_once_and_lets_a_session_finish(t):
    """Scenario 264, its first half."""
    backend = t.backend().serve(wire.greeter())
    conf = t.base(backend)
    conf["server.shutdown_grace"] = "20s"
    daemon = t.postern(conf)
    client = wire.connect(daemon.port("smtp")).expect("220 relay\r\n")
    assert daemon.http("/readyz")[0] == 200
    daemon.signal(signal.SIGTERM)
    daemon.wait("shutdown signal received; draining")
    t.await_that(lambda: refuses(daemon.port("smtp")), 0.5, about="the refusal of new clients")
    status, body, _ = daemon.http("/readyz")
    assert (status, body.strip()) == (503, "draining"), (status, body)
    assert daemon.http("/healthz")[0] == 200, "alive, though not ready"
    assert daemon.metric("postern_ready") == 0
    client.send("still here").expect("still here")
    time.sleep(0.5)
    client.send("and here").expect("and here").finish().expect_eof()
    assert daemon.wait_exit(2) == 0
    # A knock that came before the sockets were closed may have been let in.
    assert any(r["reason"] == "eof" and int(r["bytes_to_backend"]) == 18 for r in daemon.closings()), daemon.closings()
    daemon.wait("all connections drained")


@test(quick=True)
def test_what_is_left_at_the_end_of_the_grace_is_cut(t):
    """Scenario 264, its second half."""
    backend = t.backend().serve(wire.greeter())
    conf = t.base(backend)
    conf["server.shutdown_grace"] = "1s"
    daemon = t.postern(conf)
    client = wire.connect(daemon.port("smtp")).expect("220 relay\r\n")
    began = time.monotonic()
    daemon.signal(signal.SIGTERM)
    client.expect_gone()
    took = time.monotonic() - began
    assert 0.9 < took < t.scaled(1.5), f"cut after {took:.2f} s"
    assert daemon.wait_exit(3) == 0
    record = daemon.closing()
    assert (record["msg"], record["reason"]) == ("session closed", "shutdown"), record
    assert int(record["bytes_to_client"]) == len("220 relay\r\n"), record


@test(quick=True)
def test_a_second_signal_ends_at_once(t):
    for first, second in ((signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM)):
        backend = t.backend().serve(wire.greeter())
        conf = t.base(backend)
        conf["server.shutdown_grace"] = "60s"
        daemon = t.postern(conf)
        client = wire.connect(daemon.port("smtp")).expect("220 relay\r\n")
        daemon.signal(first)
        daemon.wait("shutdown signal received; draining")
        began = time.monotonic()
        daemon.signal(second)
        assert daemon.wait_exit(2) == 0
        assert time.monotonic() - began < t.scaled(0.5)
        client.expect_gone()


@test(quick=True)
def test_without_sessions_it_is_gone_within_half_a_second(t):
    """Scenario 265."""
    for number in (signal.SIGINT, signal.SIGTERM):
        daemon = t.postern(t.base(t.port()))
        began = time.monotonic()
        daemon.signal(number)
        assert daemon.wait_exit(2) == 0
        assert time.monotonic() - began < t.scaled(0.5), f"{time.monotonic() - began:.2f} s after {number}"


@test(quick=True)
def test_a_handshake_begun_before_the_stop_may_finish_after_it(t):
    backend = t.backend().serve(wire.greeter())
    conf = t.base(backend, tls=True)
    conf["server.shutdown_grace"] = "20s"
    daemon = t.postern(conf)
    waiting = wire.connect(daemon.port("smtp"))
    daemon.await_metric("postern_connections_active", 1, listener="smtp")
    daemon.signal(signal.SIGTERM)
    daemon.wait("shutdown signal received; draining")
    client = wire.TlsStream(waiting, t.pki.client(), server_name=NAME).handshake()
    client.expect("220 relay\r\n").send("x").expect("x").finish().expect_eof()
    client.close()
    assert daemon.wait_exit(3) == 0
    assert daemon.closing()["reason"] == "eof"


@test(quick=True, limit=60)
def test_a_stop_under_load_cuts_nothing(t):
    for tls in (False, True):
        count = 20 if t.sanitized else 100
        port = t.port()
        EchoLoop(port)
        conf = t.base(port, tls=tls)
        conf["server.shutdown_grace"] = "30s"
        daemon = t.postern(conf)
        traffic = Traffic(t, daemon.port("smtp"), count, t.pki.client() if tls else None)
        time.sleep(0.3)
        daemon.signal(signal.SIGTERM)
        daemon.wait("shutdown signal received; draining")
        before = traffic.bytes
        time.sleep(0.7)
        assert traffic.bytes > before, "nothing moves any more"
        traffic.finish()
        assert traffic.count == count
        assert daemon.wait_exit(5) == 0
        ends = {r["reason"] for r in daemon.closings()}
        assert len(daemon.closings()) == count and ends == {"eof"}, ends


# --- reloads ----------------------------------------------------------------------------------------


@test(quick=True)
def test_a_changed_destination_serves_new_sessions_and_live_ones_stay(t):
    old, new = t.backend().serve(wire.greeter(b"220 old\r\n")), t.backend().serve(wire.greeter(b"220 new\r\n"))
    daemon = t.postern(t.base(old))
    live = wire.connect(daemon.port("smtp")).expect("220 old\r\n")
    apply(daemon, destination__relay__protocol__smtp__port=new.port)
    daemon.wait("reloaded", scope="everything")
    wire.connect(daemon.port("smtp")).expect("220 new\r\n").close()
    live.send("still the old one").expect("still the old one")
    apply(daemon, destination__other={"host": "127.0.0.1", "forwarding": "none", "protocol": {
        "smtp": {"port": old.port, "tls": "plain"}}}, routing__smtp_passthrough_destination="other")
    wire.connect(daemon.port("smtp")).expect("220 old\r\n").close()
    live.send("x").expect("x").finish().expect_eof()
    assert daemon.metric("postern_reloads_total", result="ok") == 2


@test(quick=True)
def test_a_bad_file_changes_nothing_and_every_problem_is_logged_with_its_place(t):
    backend = t.backend().serve(wire.greeter())
    daemon = t.postern(t.base(backend))
    live = wire.connect(daemon.port("smtp")).expect("220 relay\r\n")
    good = daemon.conf.text()
    daemon.reload(changed(daemon, server__nonsense=1, listener__smtp__tls="sometimes",
                          destination__relay__protocol__smtp__port=70000), good=False)
    daemon.wait("reload failed, nothing changed")
    problems = [r["problem"] for r in daemon.find("configuration", level="error")]
    place = re.escape(daemon.path) + r":\d+:\d+: "
    for key in ("server.nonsense", "listener.smtp.tls", "destination.relay.protocol.smtp.port"):
        assert [p for p in problems if re.match(place + re.escape(key) + ": ", p)], f"{key} is not in {problems}"
    for text in ("this is = = not toml\n", "", good[:len(good) // 2] + '"'):
        daemon.reload(text, good=False)
        wire.connect(daemon.port("smtp")).expect("220 relay\r\n").close()
    os.unlink(daemon.path)
    daemon.reload(good=False)
    assert daemon.metric("postern_reloads_total", result="failed") == 5
    assert daemon.metric("postern_reloads_total", result="ok") == 0
    assert daemon.http("/readyz")[0] == 200
    live.send("x").expect("x")
    apply(daemon, good)
    wire.connect(daemon.port("smtp")).expect("220 relay\r\n").close()


@test(quick=True)
def test_what_needs_a_restart_is_named_in_one_record_and_not_applied(t):
    backend = t.backend().serve(wire.greeter())
    daemon = t.postern(t.base(backend))
    elsewhere, metrics = t.port(), t.port()
    apply(daemon, server__threads=3, listener__smtp__bind=[f"127.0.0.1:{elsewhere}"],
          metrics__bind=f"127.0.0.1:{metrics}", listener__added={
              "protocol": "lmtp", "bind": [f"127.0.0.1:{t.port()}"], "tls": "plain"},
          destination__relay__protocol__lmtp={"port": backend.port, "tls": "plain"})
    daemon.wait("changes that need a restart are not applied")
    records = daemon.find("changes that need a restart are not applied", level="warn")
    assert len(records) == 1, records
    for key in ("server.threads", "listener.smtp.bind", "listener.added (added)", "metrics.bind"):
        assert key in records[0]["keys"], (key, records[0])
    assert refuses(elsewhere) and refuses(metrics)
    wire.connect(daemon.port("smtp")).expect("220 relay\r\n").close()
    gone = changed(daemon)
    del gone["listener.smtp"]
    gone["listener.other"] = {"protocol": "smtp", "bind": [f"127.0.0.1:{elsewhere}"], "tls": "plain"}
    apply(daemon, gone)
    keys = daemon.wait("changes that need a restart are not applied", 2)["keys"]
    assert "listener.smtp (removed)" in keys and "listener.other (added)" in keys, keys
    wire.connect(daemon.port("smtp")).expect("220 relay\r\n").close()
    apply(daemon, daemon.conf)
    assert len(daemon.find("changes that need a restart are not applied")) == 2, "nothing differs any more"


@test(quick=True, limit=60)
def test_twenty_reloads_under_traffic_lose_nothing(t):
    one, two = t.port(), t.port()
    EchoLoop(one)
    EchoLoop(two)
    daemon = t.postern(t.base(one, tls=True))
    context = t.pki.client()
    steady = Traffic(t, daemon.port("smtp"), 10 if t.sanitized else 40, context)
    short = Traffic(t, daemon.port("smtp"), 5, context, short=True)
    for i in range(20):
        daemon.reload(changed(daemon, destination__relay__protocol__smtp__port=(one, two)[i % 2]))
    for _ in range(20):
        daemon.signal(signal.SIGHUP)  # faster than they can be done: they may join
    t.await_that(lambda: short.count > 20, 20, about="a score of short sessions")
    short.finish()
    steady.finish()
    daemon.closing(short.count + steady.count)
    assert {r["reason"] for r in daemon.closings()} == {"eof"}
    t.await_that(lambda: daemon.metric("postern_reloads_total", result="ok") >= 21, about="a reload for the signals that joined")
    assert daemon.metric("postern_reloads_total", result="failed") == 0
    daemon.await_metric("postern_connections_active", 0, listener="smtp")


@test(limit=30)
def test_reloads_leave_neither_memory_nor_descriptors_behind(t):
    backend = t.backend().serve(wire.greeter())
    daemon = t.postern(t.base(backend, tls=True))
    for _ in range(20):
        daemon.reload()
    fds, memory = daemon.descriptors(), daemon.resident()
    for _ in range(50 if t.sanitized else 200):
        daemon.reload()
    daemon.await_descriptors(fds)
    assert t.sanitized or daemon.resident() - memory < 2 << 20, f"{daemon.resident() - memory} bytes more"


@test(quick=True)
def test_max_connections_follows_a_reload(t):
    backend = t.backend().serve(wire.greeter())
    daemon = t.postern(t.base(backend))
    first = wire.connect(daemon.port("smtp")).expect("220 relay\r\n")
    second = wire.connect(daemon.port("smtp")).expect("220 relay\r\n")
    apply(daemon, listener__smtp__max_connections=1)
    for stream in (first, second):
        stream.send("x").expect("x")
    wire.connect(daemon.port("smtp")).expect_gone()
    daemon.wait("max_connections reached; dropping connection", listener="smtp")
    assert daemon.metric("postern_connections_rejected_total", reason="limit") == 1
    first.finish().expect_eof()
    first.close()
    daemon.await_metric("postern_connections_active", 1, listener="smtp")
    wire.connect(daemon.port("smtp")).expect_gone()
    apply(daemon, daemon.conf)
    wire.connect(daemon.port("smtp")).expect("220 relay\r\n")


@test(quick=True)
def test_the_log_level_and_format_follow_a_reload(t):
    backend = t.backend().serve(wire.greeter())
    daemon = t.postern(t.base(backend))

    def session():
        seen = len(daemon.find("backend connected"))
        count = len(daemon.closings())
        wire.connect(daemon.port("smtp")).expect("220 relay\r\n").close()
        daemon.await_metric("postern_connections_active", 0, listener="smtp")
        time.sleep(t.scaled(0.2))  # for a record that must not come
        return len(daemon.find("backend connected")) - seen, len(daemon.closings()) - count

    assert session() == (0, 1)
    apply(daemon, server__log_level="debug")
    assert session() == (1, 1)
    apply(daemon, server__log_level="warn")
    assert session() == (0, 0)
    apply(daemon, server__log_format="json")
    assert session() == (0, 1)
    assert daemon.stdout().splitlines()[-1].startswith("{"), daemon.stdout()[-500:]


@test(quick=True)
def test_timers_of_a_reload_are_those_of_new_sessions(t):
    backend = t.backend().serve(wire.greeter())
    daemon = t.postern(t.base(backend))
    old = wire.connect(daemon.port("smtp")).expect("220 relay\r\n")
    apply(daemon, server__bridge_idle="1s")
    wire.connect(daemon.port("smtp")).expect("220 relay\r\n").expect_gone(t.scaled(2.5))
    assert daemon.closing()["reason"] == "idle"
    old.send("x").expect("x")


# --- watched files ----------------------------------------------------------------------------------


@test(quick=True)
def test_a_changed_mapping_file_is_read_without_a_signal(t):
    backend = t.backend().serve(wire.greeter())
    daemon = t.postern(t.base(backend))
    path = daemon.conf["mapping.file.path"]
    live = wire.connect(daemon.port("smtp")).expect("220 relay\r\n")
    for way in ("by rename", "in place"):
        before = daemon.metric("postern_reloads_total", result="ok")
        if way == "by rename":
            t.file("mappings.new", "anna@example.com\tanna\n")
            os.rename(f"{t.folder}/mappings.new", path)
        else:
            with open(path, "a", encoding="utf-8") as f:
                f.write("ben@example.com\tben\n")
        t.await_that(lambda n=before: daemon.metric("postern_reloads_total", result="ok") > n, about=f"a reload ({way})")
    daemon.wait("reloaded", scope="files")
    live.send("x").expect("x")


@test(quick=True, limit=30)
def test_a_pair_written_slowly_in_place_is_served_only_when_it_is_whole(t):
    old, new, served = t.pki.leaf(NAME), t.pki.leaf(NAME, key=1), t.pki.leaf(NAME)
    daemon = front(t, ("main", served))
    live = wire.tls_connect(daemon.port("smtp"), t.pki.client(), NAME).expect("220 relay\r\n")
    began = presented(t, daemon.port("smtp"), NAME)
    assert began not in (old.der, new.der)
    for source, place in ((new.chain, served.chain), (new.key, served.key)):
        with open(source, "rb") as f:
            data = f.read()
        with open(place, "wb") as f:
            f.write(data[:len(data) // 2])
            f.flush()
            seen = len(daemon.records())
            t.await_that(lambda n=seen: [r for r in daemon.records()[n:] if r["level"] in ("warn", "error")],
                         about=f"a record about half of {place}")
            assert presented(t, daemon.port("smtp"), NAME) == began
            live.send("x").expect("x")
            f.write(data[len(data) // 2:])
    becomes(t, daemon, new)
    live.send("y").expect("y")
