# SPDX-License-Identifier: GPL-3.0-or-later
"""Outbound PROXY headers, byte for byte (scenarios 163 to 165, forwarding.md 2)."""
import ipaddress
import struct
import threading

import wire
from harness import test

SIX = ("2001:db8::9", "2001:db8::1")


def header_of(client):
    """The version 2 header for a client's own socket addresses."""
    (src, sport), (dst, dport) = client.local, client.peer
    return wire.v2(src, dst, sport, dport)


def greet(backend, client):
    stream = backend.accept()
    seen = wire.ProxySeen(stream)
    stream.send("220 relay\r\n")
    client.expect("220 relay\r\n")
    return seen, stream


def with_tlvs(t, backend, *tlvs, tls=False, inbound=False):
    conf = t.base(backend, tls=tls)
    conf["destination.relay"].update(forwarding="proxy", proxy_tlvs=list(tlvs))
    if inbound:
        conf["listener.smtp"].update(proxy_protocol="required", proxy_trusted=["127.0.0.0/8"])
    return conf


@test(quick=True)
def test_scenario_163_version_2_is_the_default_and_byte_exact(t):
    backend = t.backend()
    conf = t.base(backend)
    del conf["destination.relay.forwarding"]
    daemon = t.postern(conf)
    client = wire.connect(daemon.port("smtp")).send("EHLO x\r\n")
    seen, stream = greet(backend, client)
    assert seen.raw == header_of(client), seen.raw.hex()
    stream.expect("EHLO x\r\n")


@test(quick=True)
def test_ipv6_on_both_sides_is_byte_exact(t):
    backend = t.backend()
    conf = t.base(backend)
    conf["destination.relay.forwarding"] = "proxy"
    conf["listener.smtp.bind"] = [f"[::1]:{t.port()}"]
    daemon = t.postern(conf)
    client = wire.connect(daemon.port("smtp"), "::1")
    seen, _ = greet(backend, client)
    (src, sport), (dst, dport) = client.local, client.peer
    want = wire.SIGNATURE + b"\x21\x21\x00\x24" + ipaddress.ip_address(src).packed + \
        ipaddress.ip_address(dst).packed + struct.pack("!HH", sport, dport)
    assert seen.raw == want, seen.raw.hex()


@test(quick=True)
def test_scenario_163_none_and_false_send_nothing_and_a_leg_wins_over_its_destination(t):
    cases = [
        ({"proxy_protocol": False}, {}, False),
        ({"forwarding": "none"}, {}, False),
        ({"proxy_protocol": False, "forwarding": "proxy"}, {}, True),
        ({"proxy_protocol": True, "forwarding": "none"}, {}, False),
        ({"forwarding": "none"}, {"forwarding": "proxy"}, True),
        ({"forwarding": "proxy"}, {"forwarding": "none"}, False),
        ({"forwarding": "proxy"}, {"forwarding": "xclient"}, False),
    ]
    for destination, leg, header in cases:
        backend = t.backend()
        conf = t.base(backend)
        del conf["destination.relay.forwarding"]
        conf["destination.relay"].update(destination)
        conf["destination.relay.protocol.smtp"].update(leg)
        daemon = t.postern(conf)
        client = wire.connect(daemon.port("smtp")).send("MARK")
        stream = backend.accept()
        stream.expect((header_of(client) if header else b"") + b"MARK")
        client.close()
        stream.close()
        daemon.stop()


@test(quick=True)
def test_the_header_goes_out_although_the_client_says_nothing(t):
    backend = t.backend()
    conf = t.base(backend)
    conf["destination.relay.forwarding"] = "proxy"
    daemon = t.postern(conf)
    client = wire.connect(daemon.port("smtp"))
    assert wire.ProxySeen(backend.accept()).raw == header_of(client)


@test(quick=True)
def test_scenario_164_the_header_comes_in_clear_before_backend_tls(t):
    backend, pair = t.backend(), t.pki.leaf("backend.test")
    conf = with_tlvs(t, backend)
    conf["destination.relay"].update(tls_server_name="backend.test", tls_pinned_cert_sha256=pair.sha256)
    conf["destination.relay.protocol.smtp.tls"] = "implicit"
    daemon = t.postern(conf)
    client = wire.connect(daemon.port("smtp")).send("EHLO x\r\n")
    stream = backend.accept()
    assert wire.ProxySeen(stream).raw == header_of(client)
    secure = wire.TlsStream(stream, t.pki.server(pair), server_side=True).handshake()
    secure.expect("EHLO x\r\n").send("250 ok\r\n")
    client.expect("250 ok\r\n")


@test(quick=True)
def test_scenario_165_mixed_families_are_unknown_or_both_ipv6_with_proxy_map_v4(t):
    mixed = [wire.v2("::ffff:203.0.113.9", SIX[1]), wire.v2(SIX[0], "::ffff:198.51.100.7")]
    wants = [("::ffff:203.0.113.9", SIX[1]), (SIX[0], "::ffff:198.51.100.7")]
    for mapped in (False, True):
        backend = t.backend()
        conf = with_tlvs(t, backend, inbound=True)
        if mapped:
            conf["destination.relay.proxy_map_v4"] = True
        daemon = t.postern(conf)
        for header, want in zip(mixed, wants):
            client = wire.connect(daemon.port("smtp")).send(header)
            seen, _ = greet(backend, client)
            assert seen.raw == (wire.v2(*want) if mapped else b"PROXY UNKNOWN\r\n"), seen.raw
        client = wire.connect(daemon.port("smtp")).send(wire.CLASSIC)  # one family: as ever
        assert greet(backend, client)[0].raw == wire.CLASSIC


