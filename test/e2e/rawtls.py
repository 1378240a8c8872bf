# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS with every record in the test's hands: a client of TLS 1.3 and 1.2 and a server of TLS 1.3 that say
exactly what they are told to, wrong or right. They verify nothing but what they decrypt."""
import hashlib
import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import wire

CHANGE, ALERT, HANDSHAKE, DATA, HEARTBEAT = 20, 21, 22, 23, 24
HELLO, SERVER_HELLO, TICKET, EXTENSIONS, CERTIFICATE, KEY_EXCHANGE = 1, 2, 4, 8, 11, 12
HELLO_DONE, VERIFY, CLIENT_KEY, FINISHED, KEY_UPDATE = 14, 15, 16, 20, 24
X25519, P256, P384, P521 = 29, 23, 24, 25
CURVES = {P256: ec.SECP256R1, P384: ec.SECP384R1, P521: ec.SECP521R1}
RETRY = bytes.fromhex("CF21AD74E59A6111BE1D8C021E65B891C2A211167ABB8C5E079E09E2C8A8339C")
ALERTS = {0: "close_notify", 10: "unexpected_message", 20: "bad_record_mac", 22: "record_overflow",
          40: "handshake_failure", 42: "bad_certificate", 47: "illegal_parameter", 50: "decode_error",
          51: "decrypt_error", 70: "protocol_version", 80: "internal_error", 86: "inappropriate_fallback",
          100: "no_renegotiation", 109: "missing_extension", 110: "unsupported_extension",
          120: "no_application_protocol"}


def sized(data, width=2):
    return len(data).to_bytes(width, "big") + data


def numbers(values):
    return b"".join(v.to_bytes(2, "big") for v in values)


def message(kind, body):
    return bytes([kind]) + sized(body, 3)


def record(kind, payload, version=0x0303):
    return bytes([kind]) + version.to_bytes(2, "big") + sized(payload)


def extension(kind, body):
    return kind.to_bytes(2, "big") + sized(body)


class Key:
    """An ephemeral key of a group: its share, and the secret it makes with another share."""

    def __init__(self, group):
        self.group = group
        self.key = X25519PrivateKey.generate() if group == X25519 else ec.generate_private_key(CURVES[group]())

    @property
    def share(self):
        if self.group == X25519:
            return self.key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return self.key.public_key().public_bytes(serialization.Encoding.X962,
                                                  serialization.PublicFormat.UncompressedPoint)

    def secret(self, share):
        if self.group == X25519:
            return self.key.exchange(X25519PublicKey.from_public_bytes(share))
        return self.key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(CURVES[self.group](), share))


def hello(shares=(), *, versions=(0x0304,), legacy=0x0303, session=bytes(32), suites=(0x1301, 0xc02b, 0xc02f),
          groups=(X25519, P256, P384), signatures=(0x0403, 0x0804, 0x0401), more=b"", random=None):
    """A ClientHello message. shares: (group, bytes); None for versions or shares leaves the extension out."""
    extensions = extension(10, sized(numbers(groups))) + extension(13, sized(numbers(signatures)))
    extensions += extension(11, b"\x01\x00") + extension(45, b"\x01\x01")
    if versions is not None:
        extensions += extension(43, sized(numbers(versions), 1))
    if shares is not None:
        extensions += extension(51, sized(b"".join(g.to_bytes(2, "big") + sized(s) for g, s in shares)))
    body = legacy.to_bytes(2, "big") + (random or os.urandom(32)) + sized(session, 1) + sized(numbers(suites))
    return message(HELLO, body + b"\x01\x00" + sized(extensions + more))


def expand(secret, label, context, size):
    info = size.to_bytes(2, "big") + sized(b"tls13 " + label, 1) + sized(context, 1)
    out, block, i = b"", b"", 1
    while len(out) < size:
        block = hmac.new(secret, block + info + bytes([i]), "sha256").digest()
        out += block
        i += 1
    return out[:size]


def extract(salt, secret):
    return hmac.new(salt, secret, "sha256").digest()


def sha256(data):
    return hashlib.sha256(data).digest()


def prf(secret, label, seed, size):
    seed = label + seed
    out, a = b"", seed
    while len(out) < size:
        a = hmac.new(secret, a, "sha256").digest()
        out += hmac.new(secret, a + seed, "sha256").digest()
    return out[:size]


class Keys:
    """One direction of TLS 1.3."""

    def __init__(self, secret):
        self.secret = secret
        self.aead, self.iv, self.number = AESGCM(expand(secret, b"key", b"", 16)), expand(secret, b"iv", b"", 12), 0

    def nonce(self):
        value = (int.from_bytes(self.iv, "big") ^ self.number).to_bytes(12, "big")
        self.number += 1
        return value

    def seal(self, kind, payload, padding=0):
        inner = payload + bytes([kind]) + bytes(padding)
        header = b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2, "big")
        return header + self.aead.encrypt(self.nonce(), inner, header)

    def open(self, header, payload):
        inner = self.aead.decrypt(self.nonce(), payload, header).rstrip(b"\0")
        return inner[-1], inner[:-1]

    def next(self):
        return Keys(expand(self.secret, b"traffic upd", b"", 32))


class Keys12:
    """One direction of TLS 1.2 with AES-128-GCM."""

    def __init__(self, key, salt):
        self.aead, self.salt, self.number = AESGCM(key), salt, 0

    def seal(self, kind, payload, padding=0):
        explicit = self.number.to_bytes(8, "big")
        data = explicit + bytes([kind, 3, 3]) + sized(payload)[:2]
        self.number += 1
        return record(kind, explicit + self.aead.encrypt(self.salt + explicit, payload, data))

    def open(self, header, payload):
        data = self.number.to_bytes(8, "big") + header[:3] + (len(payload) - 24).to_bytes(2, "big")
        self.number += 1
        return header[0], self.aead.decrypt(self.salt + payload[:8], payload[8:], data)


class Peer:
    """What both roles have: records in and out, in clear until there are keys. `piece`: the most bytes sent at once."""

    def __init__(self, stream, piece=None):
        self.stream, self.piece = stream, piece
        self.sending = self.receiving = None
        self.transcript = b""
        self.messages = b""
        self.seen = []  # (kind, payload) of every record received

    def raw(self, data):
        try:
            for at in range(0, len(data), self.piece or len(data) or 1):
                self.stream.send(data[at:at + (self.piece or len(data))])
        except wire.Reset:
            pass  # closed in the middle of it; why, the records that were received say
        return self

    def send(self, kind, payload, padding=0):
        return self.raw(self.sending.seal(kind, payload, padding) if self.sending else record(kind, payload))

    def receive(self, timeout=None):
        """(kind, payload) of the next record, decrypted; None at the end of the stream."""
        first = self.stream.recv(1, timeout)
        if not first:
            return None
        header = first + self.stream.exactly(4, timeout)
        payload = self.stream.exactly(int.from_bytes(header[3:], "big"), timeout)
        kind = header[0]
        if self.receiving and kind != CHANGE and not (kind == ALERT and isinstance(self.receiving, Keys)):
            try:
                kind, payload = self.receiving.open(header, payload)
            except InvalidTag as e:
                raise AssertionError(f"a record of kind {kind} does not decrypt") from e
        self.seen.append((kind, payload))
        return kind, payload

    def next_message(self, timeout=None):
        """(kind, whole message); the transcript has it then."""
        while len(self.messages) < 4 or len(self.messages) < 4 + int.from_bytes(self.messages[1:4], "big"):
            got = self.receive(timeout)
            assert got, "the stream ended during the handshake"
            kind, payload = got
            assert kind != ALERT, f"alert {ALERTS.get(payload[1], payload[1])}"
            if kind == HANDSHAKE:
                self.messages += payload
        size = 4 + int.from_bytes(self.messages[1:4], "big")
        whole, self.messages = self.messages[:size], self.messages[size:]
        self.transcript += whole
        return whole[0], whole

    def expect(self, kind, timeout=None):
        got, whole = self.next_message(timeout)
        assert got == kind, f"message {got} instead of {kind}"
        return whole

    def data(self, timeout=None):
        """The next piece of application data; tickets and the like are passed over."""
        while got := self.receive(timeout):
            if got[0] == DATA and got[1]:
                return got[1]
            assert got[0] != ALERT, f"alert {ALERTS.get(got[1][1], got[1][1])}"
        return b""

    def ending(self, timeout=None):
        """The names of the alerts until the stream ends; data and messages before them are passed over."""
        names = []
        try:
            while got := self.receive(timeout):
                if got[0] == ALERT:
                    names.append(ALERTS.get(got[1][1], str(got[1][1])))
        except wire.Reset:
            if not names:
                names.append("reset")
        return names


def finished(secret, transcript):
    return message(FINISHED, hmac.new(expand(secret, b"finished", b"", 32), sha256(transcript), "sha256").digest())


class Client13(Peer):
    def __init__(self, stream, group=X25519, piece=None):
        super().__init__(stream, piece)
        self.key = Key(group)
        self.retried = b""

    def hello(self, shares=None, **more):
        """Sends a ClientHello in one record; shares: its own unless told otherwise."""
        whole = hello([(self.key.group, self.key.share)] if shares is None else shares, **more)
        version = 0x0303 if self.transcript else 0x0301  # of a first record alone it may be an older one
        return self.begin(whole).raw(record(HANDSHAKE, whole, version))

    def begin(self, whole):
        self.transcript += whole
        return self

    def answer(self, timeout=None):
        """Reads a ServerHello. True: it is a HelloRetryRequest, and the transcript is made for the next hello."""
        before = self.transcript
        whole = self.expect(SERVER_HELLO, timeout)
        if whole[6:38] == RETRY:
            self.transcript = message(254, sha256(before)) + whole
            return True
        at = 39 + whole[38] + 3 + 2
        share = None
        while at < len(whole):
            kind, size = int.from_bytes(whole[at:at + 2], "big"), int.from_bytes(whole[at + 2:at + 4], "big")
            if kind == 51:
                share = whole[at + 8:at + 4 + size]
            at += 4 + size
        assert share, "no key share in the ServerHello"
        self.derive(self.key.secret(share))
        return False

    def derive(self, shared):
        empty = sha256(b"")
        early = extract(bytes(32), bytes(32))
        self.handshake_secret = extract(expand(early, b"derived", empty, 32), shared)
        now = sha256(self.transcript)
        self.client_secret = expand(self.handshake_secret, b"c hs traffic", now, 32)
        self.server_secret = expand(self.handshake_secret, b"s hs traffic", now, 32)
        self.receiving = Keys(self.server_secret)
        self.handshake_keys = Keys(self.client_secret)

    def flight(self, timeout=None):
        """The rest of the server's flight; from here on our records have handshake keys."""
        for kind in (EXTENSIONS, CERTIFICATE, VERIFY):
            self.expect(kind, timeout)
        expected = finished(self.server_secret, self.transcript)
        assert self.expect(FINISHED, timeout) == expected, "the server's Finished is wrong"
        master = extract(expand(self.handshake_secret, b"derived", sha256(b""), 32), bytes(32))
        now = sha256(self.transcript)
        self.receiving = Keys(expand(master, b"s ap traffic", now, 32))
        self.application_keys = Keys(expand(master, b"c ap traffic", now, 32))
        self.sending = self.handshake_keys
        return self

    def finished(self):
        return finished(self.client_secret, self.transcript)

    def finish(self):
        self.send(HANDSHAKE, self.finished())
        self.sending = self.application_keys
        return self

    def handshake(self, **more):
        self.hello(**more)
        assert not self.answer(), "asked for another share"
        return self.flight().finish()

    def update(self, request=0, parts=None):
        """A KeyUpdate, in one record or in these parts, and the keys after it."""
        whole = message(KEY_UPDATE, bytes([request]))
        for part in parts(whole) if parts else [whole]:
            self.send(HANDSHAKE, part)
        self.sending = self.sending.next()
        return self


