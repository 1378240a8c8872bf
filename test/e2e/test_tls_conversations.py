# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS as other people's test suites try it: odd but legal hellos are served, everything else is answered by the
right alert, however the bytes are cut. The cases have the intent of tlsfuzzer's, whose package no registry has."""
import os
import re
import subprocess
import threading
import time

import wire
from harness import need, test
from rawtls import (ALERT, CHANGE, DATA, HANDSHAKE, HEARTBEAT, KEY_UPDATE, P256, P384, RETRY, X25519, Client12, Client13,
                    Server13, extension, hello, message, record, sized)
from test_tls_client import NAME, front, s_client

PIECES = (None, 1)  # whole, and byte by byte


def served(client):
    assert client.data() == b"220 relay\r\n"
    client.stream.close()


def clients(daemon, kind=Client13, **more):
    """One client a way of cutting the bytes."""
    for piece in PIECES:
        yield kind(wire.connect(daemon.port("smtp")), piece=piece, **more)


def alerted(name, client, expected, **patience):
    """Exactly one alert, the right one, and then the end of the stream."""
    expected = (expected,) if isinstance(expected, str) else expected
    got = client.ending(**patience)
    assert len(got) == 1 and got[0] in expected, f"{name}: {got or 'no alert'}, expected {expected}"


@test(quick=True)
def test_plain_handshakes_of_the_raw_clients_work(t):
    daemon = front(t, ("main", t.pki.leaf(NAME)))
    for kind in (Client13, Client12):
        for group in (X25519, P256, P384):
            for client in clients(daemon, kind, group=group):
                served(client.handshake())


@test(quick=True)
def test_the_top_bit_of_an_x25519_share_is_masked(t):
    daemon = front(t, ("main", t.pki.leaf(NAME)))
    for client in clients(daemon):
        share = bytearray(client.key.share)
        share[31] |= 0x80
        served(client.handshake(shares=[(X25519, bytes(share))]))
    for client in clients(daemon, Client12):
        client.hello().flight()
        share = bytearray(client.key.share)
        share[31] |= 0x80
        client.client_key = lambda client=client, share=share: message(16, sized(bytes(share), 1))
        served(client.exchange().finish())


