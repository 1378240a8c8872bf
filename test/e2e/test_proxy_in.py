# SPDX-License-Identifier: GPL-3.0-or-later
"""Inbound PROXY headers (scenarios 139 to 162), on an opaque listener: what was adopted is what the header
toward the backend and the closing record say."""
import time

import wire
from harness import test

SOURCE, DESTINATION = ("203.0.113.9", 40123), ("198.51.100.7", 993)


def section_j(t, backend, mode="required", trusted=("127.0.0.0/8",), tls=False):
    conf = t.base(backend, tls=tls)
    conf["listener.smtp"].update(proxy_protocol=mode, proxy_trusted=list(trusted))
    conf["destination.relay.forwarding"] = "proxy"
    return conf


def talk(backend, client):
    """The header the backend gets, after greeting the client through."""
    stream = backend.accept()
    seen = wire.ProxySeen(stream)
    stream.send("220 relay\r\n")
    client.expect("220 relay\r\n")
    return seen, stream


def adopted(seen, source=SOURCE, destination=DESTINATION):
    assert (seen.source, seen.destination) == (source, destination), (seen.source, seen.destination)


def real(seen, client):
    assert (seen.source, seen.destination) == (client.local, client.peer), (seen.source, seen.destination)


@test(quick=True)
def test_scenario_139_version_1_is_adopted(t):
    backend = t.backend()
    daemon = t.postern(section_j(t, backend))
    client = wire.connect(daemon.port("smtp")).send(wire.v1())
    seen, stream = talk(backend, client)
    adopted(seen)
    client.close(), stream.close()
    record = daemon.closing()
    assert record["peer"] in ("203.0.113.9", "203.0.113.9:40123"), record


@test(quick=True)
def test_scenarios_140_and_141_version_2_is_adopted_and_passed_on_byte_for_byte(t):
    backend = t.backend()
    daemon = t.postern(section_j(t, backend))
    six = wire.SIGNATURE + bytes.fromhex("2121002420010DB800000000000000000000000920010DB8000000000000000000000001"
                                         "04D203E1")
    for header in (wire.CLASSIC, six):
        client = wire.connect(daemon.port("smtp")).send(header)
        seen, _ = talk(backend, client)
        assert seen.raw == header, seen.raw.hex()


@test(quick=True)
def test_scenario_142_mapped_addresses_become_ipv4(t):
    backend = t.backend()
    daemon = t.postern(section_j(t, backend))
    client = wire.connect(daemon.port("smtp")).send(wire.v2("::ffff:203.0.113.9", "::ffff:198.51.100.7"))
    seen, _ = talk(backend, client)
    assert seen.raw == wire.CLASSIC, seen.raw.hex()


@test(quick=True)
def test_scenario_143_local_unknown_unspecified_and_unix_keep_the_socket_addresses(t):
    backend = t.backend()
    daemon = t.postern(section_j(t, backend))
    for name, header in {
            "LOCAL with addresses": wire.v2(command=0),
            "LOCAL without": wire.v2(command=0, family=0, block=b""),
            "LOCAL with TLVs": wire.v2(command=0, tlvs=wire.tlv(wire.NOOP, b"pad")),
            "UNKNOWN": b"PROXY UNKNOWN\r\n",
            "UNKNOWN with text": b"PROXY UNKNOWN ffff:: ffff:: 1 2 and more\r\n",
            "unspecified": wire.v2(family=0, block=b""),
            "unspecified with bytes": wire.v2(family=0, block=b"\x04\x00\x03abc"),
            "unix": wire.v2(family=0x31, block=b"/run/a".ljust(108, b"\0") + b"/run/b".ljust(108, b"\0")),
            "unix datagram": wire.v2(family=0x32, block=b"\0" * 216),
    }.items():
        client = wire.connect(daemon.port("smtp")).send(header)
        try:
            seen, _ = talk(backend, client)
            real(seen, client)
        except AssertionError as e:
            raise AssertionError(f"{name}: {e}") from e


@test()
def test_datagram_families_are_adopted_like_streams(t):
    backend = t.backend()
    daemon = t.postern(section_j(t, backend))
    client = wire.connect(daemon.port("smtp")).send(wire.v2(family=0x12))
    adopted(talk(backend, client)[0])
    client = wire.connect(daemon.port("smtp")).send(wire.v2("2001:db8::9", "2001:db8::1", family=0x22))
    adopted(talk(backend, client)[0], ("2001:db8::9", 40123), ("2001:db8::1", 993))


