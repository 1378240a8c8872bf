# SPDX-License-Identifier: GPL-3.0-or-later
"""The opaque stream: every byte, both ends, half-closes, resets and counts (scenarios 132 to 138, 261, 263)."""
import threading
import time

import wire
from harness import test

ALL = bytes(range(256))


def pair(t, client_tls=False, backend_tls=False, conf=None, **more):
    """A bridged session: (daemon, client's stream, backend's stream)."""
    backend = t.backend()
    conf = t.base(backend, tls=client_tls) if conf is None else conf(backend)
    if backend_tls:
        conf["destination.relay.tls_server_name"] = "backend.test"
        conf["destination.relay.protocol.smtp.tls"] = "implicit"
        server = t.pki.server(t.pki.leaf("backend.test", key=1))
    daemon = t.postern(conf, **more)
    accepted = []
    if backend_tls:
        thread = threading.Thread(target=lambda: accepted.append(backend.accept_tls(server)))
        thread.start()
    if client_tls:
        client = wire.tls_connect(daemon.port("smtp"), t.pki.client(), "mail.example.com")
    else:
        client = wire.connect(daemon.port("smtp"))
    if backend_tls:
        thread.join(wire.PATIENCE)
    else:
        accepted.append(backend.accept())
    return daemon, client, accepted[0]


LEGS = [(False, False), (True, False), (False, True), (True, True)]


@test(quick=True)
def test_scenario_132_everything_is_relayed(t):
    _, client, backend = pair(t)
    backend.send("220 relay\r\n")
    client.expect("220 relay\r\n").send("EHLO x\r\n")
    backend.expect("EHLO x\r\n")
    client.send("STARTTLS\r\n")
    backend.expect("STARTTLS\r\n").send("502 no\r\n")
    client.expect("502 no\r\n").silent(0.2)
    backend.silent(0.1)


@test(quick=True, limit=30)
def test_all_256_byte_values_pass_both_ways_alone_and_together_over_every_kind_of_leg(t):
    for client_tls, backend_tls in LEGS:
        _, client, backend = pair(t, client_tls, backend_tls)
        for sender, receiver in ((client, backend), (backend, client)):
            sender.send(ALL * 40)
            receiver.expect(ALL * 40)
            for value in ALL:
                sender.send(bytes([value]))
                receiver.expect(bytes([value]))
        client.close(), backend.close()


@test(quick=True)
def test_scenario_133_smtp_and_lmtp_listeners_have_their_own_legs(t):
    smtp, lmtp = t.backend(), t.backend()
    daemon = t.postern(t.base(smtp, lmtp))
    for listener, mine, other in (("smtp", smtp, lmtp), ("lmtp", lmtp, smtp)):
        client = wire.connect(daemon.port(listener))
        mine.accept().send(f"220 {listener}\r\n")
        client.expect(f"220 {listener}\r\n")
        other.nothing(0.1)


@test(quick=True)
def test_scenario_134_implicit_tls_on_the_client_side(t):
    _, client, backend = pair(t, client_tls=True)
    backend.send("220 relay\r\n")
    client.expect("220 relay\r\n")


@test(quick=True, limit=30)
def test_scenario_135_half_close_by_the_client_lets_300000_bytes_come_back(t):
    for legs in LEGS:
        daemon, client, backend = pair(t, *legs)
        client.send("data").finish()
        backend.expect("data").expect_eof()
        time.sleep(0.5)
        answer = bytes(i * 7 & 255 for i in range(300_000))
        backend.send(answer)
        backend.finish() if legs[1] else None
        backend.close()
        client.expect(answer).expect_eof()
        if legs[0]:
            assert not client.ragged, "the client's TLS stream ended without close_notify"
        assert daemon.closing()["reason"] == "eof"
        client.close()