SHARES = {
    "x25519 of 31 bytes": (X25519, bytes(31)), "x25519 of 33 bytes": (X25519, bytes([9]) + bytes(32)),
    "x25519 zero": (X25519, bytes(32)), "x25519 one": (X25519, b"\1" + bytes(31)),
    "x25519 zero with the top bit": (X25519, bytes(31) + b"\x80"),
    "x25519 of small order": (X25519, bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")),
    "p-256 off the curve": (P256, b"\4" + b"\1" * 64), "p-256 zero": (P256, b"\4" + bytes(64)),
    "p-256 at infinity": (P256, b"\0"), "p-256 cut": (P256, b"\4" + b"\1" * 63), "p-256 compressed": (P256, b"\2" + b"\1" * 32),
    "p-384 off the curve": (P384, b"\4" + b"\1" * 96), "p-384 cut": (P384, b"\4" + b"\1" * 40),
}


@test(quick=True)
def test_a_bad_key_share_is_an_illegal_parameter(t):
    daemon = front(t, ("main", t.pki.leaf(NAME)))
    for name, (group, share) in SHARES.items():
        for client in clients(daemon):
            client.hello(shares=[(group, share)], groups=(group,))
            alerted(name, client, ("illegal_parameter", "decode_error"))
        for client in clients(daemon, Client12, group=group):
            client.hello().flight()
            client.send(HANDSHAKE, client.client_key(share))
            alerted(f"{name}, TLS 1.2", client, ("illegal_parameter", "decode_error", "handshake_failure"))


@test(quick=True)
def test_more_signature_schemes_and_shares_than_anybody_has_are_served(t):
    daemon = front(t, ("main", t.pki.leaf(NAME)))
    unknown = [0xfe00 + i for i in range(200)]
    for schemes in ([0x0403, *unknown], [*unknown, 0x0403], [*unknown[:100], 0x0403, *unknown[100:]]):
        for client in clients(daemon):
            served(client.handshake(signatures=schemes))
        for client in clients(daemon, Client12):
            served(client.handshake(signatures=schemes))
    for many in (25, 40, 100):
        for client in clients(daemon):
            shares = [(0xfe00 + i, b"x" * 40) for i in range(many)]
            served(client.handshake(shares=[*shares, (X25519, client.key.share)]))
    for client in clients(daemon):
        client.hello(shares=[(0x1000 + i, b"x") for i in range(1500)])
        alerted("1,500 shares", client, ("illegal_parameter", "handshake_failure"))


@test(quick=True)
def test_a_long_hello_is_served_and_a_longer_one_refused_with_an_alert(t):
    daemon = front(t, ("main", t.pki.leaf(NAME)))

    def send(client, whole, size=16000):
        client.begin(whole)
        for at in range(0, len(whole), size):
            client.raw(record(HANDSHAKE, whole[at:at + size], 0x0301))
        return client

    for padding in (8000, 14000):
        for client in clients(daemon):
            served(client.handshake(more=extension(21, bytes(padding))))
        for client in clients(daemon):
            whole = hello([(X25519, client.key.share)], more=extension(21, bytes(padding)))
            send(client, whole, 100)
            assert not client.answer()
            served(client.flight().finish())
    for padding in (17000, 40000, 65000):
        for client in clients(daemon):
            send(client, hello([(X25519, client.key.share)], more=extension(21, bytes(padding)))[:16004])
            alerted(f"a hello of {padding} bytes and more", client, "illegal_parameter")
    for client in clients(daemon):
        client.raw(record(HANDSHAKE, b"\1\0\x40\x40" + bytes(16396), 0x0301)[:5])
        alerted("a record longer than a record", client, "record_overflow")


@test(quick=True)
def test_the_old_version_field_says_nothing_of_tls_13(t):
    daemon = front(t, ("main", t.pki.leaf(NAME)))
    for legacy in (0x0304, 0x0305, 0x03ff, 0x0400, 0x7f12):
        for client in clients(daemon, Client12):
            served(client.handshake(legacy=legacy))
        for client in clients(daemon):
            served(client.handshake(legacy=legacy))
        for client in clients(daemon, Client12):
            served(client.handshake(legacy=legacy, versions=(0x0303,)))
    for legacy in (0x0300, 0x0301, 0x0302):
        for client in clients(daemon, Client12):
            client.hello(legacy=legacy)
            alerted(f"version {legacy:x}", client, "protocol_version")


@test(quick=True)
def test_early_data_of_another_servers_ticket_is_skipped(t):
    """RFC 8446, 4.2.10: also after a HelloRetryRequest; up to a bound."""
    daemon = front(t, ("main", t.pki.leaf(NAME)))
    garbage = record(DATA, b"\x5a" * 200)
    ticket = extension(42, b"") + extension(41, sized(sized(b"T" * 100) + bytes(4)) + sized(sized(b"B" * 32, 1)))
    for change in (b"", record(CHANGE, b"\1")):
        for early in (garbage, garbage * 20, record(DATA, b"\x5a" * 16400), b""):
            for piece in (None, 7):
                client = Client13(wire.connect(daemon.port("smtp")), piece=piece)
                client.hello(more=ticket).raw(change + early)
                assert not client.answer()
                served(client.flight().finish())
                client = Client13(wire.connect(daemon.port("smtp")), piece=piece)
                client.hello(shares=[], more=ticket).raw(change + early)
                assert client.answer(), "no HelloRetryRequest"
                client.hello()
                assert not client.answer()
                served(client.flight().finish())
    for early in (record(DATA, b"\x5a" * 16400) * 2 + garbage, garbage * 300):
        client = Client13(wire.connect(daemon.port("smtp")))
        client.hello(more=ticket)
        assert not client.answer()
        client.flight().raw(early)
        alerted("too much early data", client, ("bad_record_mac", "unexpected_message"))
    for client in clients(daemon):
        client.hello()
        assert not client.answer()
        client.flight().raw(garbage)
        alerted("early data that was not offered", client, "bad_record_mac")
    for client in clients(daemon):
        client.hello(more=extension(42, b"x"))
        alerted("a malformed offer", client, "decode_error")
    client = Client13(wire.connect(daemon.port("smtp")))
    client.hello(more=ticket)
    assert not client.answer()
    client.flight().finish()
    assert client.data() == b"220 relay\r\n"
    client.raw(garbage)
    alerted("garbage after the handshake", client, "bad_record_mac")


@test(quick=True)
def test_after_a_retry_request_the_change_cipher_spec_comes_right_behind_it(t):
    daemon = front(t, ("main", t.pki.leaf(NAME)))
    for client in clients(daemon):
        client.hello(shares=[])
        assert client.answer(), "no HelloRetryRequest"
        assert client.seen[0][1][6:38] == RETRY
        assert client.receive(t.scaled(3)) == (CHANGE, b"\1")
        client.raw(record(CHANGE, b"\1")).hello()
        assert not client.answer()
        served(client.flight().finish())
        assert [kind for kind, _ in client.seen].count(CHANGE) == 1, "it came again"
    for client in clients(daemon):  # a client that is no middlebox's concern gets none
        client.hello(shares=[], session=b"")
        assert client.answer()
        client.hello(session=b"")
        assert not client.answer()
        served(client.flight().finish())
        assert CHANGE not in [kind for kind, _ in client.seen]


@test(quick=True)
def test_a_first_handshake_that_claims_to_renegotiate_is_refused(t):
    daemon = front(t, ("main", t.pki.leaf(NAME)))
    for kind in (Client12, Client13):
        for client in clients(daemon, kind):
            client.hello(more=extension(0xff01, sized(b"0123456789ab", 1)))
            alerted("verify data of no handshake", client, "handshake_failure")
        for body in (b"", b"\1", b"\0\0"):
            for client in clients(daemon, kind):
                client.hello(more=extension(0xff01, body))
                alerted(f"renegotiation_info {body!r}", client, "decode_error")
        for client in clients(daemon, kind):
            served(client.handshake(more=extension(0xff01, b"\0")))


CUTS = {f"{n} and the rest": lambda whole, n=n: [whole[:n], whole[n:]] for n in (1, 2, 3, 4, 5)}
CUTS["single bytes"] = lambda whole: [whole[i:i + 1] for i in range(len(whole))]


@test(quick=True)
def test_handshake_messages_may_be_cut_anywhere_also_in_their_headers(t):
    daemon = front(t, ("main", t.pki.leaf(NAME)))
    for name, cut in CUTS.items():
        for client in clients(daemon):
            client.hello()
            assert not client.answer()
            client.flight()
            for part in cut(client.finished()):
                client.send(HANDSHAKE, part)
            client.sending = client.application_keys
            assert client.data() == b"220 relay\r\n", name
            if name != "5 and the rest":
                client.update(0, cut).update(0)
            client.send(DATA, b"QUIT\r\n")
            assert client.data(), name
        for client in clients(daemon, Client12):
            client.hello().flight().exchange(cut)
            for part in cut(client.finished()):
                client.send(HANDSHAKE, part)
            client.finished = lambda: b""
            served(finish12(client))


def finish12(client):
    """The server's last flight, ours being out."""
    while got := client.receive():
        assert got[0] != ALERT, got
        if got[0] == CHANGE:
            client.receiving = client.pending
            client.receive()
            return client
    raise AssertionError("the stream ended")


@test(quick=True)
def test_nothing_comes_between_the_parts_of_a_message(t):
    daemon = front(t, ("main", t.pki.leaf(NAME)))
    for part in (1, 3, 4, 10):
        for client in clients(daemon):
            client.hello()
            assert not client.answer()
            client.flight()
            client.send(HANDSHAKE, client.finished()[:part]).send(DATA, b"x")
            alerted("data inside a Finished", client, "unexpected_message")
    for part in (1, 4):
        for client in clients(daemon):
            client.handshake()
            assert client.data() == b"220 relay\r\n"
            client.send(HANDSHAKE, message(KEY_UPDATE, b"\0")[:part]).send(DATA, b"x")
            alerted("data inside a KeyUpdate", client, "unexpected_message")
    for client in clients(daemon):  # nothing as long as that is for a server: it is not waited for
        client.handshake()
        assert client.data() == b"220 relay\r\n"
        client.send(HANDSHAKE, message(4, bytes(8000))[:100])
        alerted("the beginning of a long message after the handshake", client, "unexpected_message")
    for client in clients(daemon):
        client.hello()
        assert not client.answer()
        client.flight().send(HANDSHAKE, client.finished() + message(KEY_UPDATE, b"\0"))
        alerted("a message behind the Finished in its record", client, "unexpected_message")
    for client in clients(daemon):
        client.handshake()
        assert client.data() == b"220 relay\r\n"
        client.send(HANDSHAKE, message(KEY_UPDATE, b"\0") * 2)
        alerted("two KeyUpdates in a record", client, "unexpected_message")


BREACHES = {  # in an established conversation of TLS 1.3: (record kind, payload), alerts
    "a KeyUpdate of no bytes": ((HANDSHAKE, message(KEY_UPDATE, b"")), "decode_error"),
    "a KeyUpdate of two bytes": ((HANDSHAKE, message(KEY_UPDATE, b"\0\0")), "decode_error"),
    "a KeyUpdate that asks for 2": ((HANDSHAKE, message(KEY_UPDATE, b"\2")), "illegal_parameter"),
    "a KeyUpdate that asks for 255": ((HANDSHAKE, message(KEY_UPDATE, b"\xff")), "illegal_parameter"),
    "a heartbeat": ((HEARTBEAT, b"\1\0\3abc" + bytes(16)), "unexpected_message"),
    "a record of unknown kind": ((99, b"x"), "unexpected_message"),
    "a record of no kind": ((0, b""), "unexpected_message"),
    "a ChangeCipherSpec under keys": ((CHANGE, b"\1"), "unexpected_message"),
    "a message of unknown kind": ((HANDSHAKE, message(99, b"x")), "unexpected_message"),
    "another ClientHello": ((HANDSHAKE, hello()), "unexpected_message"),
    "a Finished": ((HANDSHAKE, message(20, bytes(32))), "unexpected_message"),
    "a ticket for the server": ((HANDSHAKE, message(4, bytes(40))), "unexpected_message"),
    "an empty handshake record": ((HANDSHAKE, b""), "unexpected_message"),
    "an empty alert": ((ALERT, b""), "unexpected_message"),
    "an alert of one byte": ((ALERT, b"\1"), ("decode_error", "unexpected_message")),
    "a record longer than may be": ((DATA, bytes(16385)), "record_overflow"),
}


@test(quick=True, limit=40)
def test_every_breach_of_an_established_conversation_has_its_alert(t):
    daemon = front(t, ("main", t.pki.leaf(NAME)))
    for name, ((kind, payload), expected) in BREACHES.items():
        for client in clients(daemon):
            client.handshake()
            assert client.data() == b"220 relay\r\n"
            client.send(kind, payload)
            alerted(name, client, expected)
    in_clear = {
        "a heartbeat in clear": record(HEARTBEAT, b"\1\0\3abc" + bytes(16)),
        "an unknown record in clear": record(99, b"x"), "a handshake record in clear": record(HANDSHAKE, b"\x18\0\0\1\0"),
        "a ChangeCipherSpec": record(CHANGE, b"\1"), "a record header of 20,000 bytes": b"\x17\x03\x03\x4e\x20" + bytes(100),
        "an empty handshake record": record(HANDSHAKE, b""), "data too short for a tag": record(DATA, b"x" * 5),
        "data that does not decrypt": record(DATA, b"x" * 40)}
    expected = {"a record header of 20,000 bytes": "record_overflow", "data that does not decrypt": "bad_record_mac",
                "data too short for a tag": ("bad_record_mac", "decode_error")}
    for name, data in in_clear.items():
        for client in clients(daemon):
            client.handshake()
            assert client.data() == b"220 relay\r\n"
            client.raw(data)
            alerted(name, client, expected.get(name, "unexpected_message"))


@test(quick=True, limit=40)
def test_every_breach_of_a_handshake_has_its_alert(t):
    daemon = front(t, ("main", t.pki.leaf(NAME)))
    before = {
        "a heartbeat": (record(HEARTBEAT, b"\1\0\3abc" + bytes(16)), "unexpected_message"),
        "an unknown record": (record(99, b"x"), "unexpected_message"),
        "data": (record(DATA, b"x" * 40), "bad_record_mac"),
        "a record header of 20,000 bytes": (b"\x17\x03\x03\x4e\x20" + bytes(100), "record_overflow"),
        "a ChangeCipherSpec of 2": (record(CHANGE, b"\2"), "unexpected_message"),
        "a ChangeCipherSpec of two bytes": (record(CHANGE, b"\1\1"), "unexpected_message"),
        "an empty ChangeCipherSpec": (record(CHANGE, b""), ("unexpected_message", "record_overflow", "decode_error")),
        "many ChangeCipherSpecs": (record(CHANGE, b"\1") * 40, ("unexpected_message", "illegal_parameter")),
        "a Finished in clear": (record(HANDSHAKE, message(20, bytes(32))), "unexpected_message")}
    for name, (data, expected) in before.items():
        for client in clients(daemon):
            client.hello()
            assert not client.answer()
            client.flight().raw(data)
            alerted(name, client, expected)
    for name, body, expected in (("a wrong Finished", bytes(32), "decrypt_error"), ("a short Finished", bytes(31), "decode_error"),
                                 ("a long Finished", bytes(33), "decode_error")):
        for client in clients(daemon):
            client.hello()
            assert not client.answer()
            client.flight().send(HANDSHAKE, message(20, body))
            alerted(name, client, expected)
    for client in clients(daemon):
        client.hello()
        assert not client.answer()
        client.flight().send(HANDSHAKE, message(KEY_UPDATE, b"\0"))
        alerted("a KeyUpdate before the Finished", client, "unexpected_message")
    for client in clients(daemon):
        client.raw(record(CHANGE, b"\1"))
        alerted("a ChangeCipherSpec before the hello", client, "unexpected_message")
    for client in clients(daemon):
        client.hello(shares=[])
        assert client.answer()
        client.raw(record(DATA, b"x" * 40))
        alerted("data after a HelloRetryRequest", client, "unexpected_message")
    for client in clients(daemon):
        client.hello(shares=[])
        assert client.answer()
        client.hello(shares=[])
        alerted("again no share", client, ("illegal_parameter", "handshake_failure"))


@test(quick=True, limit=40)
def test_every_breach_of_tls_12_has_its_alert_once(t):
    daemon = front(t, ("main", t.pki.leaf(NAME)))
    flights = {
        "no ClientKeyExchange": (record(CHANGE, b"\1"), "unexpected_message"),
        "a Finished instead of a ClientKeyExchange": (record(HANDSHAKE, message(20, bytes(12))), "unexpected_message"),
        "a heartbeat": (record(HEARTBEAT, b"\1\0\3abc" + bytes(16)), "unexpected_message"),
        "an unknown record": (record(99, b"x"), "unexpected_message"),
        "data": (record(DATA, b"x" * 40), "unexpected_message"),
        "a record of 20,000 bytes": (record(HANDSHAKE, bytes(20000)), "record_overflow"),
        "a record of another version": (record(HANDSHAKE, message(16, b"\1\1"), 0x0301), ("protocol_version", "decode_error")),
        "an empty ClientKeyExchange": (record(HANDSHAKE, message(16, b"")), ("decode_error", "handshake_failure")),
        "a ServerHelloDone": (record(HANDSHAKE, message(14, b"")), "unexpected_message")}
    for name, (data, expected) in flights.items():
        for client in clients(daemon, Client12):
            client.hello().flight().raw(data)
            alerted(name, client, expected)
    for data, name, expected in ((record(CHANGE, b"\1"), "a second ChangeCipherSpec", ("unexpected_message", "bad_record_mac")),
                                 (record(HANDSHAKE, bytes(40)), "a Finished that does not decrypt", "bad_record_mac"),
                                 (record(HANDSHAKE, bytes(5)), "a Finished too short for a tag", ("bad_record_mac", "decode_error"))):
        for client in clients(daemon, Client12):
            client.hello().flight().exchange().raw(data)
            alerted(name, client, expected)
    for client in clients(daemon, Client12):
        client.hello().flight().exchange().send(HANDSHAKE, message(20, bytes(12)))
        alerted("a wrong Finished", client, "decrypt_error")
    for name, (kind, payload), expected in (("a heartbeat", (HEARTBEAT, b"\1\0\3abc" + bytes(16)), "unexpected_message"),
                                            ("an unknown record", (99, b"x"), "unexpected_message"),
                                            ("a ChangeCipherSpec", (CHANGE, b"\1"), "unexpected_message"),
                                            ("a KeyUpdate", (HANDSHAKE, message(KEY_UPDATE, b"\0")), "unexpected_message")):
        for client in clients(daemon, Client12):
            client.handshake()
            assert client.data() == b"220 relay\r\n"
            client.send(kind, payload)
            alerted(f"{name} after the handshake", client, expected)
    for data, expected in ((record(DATA, bytes(40)), "bad_record_mac"), (record(HEARTBEAT, bytes(40)), "unexpected_message")):
        for client in clients(daemon, Client12):
            client.handshake()
            assert client.data() == b"220 relay\r\n"
            client.raw(data)
            alerted(f"a record that does not decrypt {data[:1].hex()}", client, expected)


# --- key updates ----------------------------------------------------------------------------------------


@test(quick=True, limit=40)
def test_a_client_that_floods_with_key_updates_is_ended_and_counted(t):
    backend = t.backend().serve(wire.greeter())
    daemon = t.postern(t.base(backend, tls=True))
    endings = 0
    for request in (0, 1):
        for client in clients(daemon):
            client.handshake()
            assert client.data() == b"220 relay\r\n"
            for _ in range(32):  # as many as a second may have
                client.update(request)
                if request:
                    answer(client)
            client.send(DATA, b"still here\r\n")
            assert client.data()
            for _ in range(32):
                client.update(request)
                if request and not answer(client):
                    break
            alerted("33 key updates in a second", client, "unexpected_message")
            endings += 1
    daemon.closing(endings)
    assert {(r["reason"], r.get("fault")) for r in daemon.closings()} == {("error", "key_updates")}, daemon.closings()
    daemon.await_metric("postern_tls_key_update_floods_total", endings, side="client")
    assert daemon.metric("postern_tls_key_update_floods_total", side="backend") == 0


def answer(client):
    """The KeyUpdate that was asked for; False at the alert, which stays to be seen."""
    kind, payload = client.receive()
    if kind == ALERT:
        client.ending = lambda: ["unexpected_message" if payload[1] == 10 else str(payload[1])]
        return False
    assert (kind, payload) == (HANDSHAKE, message(KEY_UPDATE, b"\0")), (kind, payload)
    client.receiving = client.receiving.next()
    return True


@test(quick=True, limit=40)
def test_key_updates_now_and_then_are_no_flood(t):
    backend = t.backend().serve(wire.greeter())
    daemon = t.postern(t.base(backend, tls=True))
    client = Client13(wire.connect(daemon.port("smtp"))).handshake()
    assert client.data() == b"220 relay\r\n"
    began = time.monotonic()
    for round_ in range(4):
        # All at once in one segment: their answers are taken, so they are no debt.
        for _ in range(20):
            client.update(1)
        for _ in range(20):
            assert answer(client)
        client.send(DATA, b"x\r\n")
        assert client.data(), f"in round {round_}, after {time.monotonic() - began:.2f} s"
        time.sleep(1.1)
    client.stream.close()
    daemon.closing()
    assert daemon.closing()["reason"] == "eof", daemon.closings()
    assert daemon.metric("postern_tls_key_update_floods_total", side="client") == 0


@test(quick=True, limit=40)
def test_a_backend_that_floods_with_key_updates_is_ended_and_counted(t):
    backend = t.backend()
    conf = t.base(backend)
    conf["destination.relay"].update(tls_server_name="mx.backend.test", tls_allow_invalid_certs=True)
    conf["destination.relay.protocol.smtp.tls"] = "implicit"
    daemon = t.postern(conf)
    pair, outcome = t.pki.leaf("mx.backend.test"), []

    def serve():
        try:
            server = Server13(backend.accept(), pair).handshake()
            server.send(DATA, b"220 relay\r\n")
            for _ in range(33):
                server.update(0)
            outcome.append(server.ending())
        except Exception as e:  # pylint: disable=broad-except
            outcome.append(e)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    client = wire.connect(daemon.port("smtp")).expect("220 relay\r\n")
    client.expect_gone()
    thread.join(wire.PATIENCE)
    assert outcome == [["unexpected_message"]], outcome
    daemon.closing()
    assert daemon.closing()["fault"] == "backend_key_updates", daemon.closings()
    assert daemon.metric("postern_tls_key_update_floods_total", side="backend") == 1
    assert daemon.metric("postern_tls_key_update_floods_total", side="client") == 0


# --- what is counted, and real clients --------------------------------------------------------------------


@test(quick=True)
def test_failures_of_handshakes_are_counted_by_kind(t):
    daemon = front(t, ("main", t.pki.leaf(NAME)))
    client = Client13(wire.connect(daemon.port("smtp")))
    client.hello(shares=[(P256, b"\4" + b"\1" * 64)], groups=(P256,)).ending()
    client = Client12(wire.connect(daemon.port("smtp")))
    client.hello(legacy=0x0301).ending()
    client = Client12(wire.connect(daemon.port("smtp")))
    client.hello(more=extension(0xff01, sized(b"x" * 12, 1))).ending()
    client = Client13(wire.connect(daemon.port("smtp")))
    client.raw(record(HANDSHAKE, b"\1\0\x60\0" + bytes(16000), 0x0301)).ending()
    daemon.closing(4)
    for result, count in (("protocol", 2), ("version", 1), ("hello_too_large", 1)):
        assert daemon.metric("postern_tls_handshakes_total", side="client", result=result) == count, result
    assert daemon.metric("postern_connections_rejected_total", reason="tls") == 4
    stated = " ".join(r["error"] for r in daemon.closings())
    assert "no point of its curve" in stated and "renegotiation" in stated, stated


@test(quick=True)
def test_openssl_offers_early_data_of_another_servers_ticket_and_is_served(t):
    """A ticket of an OpenSSL server that allows early data, shown to Postern."""
    pair, port = t.pki.leaf(NAME), t.port()
    backend = t.backend().serve(lambda stream: stream.send(b"220 relay\r\n").finish())
    daemon = t.postern(t.base(backend, tls=True))
    server = t.spawn("openssl", "s_server", "-accept", str(port), "-cert", pair.chain, "-key", pair.key, "-early_data",
                     "-max_early_data", "16384", "-tls1_3", stdin=subprocess.PIPE)  # at the end of its input it leaves
    t.await_port(port, process=server)
    session, early = t.file("session.pem", ""), t.file("early", b"e" * 12000)
    first = subprocess.Popen(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_3", "-servername", NAME,
                              "-sess_out", session], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
    t.await_that(lambda: os.path.getsize(session), about="a ticket of OpenSSL's server")
    first.communicate(b"Q\n", timeout=10)
    out = s_client(daemon.port("smtp"), "-tls1_3", "-sess_in", session, "-early_data", early, "-ign_eof")
    assert "Early data was rejected" in out and "220 relay" in out, out[-1500:]


@test(quick=True)
def test_sslscan_sees_both_versions_every_time(t):
    """It puts the same random bytes into the shares of all groups, so that half of them have the top bit set."""
    need("sslscan")
    daemon = front(t, ("main", t.pki.leaf(NAME)))
    for _ in range(8):
        done = subprocess.run(["sslscan", "--no-colour", "--no-heartbleed", f"127.0.0.1:{daemon.port('smtp')}"],
                              capture_output=True, timeout=t.scaled(20), check=False, text=True)
        assert re.search(r"TLSv1\.3 +enabled", done.stdout) and re.search(r"TLSv1\.2 +enabled", done.stdout), done.stdout