@test(quick=True)
def test_scenario_144_two_thousand_bytes_of_tlvs_are_skipped(t):
    backend = t.backend()
    daemon = t.postern(section_j(t, backend))
    tlvs = wire.tlv(wire.AUTHORITY, b"mail.example.com") + wire.tlv(wire.NOOP, b"\0" * 900)
    tlvs += wire.tlv(0xE7, b"p" * (2000 - len(tlvs) - 3))
    assert len(tlvs) == 2000
    client = wire.connect(daemon.port("smtp")).send(wire.v2(tlvs=tlvs))
    seen, _ = talk(backend, client)
    adopted(seen)
    assert seen.raw == wire.CLASSIC, "inbound TLVs went out again"
    client = wire.connect(daemon.port("smtp")).send(wire.v2(tlvs=wire.tlv(0xE7, b"q" * (4096 - 28 - 3))))
    adopted(talk(backend, client)[0])  # 4 096 bytes: the largest header there is


@test(quick=True, limit=30)
def test_scenario_145_headers_in_single_bytes_and_at_every_split(t):
    backend = t.backend()
    daemon = t.postern(section_j(t, backend))
    for header in (wire.v1(), wire.v2(tlvs=wire.tlv(wire.NOOP, b"abc"), checksum=True)):
        client = wire.connect(daemon.port("smtp"))
        for byte in header + b"X":
            client.send(bytes([byte]))
            time.sleep(0.001)
        seen, stream = talk(backend, client)
        adopted(seen)
        stream.expect("X")
        for cut in range(1, len(header)):
            client = wire.connect(daemon.port("smtp")).send(header[:cut])
            time.sleep(0.003)
            client.send(header[cut:])
            seen, stream = talk(backend, client)
            adopted(seen)
            client.close(), stream.close()


@test(quick=True)
def test_scenario_146_bytes_glued_to_the_header_belong_to_the_stream(t):
    backend = t.backend()
    daemon = t.postern(section_j(t, backend))
    tail = b"EHLO x\r\n" + bytes(range(256)) * 300
    for header in (wire.v1(), wire.v2(), wire.v2(checksum=True)):
        client = wire.connect(daemon.port("smtp")).send(header + tail)
        seen, stream = talk(backend, client)
        adopted(seen)
        stream.expect(tail)


@test(quick=True)
def test_a_second_header_is_payload(t):
    backend = t.backend()
    daemon = t.postern(section_j(t, backend))
    client = wire.connect(daemon.port("smtp")).send(wire.v2() + wire.v1("192.0.2.1"))
    seen, stream = talk(backend, client)
    adopted(seen)
    stream.expect(wire.v1("192.0.2.1"))


@test(quick=True)
def test_scenario_147_the_header_comes_before_implicit_tls_also_glued_to_the_hello(t):
    backend = t.backend()
    daemon = t.postern(section_j(t, backend, tls=True))
    for header in (wire.v1(), wire.v2()):
        client = wire.tls_connect(daemon.port("smtp"), t.pki.client(), "mail.example.com", before=header)
        adopted(talk(backend, client)[0])
    plain = wire.connect(daemon.port("smtp"))
    glued = wire.TlsStream(plain, t.pki.client(), server_name="mail.example.com")
    try:
        glued.tls.do_handshake()
    except wire.ssl.SSLWantReadError:
        pass
    plain.send(wire.v2() + glued.outgoing.read())
    adopted(talk(backend, glued.handshake())[0])


@test(quick=True)
def test_scenarios_148_and_149_required_without_a_header_or_from_a_stranger_is_closed_silently(t):
    backend = t.backend()
    daemon = t.postern(section_j(t, backend))
    for first in (b"EHLO x\r\n", b"\r\n\r\nQ", b"\x16\x03\x01", b"proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n"):
        wire.connect(daemon.port("smtp")).send(first).expect_gone()
    backend.nothing(0.1)
    stranger = t.postern(section_j(t, backend, trusted=["10.0.0.0/8", "::/0"]))
    began = time.monotonic()
    client = wire.connect(stranger.port("smtp"))
    client.expect_eof()
    assert time.monotonic() - began < t.scaled(1), "a stranger is closed at once"
    wire.connect(stranger.port("smtp")).send(wire.CLASSIC).expect_gone()
    backend.nothing(0.1)
    for d, count in ((daemon, 4), (stranger, 2)):
        d.closing(count)
        assert {(r["msg"], r["reason"]) for r in d.closings()} == {("connection closed", "proxy_header")}, d.closings()
        assert d.metric("postern_connections_rejected_total", listener="smtp", reason="proxy_header") == count
        assert {r["peer"].rsplit(":", 1)[0] for r in d.closings()} == {"127.0.0.1"}