@test(quick=True, limit=30)
def test_scenario_136_half_close_by_the_backend_lets_200000_bytes_go_on(t):
    for legs in LEGS:
        daemon, client, backend = pair(t, *legs)
        backend.send("bye").finish()
        client.expect("bye").expect_eof()
        if legs[0]:
            assert not client.ragged, "the end was passed on without close_notify"
        time.sleep(0.3)
        data = bytes(i * 11 & 255 for i in range(200_000))
        client.send(data).finish()
        client.close()
        backend.expect(data).expect_eof()
        if legs[1]:
            assert not backend.ragged, "the end was passed on without close_notify"
        assert daemon.closing()["reason"] == "eof"
        backend.close()


@test(quick=True)
def test_scenario_137_a_backend_that_is_down_gives_the_end_without_a_byte(t):
    daemon = t.postern(t.base(t.port()))
    wire.connect(daemon.port("smtp")).expect_eof()
    record = daemon.closing()
    assert record["msg"] == "connection closed" and record["reason"] == "connect", record
    assert daemon.wait("backend unavailable")["level"] == "warn"
    wire.connect(daemon.port("smtp")).send("EHLO early\r\n").expect_gone()


@test(quick=True)
def test_scenario_138_xclient_forwarding_sends_nothing_on_a_pass_through_leg(t):
    def conf(backend):
        c = t.base(backend)
        c["destination.relay.forwarding"] = "xclient"
        return c

    _, client, backend = pair(t, conf=conf)
    client.send("first\r\n")
    backend.expect("first\r\n").send("220 b\r\n")
    client.expect("220 b\r\n")


@test()
def test_xclient_forwarding_with_a_ttl_of_one_is_refused_as_a_loop(t):
    backend = t.backend()
    conf = t.base(backend)
    conf["destination.relay.forwarding"] = "xclient"
    conf["server.proxy_ttl"] = 1
    daemon = t.postern(conf)
    wire.connect(daemon.port("smtp")).expect_eof()
    backend.nothing(0.2)
    assert daemon.closing()["reason"] == "loop"
    assert daemon.metric("postern_destination_consecutive_failures", destination="relay") == 0


@test(quick=True)
def test_scenario_263_the_closing_record_counts_the_bytes_of_each_direction(t):
    for legs in LEGS:
        daemon, client, backend = pair(t, *legs)
        client.send("x" * 10)
        backend.exactly(10)
        backend.send("y" * 7)
        client.exactly(7)
        client.send("z" * 20)
        backend.exactly(20)
        backend.send("w" * 5)
        client.exactly(5)
        client.finish()
        backend.expect_eof().finish()
        client.expect_eof()
        client.close(), backend.close()
        record = daemon.closing()
        assert record["msg"] == "session closed", record
        facts = {k: record.get(k) for k in ("listener", "protocol", "destination", "bytes_to_backend",
                                            "bytes_to_client", "reason")}
        assert facts == {"listener": "smtp", "protocol": "smtp", "destination": "relay", "bytes_to_backend": "30",
                         "bytes_to_client": "12", "reason": "eof"}, record
        assert 0 <= float(record["secs"]) < 60 and record["session"].startswith("P"), record
        for direction, bytes_ in (("to_backend", 30), ("to_client", 12)):
            assert daemon.metric("postern_relayed_bytes_total", protocol="smtp", direction=direction) == bytes_


@test(quick=True)
def test_bytes_sent_before_the_backend_is_connected_are_kept(t):
    conf = t.base(t.port())
    port = conf["destination.relay.protocol.smtp.port"]
    conf["destination.relay"].update(tls_server_name="backend.test")
    conf["destination.relay.protocol.smtp.tls"] = "implicit"
    backend = t.backend(port=port)
    daemon = t.postern(conf)
    early = ALL * 200
    client = wire.connect(daemon.port("smtp")).send(early)
    stream = backend.accept()
    time.sleep(0.3)  # the client's bytes have long arrived when the backend's handshake begins
    secure = wire.TlsStream(stream, t.pki.server(t.pki.leaf("backend.test")), server_side=True).handshake()
    secure.expect(early)
    secure.send("220 late\r\n")
    client.expect("220 late\r\n")


