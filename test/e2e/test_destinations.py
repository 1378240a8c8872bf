# SPDX-License-Identifier: GPL-3.0-or-later
"""How a backend is reached, or not: names and their addresses, source addresses, retries, the window, the circuit
breaker, loops, and which leg and forwarding a listener gets (scenarios 133, 138, 252 to 255, 258, 259)."""
import socket
import subprocess
import threading
import time

import wire
from harness import Skip, test
from nameserver import NameServer


def to(t, port, **settings):
    """A daemon whose destination `relay` is this port; `settings` are dotted keys with __ for a dot."""
    conf = t.base(port)
    conf["server.backend_connect_retries"] = 0
    for path, value in settings.items():
        conf[path.replace("__", ".")] = value
    return t.postern(conf)


def refused(daemon, count=1, source=None):
    """A client that is sent away without a byte; its closing record, the count-th one."""
    wire.connect(daemon.port("smtp"), source=source).expect_eof().close()
    return daemon.closing(count)


def served(daemon, source=None):
    client = wire.connect(daemon.port("smtp"), source=source).expect("220 relay\r\n")
    client.close()


def down(daemon):
    return daemon.metric("postern_destination_down", destination="relay")


def failures(daemon):
    return daemon.metric("postern_destination_consecutive_failures", destination="relay")


def dials(daemon, **labels):
    return daemon.metric("postern_backend_attempts_total", destination="relay", **labels)


def own_hosts(t, text):
    """Runs a daemon with this /etc/hosts in a mount namespace of its own, so that the machine's stays."""
    hosts = t.file("hosts", text)
    wrap = ("unshare", "-m", "sh", "-c", f'mount --bind {hosts} /etc/hosts && exec "$@"', "sh")
    if subprocess.run([*wrap, "true"], capture_output=True, check=False).returncode:
        raise Skip("no mount namespace of its own to be had")
    return wrap


class Misses:
    """A TLS backend that closes each connection inside the handshake, and counts them."""

    def __init__(self, t, port=None):
        self.count = 0
        self.backend = t.backend(port=port).serve(self.handle)
        self.port = self.backend.port

    def handle(self, stream):
        self.count += 1
        stream.recv()
        stream.finish()


def secured(t, port, **settings):
    return to(t, port, destination__relay__tls_server_name="backend.test",
              destination__relay__protocol__smtp__tls="implicit", **settings)


# --- names and addresses ----------------------------------------------------------------------------


@test(quick=True, root=True, needs=("unshare", "mount"))
def test_of_two_addresses_the_one_that_answers_is_used_whichever_it_is(t):
    for position, host in enumerate(("127.0.0.1", "::1")):
        backend = t.backend(host=host).serve(wire.greeter())
        wrap = own_hosts(t, "127.0.0.1 localhost\n::1 two.test\n127.0.0.1 two.test\n")
        conf = t.base(backend)
        conf["destination.relay.host"] = "two.test"
        conf["server.backend_connect_retries"] = 0
        daemon = t.postern(conf, wrap=wrap, name=f"two{position}")
        for _ in range(3):
            served(daemon)
        daemon.closing(3)
        shown = {r["backend"].rsplit(":", 1)[0].strip("[]") for r in daemon.closings()}
        assert shown == {host}, daemon.closings()
        assert failures(daemon) == 0, "an address that does not answer is no failure while another one does"


@test(quick=True, root=True, needs=("unshare", "mount"))
def test_a_name_that_does_not_resolve_ends_the_session_without_a_byte(t):
    conf = t.base(t.port())
    conf["destination.relay.host"] = "nowhere.invalid"
    conf["server"].update(backend_connect_retries=0, backend_timeout="3s")
    daemon = t.postern(conf, wrap=NameServer(t).wrap())
    record = refused(daemon)
    assert (record["msg"], record["reason"]) == ("connection closed", "resolve"), record
    assert "nowhere.invalid" in record["error"], record
    assert failures(daemon) == 1, "an unresolvable name is a failure of the connect stage"


@test(quick=True)
def test_source_addresses_take_turns(t):
    backend = t.backend()
    daemon = to(t, backend.port, destination__relay__source_ips=["127.0.0.77", "127.0.0.78", "::1"])
    seen = []
    for _ in range(6):
        client = wire.connect(daemon.port("smtp"))
        stream = backend.accept()
        seen.append(stream.peer[0])
        stream.close()
        client.expect_eof().close()
    assert set(seen) == {"127.0.0.77", "127.0.0.78"}, seen
    assert all(a != b for a, b in zip(seen, seen[1:])), f"not in turn: {seen}"