@test(quick=True)
def test_scenario_150_required_and_silent_is_closed_by_the_deadline(t):
    backend = t.backend()
    conf = section_j(t, backend)
    conf["listener.smtp.preauth_timeout"] = "1s"
    daemon = t.postern(conf)
    for part in (b"", b"PROXY TCP4 203.0", wire.v2()[:20], wire.SIGNATURE[:5]):
        began = time.monotonic()
        client = wire.connect(daemon.port("smtp"))
        if part:
            client.send(part)
        client.expect_eof(t.scaled(3))
        assert 0.8 <= time.monotonic() - began < t.scaled(2), f"after {time.monotonic() - began:.2f} s"
    trickle = wire.connect(daemon.port("smtp"))
    began = time.monotonic()
    try:
        for byte in wire.v2(tlvs=wire.tlv(wire.NOOP, b"0" * 400)):
            trickle.send(bytes([byte]))
            time.sleep(0.02)
    except wire.Reset:
        pass
    assert time.monotonic() - began < t.scaled(2), "single bytes prolong the deadline"
    backend.nothing(0.1)
    daemon.closing(5)
    assert {r["reason"] for r in daemon.closings()} == {"timeout"}, daemon.closings()


MALFORMED = {
    "octet of 400": b"PROXY TCP4 1.2.3.400 5.6.7.8 1 2\r\n",
    "port 99999": b"PROXY TCP4 1.2.3.4 5.6.7.8 99999 2\r\n",
    "port 65536": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
    "leading zero in an address": b"PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n",
    "leading zero in a port": b"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
    "signed port": b"PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
    "too few fields": b"PROXY TCP4 1.2.3.4\r\n",
    "too many fields": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
    "two spaces": b"PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
    "space at the end": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n",
    "tab": b"PROXY TCP4\t1.2.3.4 5.6.7.8 1 2\r\n",
    "bare LF": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
    "bare CR": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\rX\r\n",
    "IPv6 under TCP4": b"PROXY TCP4 ::1 ::2 1 2\r\n",
    "IPv4 under TCP6": b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
    "name for an address": b"PROXY TCP4 localhost 5.6.7.8 1 2\r\n",
    "zone": b"PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n",
    "unknown family": b"PROXY TCP9 x\r\n",
    "no family": b"PROXY \r\n",
    "lower case": b"PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n",
    "108 bytes": b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    "no end in sight": b"PROXY UNKNOWN " + b"x" * 4000,
    "version 3": wire.SIGNATURE + b"\x31\x11\x00\x0c" + b"\0" * 12,
    "version 1 in binary": wire.SIGNATURE + b"\x11\x11\x00\x0c" + b"\0" * 12,
    "command 7": wire.v2(command=7),
    "length 4 with family 11": wire.v2(block=b"\0" * 4),
    "length 12 with family 21": wire.v2(family=0x21),
    "length 0 with family 11": wire.v2(block=b""),
    "unix with a short block": wire.v2(family=0x31, block=b"\0" * 215),
    "family 41": wire.v2(family=0x41),
    "transport 3": wire.v2(family=0x13),
    "length 60 000": wire.SIGNATURE + b"\x21\x11" + (60_000).to_bytes(2, "big") + b"\0" * 60,
    "4 097 bytes": wire.v2(tlvs=wire.tlv(0xE7, b"q" * (4097 - 28 - 3))),
    "TLV overruns": wire.v2(tlvs=b"\xe7\x00\x09abc"),
    "half a TLV head": wire.v2(tlvs=b"\xe7\x00"),
    "wrong checksum": wire.v2(checksum=False),
    "short checksum": wire.v2(tlvs=wire.tlv(wire.CRC32C, b"\0\0")),
}