class Client12(Peer):
    """ECDHE and AES-128-GCM, without the extended master secret."""

    def __init__(self, stream, group=X25519, piece=None):
        super().__init__(stream, piece)
        self.key, self.random = Key(group), os.urandom(32)

    def hello(self, **more):
        settings = {"shares": None, "versions": None, "suites": (0xc02b, 0xc02f, 0x00ff), "groups": (self.key.group,),
                    "session": b"", "random": self.random, **more}
        whole = hello(**settings)
        self.transcript += whole
        return self.raw(record(HANDSHAKE, whole, 0x0301))

    def flight(self, timeout=None):
        """The server's flight, and the keys that follow from it."""
        answer = self.expect(SERVER_HELLO, timeout)
        assert answer[4:6] == b"\x03\x03", f"version {answer[4:6].hex()}"
        self.server_random = answer[6:38]
        self.expect(CERTIFICATE, timeout)
        exchange = self.expect(KEY_EXCHANGE, timeout)
        self.server_share = exchange[8:8 + exchange[7]]
        self.expect(HELLO_DONE, timeout)
        return self

    def client_key(self, share=None):
        return message(CLIENT_KEY, sized(self.key.share if share is None else share, 1))

    def exchange(self, parts=None):
        """ClientKeyExchange and ChangeCipherSpec."""
        whole = self.client_key()
        self.transcript += whole
        for part in parts(whole) if parts else [whole]:
            self.send(HANDSHAKE, part)
        self.master = prf(self.key.secret(self.server_share), b"master secret", self.random + self.server_random, 48)
        block = prf(self.master, b"key expansion", self.server_random + self.random, 40)
        self.send(CHANGE, b"\x01")
        self.sending, self.pending = Keys12(block[:16], block[32:36]), Keys12(block[16:32], block[36:40])
        return self

    def finished(self):
        return message(FINISHED, prf(self.master, b"client finished", sha256(self.transcript), 12))

    def finish(self):
        self.send(HANDSHAKE, self.finished())
        while got := self.receive():
            assert got[0] != ALERT, f"alert {got[1][1]}"
            if got[0] == CHANGE:
                self.receiving = self.pending
                assert self.receive()[1][0] == FINISHED
                return self
        raise AssertionError("no ChangeCipherSpec")

    def handshake(self, **more):
        return self.hello(**more).flight().exchange().finish()


