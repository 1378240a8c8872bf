# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens at the limits: connections, descriptors, memory, processor time, and a log nobody reads."""
import os
import re
import resource
import subprocess
import threading
import time

import wire
from daemon import CLOSING, parse_logfmt
from harness import Skip, test

FULL = "max_connections reached; dropping connection"


def greeted(port, count):
    return [wire.connect(port).expect("220 relay\r\n") for _ in range(count)]


def drop(streams):
    for stream in streams:
        stream.close()


def pss(pid):
    """Bytes that are the process's own, and its share of what it shares."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return int(re.search(r"^Pss:\s+(\d+) kB", f.read(), re.M)[1]) * 1024


def many_descriptors(count):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise Skip(f"needs {count} descriptors, the limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


@test(quick=True)
def test_over_max_connections_the_end_comes_without_a_byte_and_it_recovers(t):
    """Scenario 260."""
    backend = t.backend().serve(wire.greeter())
    conf = t.base(backend)
    conf["server.max_connections"] = 5
    conf["listener.small"] = {"protocol": "smtp", "bind": [f"127.0.0.1:{t.port()}"], "tls": "plain", "max_connections": 2}
    daemon = t.postern(conf)
    for listener, limit in (("smtp", 5), ("small", 2)):
        port = daemon.port(listener)
        held = greeted(port, limit)
        for _ in range(3):
            wire.connect(port).expect_eof()
        daemon.await_metric("postern_connections_rejected_total", 3, listener=listener, reason="limit")
        daemon.await_metric("postern_connections_active", limit, listener=listener)
        held[0].send("still served").expect("still served")
        held.pop().close()
        daemon.await_metric("postern_connections_active", limit - 1, listener=listener)
        held += greeted(port, 1)
        wire.connect(port).expect_eof()
        drop(held)
        daemon.await_metric("postern_connections_active", 0, listener=listener)
        drop(greeted(port, limit))


def storm(t, workers):
    """Connections over the limit for two seconds: one line a second and listener, with the number left out."""
    backend = t.backend().serve(wire.greeter())
    conf = t.base(backend)
    conf["server.threads"] = workers
    conf["listener.smtp.max_connections"] = 1
    daemon = t.postern(conf)
    held, began, count = greeted(daemon.port("smtp"), 1), time.monotonic(), 0
    while time.monotonic() < began + 2.2:
        wire.connect(daemon.port("smtp")).expect_eof().close()
        count += 1
        time.sleep(0.005)  # a storm for the log, not for the system's client ports
    daemon.await_metric("postern_connections_rejected_total", count, listener="smtp", reason="limit")
    seconds = time.monotonic() - began
    lines = daemon.find(FULL, listener="smtp")
    assert 2 <= len(lines) <= int(seconds) + 1, f"{len(lines)} lines in {seconds:.1f} s"
    told = len(lines) + sum(int(line.get("suppressed", 0)) for line in lines)
    assert len(lines) < told <= count, (told, count, lines)
    drop(held)


@test(quick=True)
def test_a_storm_over_the_limit_is_one_log_line_a_second_with_the_number_left_out(t):
    storm(t, 1)


@test(quick=True)
def test_a_storm_over_the_limit_is_one_log_line_a_second_however_many_workers_see_it(t):
    storm(t, 2)


# Without descriptors UBSan cannot tell which memory it may look at and takes every object for a wrong one.
@test(limit=30, alone=True, quick=True, plain=True, needs=("prlimit",))
def test_without_descriptors_accepting_pauses_does_not_spin_and_recovers(t):
    """Scenario 269."""
    backend = t.backend().serve(wire.greeter())
    conf = t.base(backend)
    conf["server.threads"] = 1
    # Clients that owe a PROXY header hold one descriptor each and no backend's.
    conf["listener.waiting"] = {"protocol": "smtp", "bind": [f"127.0.0.1:{t.port()}"], "tls": "plain",
                                "proxy_protocol": "required", "proxy_trusted": ["127.0.0.0/8"]}
    daemon = t.postern(conf, wrap=("prlimit", "--nofile=64:64"))
    live = greeted(daemon.port("smtp"), 1)[0]
    waiting = [wire.connect(daemon.port("waiting")) for _ in range(100)]
    daemon.wait("accepting pauses", listener="waiting")
    assert daemon.descriptors() == 64
    cpu, began = daemon.cpu_seconds(), time.monotonic()
    for _ in range(20):
        live.send("ping").expect("ping")
        time.sleep(0.1)
    used = daemon.cpu_seconds() - cpu
    assert used <= t.scaled(0.06), f"{used:.2f} s of processor time in {time.monotonic() - began:.1f} s"
    assert len(daemon.find("accepting pauses")) <= time.monotonic() - began + 3
    drop(waiting)
    fresh = greeted(daemon.port("smtp"), 1)[0]
    assert daemon.metric("postern_accept_pauses_total") >= 2
    daemon.await_metric("postern_connections_active", 0, listener="waiting")
    wire.connect(daemon.port("waiting")).send(wire.v1()).expect("220 relay\r\n").close()
    drop([live, fresh])


@test(quick=True, plain=True, needs=("prlimit",))
def test_too_few_descriptors_are_told_of_and_not_stumbled_over(t):
    conf = t.base(t.port())
    conf["server.threads"] = 2
    path = t.file("few.toml", conf.text())
    for files in (4, 8, 12, 16, 20, 24, 31, 40):
        done = subprocess.run(["prlimit", f"--nofile={files}:{files}", t.binary, "run", path], capture_output=True,
                              text=True, check=False, timeout=t.scaled(10), cwd=t.folder)
        assert done.returncode == 1 and done.stdout == "", (files, done)
        assert re.fullmatch(fr"postern: this process may open {files} files and needs \d+ before .*LimitNOFILE=.*\n", done.stderr), done.stderr
    conf["server.max_connections"] = 500
    daemon = t.postern(conf, wrap=("prlimit", "--nofile=1000:1000"))
    problem = daemon.wait("configuration")["problem"]
    assert re.fullmatch(r".*\.toml:\d+:\d+: listener\.smtp\.max_connections: 500 connections need 1\d\d\d descriptors, this process may open 1000", problem), problem
    daemon.stop()
    conf["server.max_connections"] = 400
    assert not t.postern(conf, wrap=("prlimit", "--nofile=1000:1000")).find("configuration")


@test(limit=60, alone=True, plain=True)
def test_two_thousand_idle_tls_sessions_cost_at_most_six_kibibytes_each(t):
    count = 2000
    many_descriptors(2 * count + 200)
    backend = t.backend()
    daemon = t.postern(t.base(backend, tls=True))
    context, held = t.pki.client(), []

    def opened(number):
        for _ in range(number):
            client = wire.tls_connect(daemon.port("smtp"), context, "mail.example.com")
            theirs = backend.accept().send("220 relay\r\n")
            client.expect("220 relay\r\n")
            held.append((client, theirs))

    opened(50)
    time.sleep(1)
    before = pss(daemon.pid)
    opened(count)
    time.sleep(1.5)
    each = (pss(daemon.pid) - before) / count
    print(f"{each:.0f} bytes a session")
    assert daemon.metric("postern_connections_active", listener="smtp") == count + 50
    assert each <= 6 * 1024, f"{each:.0f} bytes a session"
    cpu = daemon.cpu_seconds()
    time.sleep(2)
    assert daemon.cpu_seconds() - cpu <= 0.03, f"idle sessions cost {daemon.cpu_seconds() - cpu:.2f} s in 2 s"
    for client, theirs in held:
        client.close(), theirs.close()
    daemon.await_metric("postern_connections_active", 0, timeout=10, listener="smtp")


@test(limit=30, alone=True, quick=True)
def test_an_idle_daemon_uses_no_processor_time(t):
    backend = t.backend().serve(wire.greeter())
    daemon = t.postern(t.base(backend))
    held = greeted(daemon.port("smtp"), 50)
    time.sleep(0.3)
    cpu = daemon.cpu_seconds()
    time.sleep(2)
    used = daemon.cpu_seconds() - cpu
    assert used <= t.scaled(0.02), f"{used:.2f} s in 2 s"
    drop(held)


@test(quick=True)
def test_every_connection_has_exactly_one_closing_record(t):
    backend = t.backend().serve(wire.greeter())
    conf = t.base(backend, tls=True)
    conf["listener.plain"] = {"protocol": "smtp", "bind": [f"127.0.0.1:{t.port()}"], "tls": "plain"}
    conf["listener.proxied"] = {"protocol": "smtp", "bind": [f"127.0.0.1:{t.port()}"], "tls": "plain",
                                "proxy_protocol": "required", "proxy_trusted": ["127.0.0.0/8"]}
    daemon = t.postern(conf)
    sources = []

    def one(listener, act):
        stream = wire.connect(daemon.port(listener))
        sources.append("{}:{}".format(*stream.local))
        act(stream)
        stream.close()

    for _ in range(20):
        one("plain", lambda s: s.expect("220 relay\r\n"))
        one("plain", lambda s: s.expect("220 relay\r\n").reset())
        one("plain", lambda s: None)
        one("smtp", lambda s: s.send("this is not TLS\r\n").rest())
        one("smtp", lambda s: None)
        one("proxied", lambda s: s.send("EHLO not a header\r\n"))
    daemon.closing(len(sources))
    daemon.stop()
    peers = sorted(r["peer"] for r in daemon.closings())
    assert peers == sorted(sources), f"{len(peers)} records for {len(sources)} connections"
    assert all(r["reason"] for r in daemon.closings())


@test(limit=60, quick=True)
def test_a_reader_of_the_log_that_stalls_costs_records_and_nothing_else(t):
    pipe = f"{t.folder}/log.pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    conf = t.base(t.port())  # nobody there: sessions end by themselves
    conf["server"].update(host_down_threshold=0, backend_connect_retries=0)
    conf["listener.smtp"].update(proxy_protocol="required", proxy_trusted=["127.0.0.0/8"])
    daemon = t.postern(conf, wrap=("sh", "-c", f'exec "$0" "$@" > {pipe}'), wait=False)
    t.await_port(daemon.port("smtp"), process=daemon.process)
    # Long facts make long records: the queue of 4 MiB is full after a few thousand connections.
    wide = "x" * 250
    header = wire.v2(tlvs=wire.tlv(wire.AUTHORITY, wide.encode()) + wire.tlv(wire.UNIQUE_ID, b"u" * 128) +
                     wire.ssl_tlv(subs=[(0x21, wide.encode()), (0x22, wide.encode()), (0x23, wide.encode())]))
    count, deadline = 1, time.monotonic() + t.scaled(25)
    while not (count % 500 == 0 and daemon.metric("postern_log_records_dropped_total") > 100):
        assert time.monotonic() < deadline, f"nothing was dropped in {count} connections"
        wire.connect(daemon.port("smtp")).send(header).expect_gone().close()
        count += 1
    assert daemon.http("/healthz")[0] == 200
    began = time.monotonic()
    wire.connect(daemon.port("smtp")).send(header).expect_gone().close()
    assert time.monotonic() - began < t.scaled(0.5), "a stalled log slows sessions"
    count += 1
    os.set_blocking(reader, True)
    parts = []

    def read():
        while data := os.read(reader, 1 << 16):
            parts.append(data)

    thread = threading.Thread(target=read)
    thread.start()
    t.await_that(lambda: b"log records dropped" in b"".join(parts[-40:]), about="the report of lost records")
    lost = daemon.metric("postern_log_records_dropped_total")
    daemon.await_metric("postern_connections_active", 0)
    wire.connect(daemon.port("smtp")).send(header).expect_gone().close()  # the writer has survived
    count += 1
    daemon.stop()
    thread.join()
    os.close(reader)
    records = [parse_logfmt(line) for line in b"".join(parts).decode().splitlines()]
    reports = [int(r["count"]) for r in records if r["msg"] == "log records dropped"]
    assert sum(reports) == lost > 0, (reports, lost)
    after = records[max(i for i, r in enumerate(records) if r["msg"] == "log records dropped"):]
    assert [r for r in after if r["msg"] in CLOSING], "nothing was logged after the stall"
    closed = [r["session"] for r in records if r["msg"] in CLOSING]
    assert len(closed) == len(set(closed)) and len(closed) < count, "one closing record a connection"
    assert len(closed) + lost >= count, f"{len(closed)} written, {lost:.0f} lost, {count} connections"