@test(quick=True)
def test_tlvs_carry_the_facts_of_the_client_leg(t):
    backend = t.backend()
    daemon = t.postern(with_tlvs(t, backend, "ssl", "authority", "alpn", "unique_id", "crc32c", tls=True))
    client = wire.tls_connect(daemon.port("smtp"), t.pki.client(alpn=["smtp"]), "mail.example.com")
    seen, stream = greet(backend, client)
    assert seen.raw[:28] == header_of(client)[:14] + seen.raw[14:16] + header_of(client)[16:], seen.raw.hex()
    assert seen.tlv(wire.AUTHORITY) == b"mail.example.com"
    assert seen.tlv(wire.ALPN) == b"smtp"
    ssl = seen.tlv(wire.SSL)
    assert ssl[0] & 1, "bit PP2_CLIENT_SSL"
    assert ssl[0] & ~1 == 0, "no client certificate was presented"
    subs = dict(wire.ProxySeen.split(ssl[5:]))
    assert subs[0x21] == b"TLSv1.3", subs
    assert subs[0x23].replace(b"TLS13_", b"TLS_") == client.tls.cipher()[0].encode(), (subs, client.tls.cipher())
    assert subs[0x26] in (b"x25519", b"secp256r1", b"X25519MLKEM768"), subs
    assert subs[0x27] == b"ecdsa_secp256r1_sha256", subs
    assert seen.checksum_is_right(), "CRC32C"
    unique = seen.tlv(wire.UNIQUE_ID)
    client.close(), stream.close()
    session = daemon.closing()["session"]
    assert unique and unique.decode() == session, (unique, session)


@test(quick=True)
def test_tlvs_without_a_fact_are_left_out_and_the_checksum_stands_alone(t):
    backend = t.backend()
    daemon = t.postern(with_tlvs(t, backend, "ssl", "authority", "alpn", "crc32c"))
    client = wire.connect(daemon.port("smtp"))
    seen, _ = greet(backend, client)
    assert {k for k, _ in seen.tlvs} - {wire.SSL} == {wire.CRC32C}, seen.tlvs
    if seen.tlv(wire.SSL):
        assert seen.tlv(wire.SSL)[0] == 0, "the client leg is plain"
    assert seen.checksum_is_right()


@test()
def test_each_tlv_alone(t):
    kinds = {"ssl": wire.SSL, "authority": wire.AUTHORITY, "alpn": wire.ALPN, "unique_id": wire.UNIQUE_ID,
             "crc32c": wire.CRC32C}
    for name, kind in kinds.items():
        backend = t.backend()
        daemon = t.postern(with_tlvs(t, backend, name, tls=True))
        client = wire.tls_connect(daemon.port("smtp"), t.pki.client(alpn=["smtp"]), "mail.example.com")
        seen, _ = greet(backend, client)
        assert [k for k, _ in seen.tlvs] == [kind], (name, seen.tlvs)
        assert kind != wire.CRC32C or seen.checksum_is_right()


@test()
def test_a_checksum_covers_an_ipv6_header_behind_backend_tls_as_well(t):
    backend, pair = t.backend(), t.pki.leaf("backend.test")
    conf = with_tlvs(t, backend, "crc32c", inbound=True)
    conf["destination.relay"].update(tls_server_name="backend.test")
    conf["destination.relay.protocol.smtp.tls"] = "implicit"
    daemon = t.postern(conf)
    wire.connect(daemon.port("smtp")).send(wire.v2(*SIX))
    stream = backend.accept()
    seen = wire.ProxySeen(stream)
    assert seen.checksum_is_right() and seen.source[0] == SIX[0]
    wire.TlsStream(stream, t.pki.server(pair), server_side=True).handshake()


@test()
def test_concurrent_sessions_each_carry_their_own_addresses(t):
    backend = t.backend()
    daemon = t.postern(with_tlvs(t, backend, inbound=True))
    seen, lock = set(), threading.Lock()

    def handle(stream):
        header = wire.ProxySeen(stream)
        mine = stream.line()
        assert mine == f"{header.source[0]}:{header.source[1]}", (mine, header.source)
        with lock:
            seen.add(mine)
        stream.send(mine + "\r\n")
        stream.recv()

    backend.serve(handle)
    clients = []
    for i in range(200):
        source, port = f"198.18.{i // 250}.{i % 250 + 1}", 1000 + i
        client = wire.connect(daemon.port("smtp")).send(wire.v1(source, source_port=port))
        client.send(f"{source}:{port}\r\n")
        clients.append((client, f"{source}:{port}"))
    for client, mine in clients:
        assert client.line() == mine
    assert len(seen) == 200