class Server13(Peer):
    """Enough of a server for a client that offers X25519 and the suite, with an ECDSA P-256 certificate."""

    SUITE = 0x1301

    def __init__(self, stream, pair, piece=None):
        super().__init__(stream, piece)
        self.pair = pair

    def handshake(self):
        whole = self.expect(HELLO)
        session = whole[39:39 + whole[38]]
        at = whole.index(b"\x00\x1d\x00\x20", 39 + len(session)) + 4
        key = Key(X25519)
        body = b"\x03\x03" + os.urandom(32) + sized(session, 1) + self.SUITE.to_bytes(2, "big") + b"\0"
        body += sized(extension(43, b"\x03\x04") + extension(51, b"\x00\x1d" + sized(key.share)))
        self.say(message(SERVER_HELLO, body))
        self.send(CHANGE, b"\x01")
        early = extract(bytes(32), bytes(32))
        secret = extract(expand(early, b"derived", sha256(b""), 32), key.secret(whole[at:at + 32]))
        theirs = expand(secret, b"c hs traffic", sha256(self.transcript), 32)
        ours = expand(secret, b"s hs traffic", sha256(self.transcript), 32)
        self.sending = Keys(ours)
        self.say(message(EXTENSIONS, sized(b"")))
        self.say(message(CERTIFICATE, b"\0" + sized(sized(self.pair.der, 3) + sized(b""), 3)))
        with open(self.pair.key, "rb") as file:
            private = serialization.load_pem_private_key(file.read(), None)
        signed = b" " * 64 + b"TLS 1.3, server CertificateVerify\0" + sha256(self.transcript)
        self.say(message(VERIFY, b"\x04\x03" + sized(private.sign(signed, ec.ECDSA(hashes.SHA256())))))
        self.say(finished(ours, self.transcript))
        master = extract(expand(secret, b"derived", sha256(b""), 32), bytes(32))
        now = sha256(self.transcript)
        self.receiving = Keys(theirs)
        self.expect(FINISHED)
        self.sending, self.receiving = Keys(expand(master, b"s ap traffic", now, 32)), \
            Keys(expand(master, b"c ap traffic", now, 32))
        return self

    def say(self, whole):
        self.transcript += whole
        self.send(HANDSHAKE, whole)

    update = Client13.update