@test(quick=True)
def test_without_a_source_address_of_the_family_there_is_no_connection(t):
    backend = t.backend()
    daemon = to(t, backend.port, destination__relay__source_ips=["::1"])
    assert refused(daemon)["reason"] == "source_address"
    backend.nothing(0.1)


# --- time and retries -------------------------------------------------------------------------------


@test(quick=True)
def test_a_backend_that_starts_a_moment_later_is_reached_by_the_retry(t):
    port = t.port()
    daemon = to(t, port, server__backend_connect_retries=1)
    client = wire.connect(daemon.port("smtp"))
    time.sleep(0.1)
    t.backend(port=port).serve(wire.greeter())
    client.expect("220 relay\r\n").close()
    assert daemon.closing()["reason"] == "eof"
    assert failures(daemon) == 0


@test()
def test_retries_are_as_many_as_configured_and_200_ms_apart(t):
    misses = Misses(t)
    daemon = secured(t, misses.port, server__backend_connect_retries=3)
    began = time.monotonic()
    record = refused(daemon)
    took = time.monotonic() - began
    assert record["reason"] == "backend_handshake", record
    assert misses.count == 4, f"{misses.count} connections"
    assert 0.55 < took < t.scaled(2), f"three pauses of 200 ms took {took:.2f} s"
    assert failures(daemon) == 1, "all attempts of one client are one failure"


def full(t):
    """A listening port whose queue is full, so that a further SYN is not answered."""
    backend = t.backend(backlog=0)
    waiting = []
    for _ in range(16):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", backend.port))
        waiting.append(sock)
    time.sleep(0.1)
    probe = socket.socket()
    probe.settimeout(0.3)
    try:
        probe.connect(("127.0.0.1", backend.port))
    except (TimeoutError, socket.timeout):
        return backend, waiting
    finally:
        probe.close()
    raise Skip("this kernel answers beyond the backlog")


@test(quick=True)
def test_a_backend_that_never_answers_ends_the_dial_within_the_window(t):
    backend, waiting = full(t)
    daemon = to(t, backend.port, server__backend_timeout="1s", server__backend_connect_retries=5)
    began = time.monotonic()
    record = refused(daemon)
    took = time.monotonic() - began
    assert record["reason"] == "backend_timeout", record
    assert 0.9 < took < t.scaled(1.6), f"took {took:.2f} s"
    assert failures(daemon) == 1
    for sock in waiting:
        sock.close()


@test(quick=True)
def test_a_backend_that_hangs_in_the_handshake_ends_within_the_window(t):
    backend = t.backend()
    daemon = secured(t, backend.port, server__backend_timeout="1s", server__backend_connect_retries=5)
    began = time.monotonic()
    client = wire.connect(daemon.port("smtp"))
    stream = backend.accept()
    client.expect_eof()
    stream.rest()
    assert 0.9 < time.monotonic() - began < t.scaled(1.6)
    assert daemon.closing()["reason"] == "backend_timeout", daemon.closings()


# --- the circuit breaker ----------------------------------------------------------------------------


@test(quick=True)
def test_scenario_252_connect_failures_trip_the_breaker_alone(t):
    port = t.port()
    daemon = to(t, port, server__host_down_threshold=3, server__host_down_cooldown="60s")
    for i in range(3):
        assert down(daemon) == 0, f"down after {i} failures"
        assert refused(daemon, i + 1)["reason"] == "connect"
    daemon.wait("destination marked down", destination="relay")
    assert (failures(daemon), down(daemon)) == (3, 1)
    backend = t.backend(port=port)
    began = time.monotonic()
    assert refused(daemon, 4)["reason"] == "breaker_open"
    assert time.monotonic() - began < t.scaled(0.5)
    backend.nothing(0.1)
    assert failures(daemon) == 3, "a refusal by the breaker is no failure"
    assert dials(daemon, result="refused") == 1, daemon.metrics()


@test(quick=True)
def test_scenario_253_one_client_cannot_take_a_destination_down(t):
    misses = Misses(t)
    daemon = secured(t, misses.port, server__host_down_threshold=3)
    for i in range(10):
        assert refused(daemon, i + 1)["reason"] == "backend_handshake"
    assert (failures(daemon), down(daemon), misses.count) == (10, 0, 10)