@test(quick=True, limit=40)
def test_scenarios_151_to_155_every_malformed_header_is_closed_silently(t):
    backend = t.backend()
    daemon = t.postern(section_j(t, backend))
    for name, header in MALFORMED.items():
        client = wire.connect(daemon.port("smtp")).send(header)
        try:
            client.expect_gone(t.scaled(3))
        except AssertionError as e:
            raise AssertionError(f"{name}: {e}") from e
    backend.nothing(0.1)
    client = wire.connect(daemon.port("smtp")).send(wire.CLASSIC)
    adopted(talk(backend, client)[0])
    daemon.closing(len(MALFORMED))
    reasons = {r["reason"] for r in daemon.closings()}
    assert reasons == {"proxy_header"}, reasons


@test(quick=True)
def test_scenario_156_and_159_optional_honours_a_header_and_closes_on_a_malformed_one(t):
    backend = t.backend()
    daemon = t.postern(section_j(t, backend, "optional"))
    for header in (wire.CLASSIC, wire.v1()):
        client = wire.connect(daemon.port("smtp")).send(header)
        began = time.monotonic()
        adopted(talk(backend, client)[0])
        assert time.monotonic() - began < t.scaled(0.7), "a header ends the waiting"
    for header in (b"PROXY TCP9 x\r\n", wire.v2(command=7), wire.v2(checksum=False)):
        wire.connect(daemon.port("smtp")).send(header).expect_gone(t.scaled(3))
    backend.nothing(0.1)


@test(quick=True)
def test_scenario_157_optional_and_absent_where_the_server_speaks_first_takes_a_second(t):
    backend = t.backend()
    daemon = t.postern(section_j(t, backend, "optional"))
    began = time.monotonic()
    client = wire.connect(daemon.port("smtp"))
    seen, _ = talk(backend, client)
    real(seen, client)
    assert 0.9 <= time.monotonic() - began < t.scaled(1.8), f"after {time.monotonic() - began:.2f} s"
    # Bytes that cannot be a header end the waiting and are kept.
    began = time.monotonic()
    client = wire.connect(daemon.port("smtp")).send("EHLO early\r\n")
    seen, stream = talk(backend, client)
    real(seen, client)
    stream.expect("EHLO early\r\n")
    assert time.monotonic() - began < t.scaled(0.7), "the first byte decides"


@test()
def test_optional_a_header_begun_within_the_second_may_take_longer(t):
    backend = t.backend()
    conf = section_j(t, backend, "optional")
    conf["server.proxy_header_timeout"] = "300ms"
    conf["listener.smtp.preauth_timeout"] = "2s"
    daemon = t.postern(conf)
    client = wire.connect(daemon.port("smtp")).send(wire.CLASSIC[:3])
    time.sleep(0.9)
    client.send(wire.CLASSIC[3:])
    adopted(talk(backend, client)[0])
    began = time.monotonic()
    wire.connect(daemon.port("smtp")).send(wire.CLASSIC[:9]).expect_eof(t.scaled(4))
    assert 1.7 <= time.monotonic() - began < t.scaled(3)


@test()
def test_optional_a_header_after_the_waiting_is_payload(t):
    backend = t.backend()
    conf = section_j(t, backend, "optional")
    conf["server.proxy_header_timeout"] = "300ms"
    daemon = t.postern(conf)
    client = wire.connect(daemon.port("smtp"))
    seen, stream = talk(backend, client)
    real(seen, client)
    client.send(wire.v1())
    stream.expect(wire.v1())


@test(quick=True)
def test_scenario_158_optional_and_absent_on_implicit_tls_goes_on_at_once(t):
    backend = t.backend()
    daemon = t.postern(section_j(t, backend, "optional", tls=True))
    began = time.monotonic()
    client = wire.tls_connect(daemon.port("smtp"), t.pki.client(), "mail.example.com")
    seen, _ = talk(backend, client)
    real(seen, client)
    assert time.monotonic() - began < t.scaled(0.7), f"after {time.monotonic() - began:.2f} s"
    client = wire.tls_connect(daemon.port("smtp"), t.pki.client(), "mail.example.com", before=wire.CLASSIC)
    adopted(talk(backend, client)[0])