@test(quick=True)
def test_data_and_end_sent_at_once_both_reach_the_backend_and_its_answer_comes_back(t):
    backend = t.backend()
    daemon = t.postern(t.base(backend))
    client = wire.connect(daemon.port("smtp")).send("QUIT\r\n").finish()
    stream = backend.accept()
    stream.expect("QUIT\r\n").expect_eof().send("221 bye\r\n").close()
    client.expect("221 bye\r\n").expect_eof()
    assert daemon.closing()["reason"] == "eof"


@test(quick=True)
def test_a_backend_that_writes_and_closes_delivers_every_byte_first(t):
    for legs in LEGS:
        daemon, client, backend = pair(t, *legs)
        data = ALL * 20_000  # more than any socket buffer here
        writer = threading.Thread(target=lambda: (backend.send(data), backend.finish() if legs[1] else None,
                                                  backend.close()))
        writer.start()
        time.sleep(0.3)
        client.expect(data).expect_eof()
        writer.join()
        client.close()
        daemon.closing()


@test(quick=True)
def test_a_reset_from_either_side_ends_both_at_once(t):
    for legs in LEGS:
        for by_client in (True, False):
            daemon, client, backend = pair(t, *legs)
            client.send("hello")
            backend.expect("hello")
            one, other = (client, backend) if by_client else (backend, client)
            began = time.monotonic()
            one.reset()
            other.expect_gone(2)
            assert time.monotonic() - began < t.scaled(1), "the other side was told late"
            record = daemon.closing()
            assert record["reason"] == "error" and record["msg"] == "session closed", record
            other.close()


@test(quick=True)
def test_a_reset_reaches_the_other_side_even_while_it_is_being_flooded(t):
    daemon, client, backend = pair(t)
    stop = threading.Event()

    def flood():
        try:
            while not stop.is_set():
                backend.send(b"f" * 65536)
        except wire.Reset:
            stop.set()

    thread = threading.Thread(target=flood)
    thread.start()
    client.exactly(1_000_000)
    client.reset()
    thread.join(wire.PATIENCE)
    assert stop.is_set() and not thread.is_alive(), "the backend was never told"
    assert daemon.closing()["reason"] == "error"


def idle_conf(t, seconds):
    def conf(backend):
        c = t.base(backend)
        c["server.bridge_idle"] = f"{seconds}s"
        return c

    return conf


@test(limit=30)
def test_scenario_261_an_idle_bridge_ends_on_both_sides_and_a_byte_restarts_the_time(t):
    daemon, client, backend = pair(t, conf=idle_conf(t, 2))
    began = time.monotonic()
    for speaker, listener in ((client, backend), (backend, client)):
        time.sleep(1.2)
        speaker.send("x")
        listener.expect("x")
    touched = time.monotonic()
    client.expect_eof(4)
    backend.expect_eof(1)
    quiet, whole = time.monotonic() - touched, time.monotonic() - began
    assert 1.9 <= quiet < t.scaled(3.2), f"ended after {quiet:.2f} s of silence"
    assert whole > 4, "a byte did not restart the time"
    record = daemon.closing()
    assert record["reason"] == "idle" and record["bytes_to_backend"] == record["bytes_to_client"] == "1", record
    assert daemon.metric("postern_sessions_total", reason="idle") == 1


@test(limit=30)
def test_a_stalled_half_closed_session_still_ends_by_the_idle_limit(t):
    daemon, client, backend = pair(t, conf=idle_conf(t, 1))
    client.finish()
    backend.expect_eof()
    client.expect_eof(4)
    assert daemon.closing()["reason"] == "idle"


@test(limit=30)
def test_a_one_way_stream_is_not_idle(t):
    daemon, client, backend = pair(t, conf=idle_conf(t, 1))
    for _ in range(12):
        backend.send("tick\r\n")
        client.expect("tick\r\n")
        time.sleep(0.25)
    assert not daemon.closings()