@test(quick=True)
def test_scenario_254_two_clients_can(t):
    misses = Misses(t)
    daemon = secured(t, misses.port, server__host_down_threshold=3, server__host_down_cooldown="60s")
    for i, source in enumerate(("127.0.0.1", "127.0.0.1", "127.0.0.2")):
        assert down(daemon) == 0, f"down after {i} failures"
        refused(daemon, i + 1, source)
    daemon.wait("destination marked down", destination="relay")
    assert (failures(daemon), down(daemon)) == (3, 1)
    assert refused(daemon, 4, "127.0.0.3")["reason"] == "breaker_open"
    assert misses.count == 4, "three clients, and Postern's own trial"


@test(quick=True, limit=30)
def test_scenario_255_after_the_cooldown_a_trial_decides_for_which_one_client_waits(t):
    port = t.port()
    daemon = secured(t, port, server__host_down_threshold=2, server__host_down_cooldown="1s")
    for i in range(2):
        refused(daemon, i + 1)
    daemon.wait("destination marked down", destination="relay")
    backend = t.backend(port=port)

    # The trial fails: down again, and so is the client that waited for it.
    daemon.await_metric("postern_destination_down", 0, destination="relay")
    client = wire.connect(daemon.port("smtp"))
    stream = backend.accept()
    stream.recv()
    stream.finish()
    client.expect_eof()
    assert daemon.closing(3)["reason"] == "breaker_open"
    assert (failures(daemon), down(daemon)) == (2, 1)
    assert refused(daemon, 4)["reason"] == "breaker_open"
    backend.nothing(0.05)

    # Two at once: one waits for the trial, the other one is refused while it is on its way; success clears all.
    daemon.await_metric("postern_destination_down", 0, destination="relay")
    first = wire.connect(daemon.port("smtp"))
    stream = backend.accept()
    assert refused(daemon, 5)["reason"] == "breaker_open"
    context = t.pki.server(t.pki.leaf("backend.test", key=1))
    wire.TlsStream(stream, context, server_side=True).handshake().rest()
    backend.accept_tls(context).send("220 relay\r\n")
    first.expect("220 relay\r\n")
    assert (failures(daemon), down(daemon)) == (0, 0)
    daemon.wait("destination is up again", destination="relay")
    backend.nothing(0.05)


@test()
def test_a_trial_goes_on_when_the_client_that_waits_for_it_leaves(t):
    port = t.port()
    daemon = secured(t, port, server__host_down_threshold=1, server__host_down_cooldown="1s")
    refused(daemon)
    daemon.wait("destination marked down", destination="relay")
    backend = t.backend(port=port)
    daemon.await_metric("postern_destination_down", 0, destination="relay")
    client = wire.connect(daemon.port("smtp"))
    stream = backend.accept()
    client.reset()
    assert daemon.closing(2)["reason"] == "client_gone"
    assert failures(daemon) == 1, "a client that leaves says nothing about the backend"
    context = t.pki.server(t.pki.leaf("backend.test", key=1))
    assert wire.TlsStream(stream, context, server_side=True).handshake().rest() == b""
    daemon.wait("destination is up again", destination="relay")
    client = wire.connect(daemon.port("smtp"))
    backend.accept_tls(context).send("220 relay\r\n")
    client.expect("220 relay\r\n").close()


@test(quick=True)
def test_scenario_258_a_threshold_of_0_never_takes_a_destination_down(t):
    port = t.port()
    daemon = to(t, port, server__host_down_threshold=0)
    for i in range(8):
        assert refused(daemon, i + 1)["reason"] == "connect"
    assert down(daemon) == 0
    t.backend(port=port).serve(wire.greeter())
    served(daemon)
    assert daemon.closing(9)["reason"] == "eof"


@test(quick=True)
def test_scenario_259_a_success_in_between_starts_the_count_anew(t):
    port = t.port()
    daemon = to(t, port, server__host_down_threshold=3)
    refused(daemon, 1)
    refused(daemon, 2)
    assert failures(daemon) == 2
    backend = t.backend(port=port).serve(wire.greeter())
    served(daemon)
    daemon.closing(3)
    assert failures(daemon) == 0
    backend.close()
    refused(daemon, 4)
    refused(daemon, 5)
    assert (failures(daemon), down(daemon)) == (2, 0)