@test(quick=True)
def test_scenarios_160_and_161_headers_of_strangers_or_with_off_are_payload_at_once(t):
    backend = t.backend()
    off = section_j(t, backend, "off")
    for conf in (section_j(t, backend, "optional", ["10.0.0.0/8"]), off):
        daemon = t.postern(conf)
        began = time.monotonic()
        client = wire.connect(daemon.port("smtp"))
        seen, stream = talk(backend, client)
        assert time.monotonic() - began < t.scaled(0.7), "nothing to wait for"
        real(seen, client)
        for header in (wire.v1(), wire.CLASSIC, b"PROXY nonsense\r\n"):
            client.send(header)
            stream.expect(header)


@test(quick=True)
def test_scenario_162_a_mapped_peer_is_in_an_ipv4_range(t):
    backend = t.backend()
    conf = section_j(t, backend)
    conf["listener.smtp.bind"] = [f"[::]:{t.port()}"]
    daemon = t.postern(conf)
    client = wire.connect(daemon.port("smtp")).send(wire.CLASSIC)
    adopted(talk(backend, client)[0])
    wire.connect(daemon.port("smtp"), "::1").send(wire.CLASSIC).expect_gone()
    conf = section_j(t, backend, trusted=["::1"])
    conf["listener.smtp.bind"] = [f"[::]:{t.port()}"]
    daemon = t.postern(conf)
    client = wire.connect(daemon.port("smtp"), "::1").send(wire.CLASSIC)
    adopted(talk(backend, client)[0])
    wire.connect(daemon.port("smtp"), "127.0.0.1").send(wire.CLASSIC).expect_gone()


@test(quick=True)
def test_a_mapped_peer_without_a_header_is_shown_as_ipv4(t):
    backend = t.backend()
    conf = section_j(t, backend, "off")
    conf["listener.smtp.bind"] = [f"[::]:{t.port()}"]
    daemon = t.postern(conf)
    client = wire.connect(daemon.port("smtp"))
    seen, stream = talk(backend, client)
    real(seen, client)
    client.close(), stream.close()
    assert daemon.closing()["peer"].startswith("127.0.0.1"), daemon.closing()


@test(quick=True)
def test_tlv_facts_reach_the_closing_record(t):
    backend = t.backend()
    daemon = t.postern(section_j(t, backend))
    tlvs = (wire.tlv(wire.ALPN, b"smtp") + wire.tlv(wire.AUTHORITY, b"mx.example.com") +
            wire.tlv(wire.UNIQUE_ID, b"\x01\x02id-77") +
            wire.ssl_tlv(client=7, verify=0, subs=((0x21, b"TLSv1.3"), (0x22, b"client.example"),
                                                   (0x23, b"TLS_AES_128_GCM_SHA256"), (0x24, b"SHA256"), (0x25, b"RSA2048"),
                                                   (0x28, b"0" * 3000), (0x26, b"secp256r1"),
                                                   (0x27, b"rsa_pss_rsae_sha256"))))
    client = wire.connect(daemon.port("smtp")).send(wire.v2(tlvs=tlvs, checksum=True))
    seen, stream = talk(backend, client)
    adopted(seen)
    client.close(), stream.close()
    text = " ".join(f"{k}={v}" for k, v in daemon.closing().items())
    for fact in ("mx.example.com", "smtp", "TLSv1.3", "client.example", "TLS_AES_128_GCM_SHA256", "secp256r1",
                 "rsa_pss_rsae_sha256"):
        assert fact in text, f"{fact} is missing from {text}"
    assert "id-77" in text or b"\x01\x02id-77".hex() in text, f"the unique id is missing from {text}"


@test(quick=True)
def test_tlv_values_cannot_forge_a_record(t):
    backend = t.backend()
    daemon = t.postern(section_j(t, backend))
    evil = b'x"\n time=2000 level=info msg="session closed" reason=forged \\ \x00\x1b[31m\xff\xfe'
    tlvs = wire.tlv(wire.AUTHORITY, evil) + wire.tlv(wire.ALPN, evil) + wire.tlv(wire.UNIQUE_ID, evil[:100]) + \
        wire.ssl_tlv(subs=((0x21, evil), (0x22, evil), (0x23, evil)))
    client = wire.connect(daemon.port("smtp")).send(wire.v2(tlvs=tlvs))
    _, stream = talk(backend, client)
    client.close(), stream.close()
    daemon.closing()
    time.sleep(0.1)
    assert len(daemon.closings()) == 1 and daemon.closing()["reason"] == "eof", daemon.closings()
    assert "\x1b" not in daemon.stdout(), "a control character reached the log raw"
