# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS toward clients at the level of bytes and time: deadlines, noise, odd hellos, ALPN, ends, renegotiation
(scenarios 231 and 232)."""
import socket
import ssl
import subprocess
import threading
import time

import wire
from harness import test
from test_tls_client import NAME, TLS12, TLS13, front, negotiated, s_client


def hello(t):
    """A ClientHello as bytes."""
    stream = wire.TlsStream(wire.Stream(socket.socketpair()[0]), t.pki.client(), server_name=NAME)
    try:
        stream.tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return stream.outgoing.read()


@test(quick=True, limit=30)
def test_scenario_231_a_handshake_has_its_own_deadline(t):
    daemon = front(t, ("main", t.pki.leaf(NAME)), server__tls={"timeout": "1s"})
    whole = hello(t)
    for part in (b"", whole[:40], whole[:3], whole):
        began = time.monotonic()
        client = wire.connect(daemon.port("smtp"))
        client.send(part)
        while client.recv(timeout=t.scaled(4)):
            pass  # the server's own flight, or an alert
        assert 0.8 <= time.monotonic() - began < t.scaled(2.5), f"after {time.monotonic() - began:.2f} s"
    daemon.closing(4)
    assert {r["reason"] for r in daemon.closings()} == {"tls_timeout"}, daemon.closings()
    assert daemon.metric("postern_connections_rejected_total", reason="timeout") == 4
    assert daemon.metric("postern_tls_handshakes_total", side="client", result="timeout") == 4


@test(limit=30)
def test_preauth_timeout_bounds_the_handshake_as_well(t):
    daemon = front(t, ("main", t.pki.leaf(NAME)), listener__smtp__preauth_timeout="1s")
    began = time.monotonic()
    wire.connect(daemon.port("smtp")).expect_eof(t.scaled(4))
    assert 0.8 <= time.monotonic() - began < t.scaled(2.5)


@test(quick=True)
def test_scenario_232_plain_text_and_noise_on_a_tls_port(t):
    daemon = front(t, ("main", t.pki.leaf(NAME)))
    for noise in (b"a NOOP\r\n", b"EHLO x\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", bytes(range(256)),
                  b"\x16\x03\x01\xff\xff" + b"\x01" * 100, b"\x80\x2e\x01\x00\x02" + b"\0" * 43, b"\x15\x03\x01\0\x02\x01\0",
                  b"\x16\x03\x01\x00\x00" * 100, b"\x17\x03\x03\x00\x05hello"):
        client = wire.connect(daemon.port("smtp")).send(noise)
        got = b""
        try:
            while data := client.recv(timeout=t.scaled(5)):
                got += data
        except wire.Reset:
            pass
        except wire.Silence as e:
            raise AssertionError(f"{noise[:20]!r} hangs") from e
        assert not got or got[0] == 0x15, f"{noise[:20]!r} was answered with {got[:40]!r}"
        assert b"220" not in got
    assert negotiated(s_client(daemon.port("smtp"))), "the process keeps serving"
    daemon.closing(10)
    assert {r["reason"] for r in daemon.closings()[:9]} == {"tls"}, daemon.closings()
    assert daemon.metric("postern_connections_rejected_total", reason="tls") == 9


@test(quick=True)
def test_a_hello_in_single_bytes_and_in_many_records_is_served(t):
    daemon = front(t, ("main", t.pki.leaf(NAME)))
    for split_records in (False, True):
        plain = wire.connect(daemon.port("smtp"))
        stream = wire.TlsStream(plain, t.pki.client(), server_name=NAME)
        try:
            stream.tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        data = stream.outgoing.read()
        if split_records:
            body = data[5:]
            data = b"".join(b"\x16\x03\x01" + len(body[i:i + 50]).to_bytes(2, "big") + body[i:i + 50]
                            for i in range(0, len(body), 50))
            plain.send(data)
        else:
            for byte in data:
                plain.send(bytes([byte]))
        stream.handshake().expect("220 relay\r\n")


def extensions(record):
    """(type, begin, end) of each extension of a ClientHello that came in one record."""
    at = 5 + 4 + 2 + 32
    at += 1 + record[at]  # session id
    at += 2 + int.from_bytes(record[at:at + 2], "big")  # suites
    at += 1 + record[at]  # compression
    last = at + 2 + int.from_bytes(record[at:at + 2], "big")
    at += 2
    while at < last:
        kind, size = (int.from_bytes(record[i:i + 2], "big") for i in (at, at + 2))
        yield kind, at + 4, at + 4 + size
        at += 4 + size


HYBRID = b"\x11\xec"  # X25519MLKEM768
RETRY = bytes.fromhex("CF21AD74E59A6111BE1D8C021E65B891C2A211167ABB8C5E079E09E2C8A8339C")  # HelloRetryRequest's random


@test(quick=True)
def test_the_hybrid_group_is_agreed_with_a_client_that_knows_nothing_else(t):
    """openssl(1) of Debian 12 cannot do it, so the hello is edited: the hybrid is the only group and comes
    without a share. A server that can do it asks for one."""
    daemon = front(t, ("ec", t.pki.leaf(NAME)))
    if b"X25519MLKEM768" in subprocess.run(["openssl", "list", "-kem-algorithms"], capture_output=True, check=False).stdout:
        out = s_client(daemon.port("smtp"), "-groups", "X25519MLKEM768")
        assert negotiated(out) and "X25519MLKEM768" in out, out[-800:]
    data = bytearray(hello(t))
    for kind, at, end in extensions(data):
        if kind == 10:  # supported_groups: the hybrid, and what no server knows
            data[at + 2:end] = HYBRID + b"\xfa\xfa" * ((end - at - 2) // 2 - 1)
        elif kind == 51:  # key_share: whatever was sent is for groups that no server knows
            entry, unknown = at + 2, 0xFAFA
            while entry < end:
                data[entry:entry + 2] = unknown.to_bytes(2, "big")
                entry, unknown = entry + 4 + int.from_bytes(data[entry + 2:entry + 4], "big"), unknown - 0x1010
    answer = wire.connect(daemon.port("smtp")).send(bytes(data)).recv()
    assert answer[0] == 0x16 and answer[11:43] == RETRY, answer[:60].hex()
    assert b"\x00\x33\x00\x02" + HYBRID in answer, answer.hex()


@test(quick=True)
def test_alpn_is_strict(t):
    daemon = front(t, ("main", t.pki.leaf(NAME)))
    for offer, chosen in ((["smtp"], "smtp"), (["h2", "smtp"], "smtp"), (None, None)):
        stream = wire.tls_connect(daemon.port("smtp"), t.pki.client(alpn=offer), NAME)
        assert stream.tls.selected_alpn_protocol() == chosen
        stream.expect("220 relay\r\n")
    for offer in (["h2"], ["http/1.1", "imap"]):
        for version in (TLS12, TLS13):
            try:
                wire.tls_connect(daemon.port("smtp"), t.pki.client(alpn=offer, maximum=version), NAME).line()
            except ssl.SSLError as e:
                assert "NO_APPLICATION_PROTOCOL" in str(e).upper().replace(" ", "_"), e
            else:
                raise AssertionError(f"{offer} was served")
    assert daemon.metric("postern_tls_handshakes_total", side="client", result="alpn") == 4


@test(quick=True)
def test_odd_server_names_are_served_as_unknown_and_cannot_forge_a_record(t):
    pair = t.pki.leaf(NAME)
    daemon = front(t, ("main", pair), ("other", t.pki.leaf("other.test", key=1)))
    plain = hello(t)
    evil = b'a"\n level=x b.te'  # as long as mail.example.com
    assert len(evil) == len(NAME)
    for name in (evil, b"mail\x00example.com", b"\xff" * len(NAME), b" " * len(NAME)):
        client = wire.connect(daemon.port("smtp")).send(plain.replace(NAME.encode(), name))
        try:
            client.recv(timeout=t.scaled(3))
        except wire.Reset:
            pass
        client.close()
    daemon.closing(4)
    assert len(daemon.closings()) == 4 and all(r.get("level") == "info" for r in daemon.closings())
    assert all("sni" not in r or "\n" not in r["sni"] for r in daemon.closings()), daemon.closings()


@test(quick=True)
def test_close_notify_comes_at_an_orderly_end_and_the_clients_is_understood(t):
    backend = t.backend()
    conf = t.base(backend, tls=True)
    daemon = t.postern(conf)
    for version in (TLS12, TLS13):
        client = wire.tls_connect(daemon.port("smtp"), t.pki.client(maximum=version), NAME)
        stream = backend.accept()
        stream.send("bye").close()
        client.expect("bye").expect_notified_eof()
        client = wire.tls_connect(daemon.port("smtp"), t.pki.client(maximum=version), NAME)
        stream = backend.accept()
        client.send("question").finish()
        stream.expect("question").expect_eof()
        stream.send("answer").close()
        client.expect("answer").expect_notified_eof()


@test(quick=True)
def test_a_bare_fin_without_close_notify_still_ends_the_session(t):
    backend = t.backend()
    daemon = t.postern(t.base(backend, tls=True))
    client = wire.tls_connect(daemon.port("smtp"), t.pki.client(), NAME).send("cut")
    stream = backend.accept().expect("cut")
    client.sock.shutdown(socket.SHUT_WR)
    stream.expect_gone()
    stream.close()
    daemon.closing()


@test(quick=True)
def test_a_client_that_just_closes_after_the_last_word_is_no_error(t):
    backend = t.backend()
    daemon = t.postern(t.base(backend, tls=True))
    client = wire.tls_connect(daemon.port("smtp"), t.pki.client(), NAME).send("QUIT\r\n")
    stream = backend.accept().expect("QUIT\r\n").send("221 bye\r\n")
    client.expect("221 bye\r\n")
    client.close()
    stream.expect_eof()
    stream.close()
    assert daemon.closing()["reason"] == "eof", daemon.closing()


@test(quick=True)
def test_the_closing_record_has_the_facts_of_the_handshake(t):
    backend = t.backend()
    daemon = t.postern(t.base(backend, tls=True))
    context = t.pki.client(alpn=["smtp"])
    client = wire.tls_connect(daemon.port("smtp"), context, "MAIL.example.com")
    backend.accept().close()
    client.expect_eof()
    client.close()
    record = daemon.closing()
    assert record["tls"] == "TLSv1.3" and record["sni"] == NAME and record["alpn"] == "smtp", record
    assert record["tls_suite"].endswith("GCM_SHA384") and record["certificate"] == "main", record
    assert record["tls_group"] in ("X25519", "SECP256R1", "X25519MLKEM768"), record
    assert daemon.metric("postern_tls_handshakes_total", side="client", version="1.3", result="ok") == 1


@test(quick=True)
def test_renegotiation_by_the_client_is_refused(t):
    backend = t.backend().serve(wire.greeter())
    daemon = t.postern(t.base(backend, tls=True))
    process = subprocess.Popen(["openssl", "s_client", "-connect", f"127.0.0.1:{daemon.port('smtp')}", "-tls1_2",
                                "-servername", NAME], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT)
    time.sleep(0.7)
    process.stdin.write(b"R\n")
    process.stdin.flush()
    time.sleep(0.7)
    try:
        process.stdin.close()
    except BrokenPipeError:
        pass
    watchdog = threading.Timer(10, process.kill)
    watchdog.start()
    out = process.stdout.read().decode(errors="replace")
    process.wait()
    watchdog.cancel()
    assert "RENEGOTIATING" in out, "the client did not try"
    after = out.split("RENEGOTIATING", 1)[1]
    assert "verify return" not in after and "BEGIN CERTIFICATE" not in after, "a second handshake took place"
    assert negotiated(s_client(daemon.port("smtp"))), "the process keeps serving"