# --- loops ------------------------------------------------------------------------------------------


@test(quick=True)
def test_a_destination_that_is_this_process_is_a_loop_however_it_is_spelled(t):
    cases = {"literal": ("127.0.0.1", "127.0.0.1"), "wildcard": ("0.0.0.0", "127.0.0.1"),
             "another loopback of the wildcard": ("0.0.0.0", "127.0.0.9"), "by name": ("127.0.0.1", "localhost")}
    for name, (bind, host) in cases.items():
        port = t.port()
        daemon = to(t, port, listener__smtp__bind=[f"{bind}:{port}"], destination__relay__host=host)
        for i in range(2):
            record = refused(daemon, i + 1)
            assert record["reason"] == "loop", (name, record)
        assert failures(daemon) == 0, f"{name}: a loop is no failure of the destination"
        assert daemon.metric("postern_connections_total", listener="smtp") == 2, f"{name}: it went around"


@test(quick=True)
def test_a_used_up_forwarding_ttl_is_a_loop(t):
    backend = t.backend()
    for ttl in (0, 1):
        daemon = to(t, backend.port, server__proxy_ttl=ttl, destination__relay__forwarding="xclient")
        assert refused(daemon)["reason"] == "loop", ttl
        assert failures(daemon) == 0
    backend.nothing(0.1)


# --- legs and forwarding ----------------------------------------------------------------------------


@test(quick=True)
def test_scenario_138_xclient_sends_nothing_into_an_opaque_stream(t):
    backend = t.backend()
    daemon = to(t, backend.port, destination__relay__forwarding="xclient")
    client = wire.connect(daemon.port("smtp"))
    stream = backend.accept()
    stream.silent(0.2)
    client.send("first\r\n")
    stream.expect("first\r\n").send("answer\r\n")
    client.expect("answer\r\n")


@test(quick=True)
def test_scenario_133_each_listener_reaches_its_own_leg(t):
    smtp = t.backend().serve(wire.greeter(b"220 smtp\r\n"))
    lmtp = t.backend().serve(wire.greeter(b"220 lmtp\r\n"))
    daemon = t.postern(t.base(smtp, lmtp))
    for name in ("smtp", "lmtp"):
        wire.connect(daemon.port(name)).expect(f"220 {name}\r\n").close()
    daemon.closing(2)
    assert {(r["listener"], r["protocol"], r["backend"]) for r in daemon.closings()} == {
        ("smtp", "smtp", f"127.0.0.1:{smtp.port}"), ("lmtp", "lmtp", f"127.0.0.1:{lmtp.port}")}


@test(quick=True)
def test_a_leg_may_forward_otherwise_than_its_destination(t):
    for overall, smtp_leg, lmtp_leg in (("none", "proxy", None), ("proxy", None, "none")):
        smtp, lmtp = t.backend(), t.backend()
        conf = t.base(smtp, lmtp)
        conf["destination.relay.forwarding"] = overall
        for leg, value in (("smtp", smtp_leg), ("lmtp", lmtp_leg)):
            if value:
                conf[f"destination.relay.protocol.{leg}.forwarding"] = value
        daemon = t.postern(conf)
        client = wire.connect(daemon.port("smtp"))
        seen = wire.ProxySeen(smtp.accept())
        assert seen.source == client.local, seen.raw
        client = wire.connect(daemon.port("lmtp")).send("hello")
        lmtp.accept().expect("hello")


@test()
def test_a_hundred_dials_at_once_toward_a_dead_backend_all_end_and_leave_nothing(t):
    daemon = to(t, t.port(), server__host_down_threshold=0, server__backend_connect_retries=1)
    errors = []

    def one():
        try:
            wire.connect(daemon.port("smtp")).expect_eof().close()
        except AssertionError as e:
            errors.append(e)

    def burst(count):
        jobs = [threading.Thread(target=one) for _ in range(count)]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()

    burst(30)  # every worker has served
    daemon.closing(30)
    baseline = daemon.descriptors()
    burst(100)
    assert not errors, errors[:3]
    daemon.closing(130)
    assert {r["reason"] for r in daemon.closings()} == {"connect"}
    assert dials(daemon, result="connect") == 130
    daemon.await_descriptors(baseline)
